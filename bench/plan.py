"""A week of a great sender in accelerated time: what the tables weigh at its end, and whether anything got slower.

`--emails` a day for `--days` days that end now (a million is a tenth of what docs/scaling.md plans for): campaigns in
the rhythm of a day, 3 % put off and tried again, and six events an email told by webhook within two days, beside its
outcome. They are written as the flows write them, row for row and update for update, by statements that work for an
hour at a time and bring times of their own; events by COPY, those of webhooks 5,000 to a transaction with their keys
and with the posts that told them, kept for three days. At the end of each hour there is a checkpoint and a refresh of
the sums, after each day what the clock tidies; chunks older than seven days are compressed. What was logged as images
of whole pages is told apart: it does not grow with the emails, but is as many pages as changed since a checkpoint.

After each day the flows themselves are asked: a campaign of a thirtieth of the leads is launched, claimed, read, handed
over and settled page by page, posts in SendGrid's format are read, and the reports' questions are put, 20 times each.
`ours` is the last day, `first_day` the first. `old_design` inserts and updates `--rival` emails with the same events
over a past of `--past`. `on_paper` multiplies the last day to ten million emails: it is arithmetic, not measured.
"""

from __future__ import annotations

import random
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

import orjson
import psycopg

from app.runtime import Runtime
from bench import old_design, plan_asks, prefill, sending
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.old_design import Email
from bench.plan_week import PHASES, POST, Account, Day, Week, figures, share
from bench.prefill import Connection
from bench.webhooks import UPDATES, tell

SIZES = {"emails": 1_000_000, "leads": 2_000_000}
PLANNED = 10_000_000  # emails a day
KEPT_DAYS = 400
ACCOUNT = "sendgrid://:SG.bench@127.0.0.1:9?tls=none"
QUESTIONS = (
    *("campaign", "hours", "domains", "month", "month_odd_zone"),
    *("campaigns", "leads", "bounced_leads", "timeline"),
)
OLD_KINDS = {"delivered": 0.96, "open": 4.3, "click": 0.5, "bounce": 0.03}  # what the old design's row can hold

HYPERTABLE = "SELECT table_bytes + toast_bytes, index_bytes FROM hypertable_detailed_size('event')"
TABLE = """
SELECT coalesce(
           (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(%(table)s::regclass)),
           pg_total_relation_size(%(table)s::regclass)
       )
"""
SUMS = {
    "community": "SELECT sum(hypertable_size(format('%I.%I', materialization_hypertable_schema,"
    " materialization_hypertable_name)::regclass)) FROM timescaledb_information.continuous_aggregates",
    "apache": "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
    " WHERE relkind = 'r' AND (relname LIKE 'rollup%' OR relname LIKE 'touched%')",
}
TABLES = ("outbox", "handoff", "first_touch", "webhook_event", "webhook")
SENDER = "SELECT sender.id, pool_id FROM campaign JOIN sender ON sender.id = campaign.sender_id WHERE campaign.id = %s"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=7, help="days that pass (default 7)")
    parser.add_argument(
        "--wal-compression",
        default="off",
        help="PostgreSQL's setting: off, pglz; lz4 and zstd where the server has them",
    )
    parser.add_argument("--rival", type=int, default=20_000, help="emails of the old design (default 20,000)")
    parser.add_argument("--past", type=int, default=1_000_000, help="its rows of the past (default 1,000,000)")


def run(args: Namespace) -> Answer:
    """The days one after the other, what they leave, and the rival at the end."""
    with _house(args) as (house, conn, runtime):
        account = _account(runtime, conn, args.leads)
        week = Week(house, conn, account, args)
        week.prepare()
        days: list[Figures] = []
        for number in range(args.days):
            say(f"day {number + 1} of {args.days}")
            day = week.live(number, runtime)
            days.append(figures(day) | plan_asks.ask(house, runtime, account, day, number))
            week.bodies = _bodies(house, account, day)
        sizes = _sizes(house, conn, args.days, days)
        say("what a week later is compressed")
        seconds = week.compress_all()
        weighed = _weigh_events(conn)
        packed = {"compress_seconds": seconds, "event_bytes_compressed": sum(weighed)}
        ours = days[-1] | sizes | packed
        rival = _old_design(house, args)
    slowest = {name: ours[name] for name in ("claim_ms", "settle_ms", "read_post_ms")}
    return Answer(
        settings=house.settings | {name: getattr(args, name) for name in ("emails", "leads", "days", "rival", "past")},
        ours=ours,
        rivals={"first_day": days[0], "old_design": rival, "on_paper": _on_paper(ours, days, args.emails)},
        reach={name: reach(1.5 * days[0][name], got) for name, got in slowest.items()}
        | {"slowest_question_ms": reach(100.0, max(ours[f"{each}_ms"] for each in QUESTIONS))},
    )


@contextmanager
def _house(args: Namespace) -> Iterator[tuple[Server, Connection, Runtime]]:
    with (
        server(args.edition, changed={"wal_keep_size": "4GB", "wal_compression": args.wal_compression}) as house,
        psycopg.connect(house.database_url) as conn,
        sending.runtime(house, MILLRACE_LEASE="600") as runtime,
    ):
        yield house, conn, runtime


def _account(runtime: Runtime, conn: Connection, leads: int) -> Account:
    say(f"{leads:,} leads")
    tenant = prefill.create_tenant(conn)
    prefill.create_leads(conn, tenant, leads)
    row = conn.execute(SENDER, [sending.create_campaign(runtime, tenant, ACCOUNT)]).fetchone()
    assert row is not None
    conn.commit()
    return Account(tenant, pool_id=int(str(row[1])), sender_id=int(str(row[0])))


def _bodies(house: Server, account: Account, day: Day) -> list[bytes]:
    """Posts as SendGrid's are, about the day's emails: what is kept for three days is of their size."""
    told = tell(plan_asks.door(plan_asks.read_calls(house, account, day)), 8 * POST, seed=day.campaigns.start)
    return [orjson.dumps(told[first : first + POST]) for first in range(0, len(told), POST)]


def _weigh_events(conn: Connection) -> tuple[float, float]:
    """Bytes of the record's rows, and of its indexes."""
    row = conn.execute(HYPERTABLE).fetchone()
    conn.commit()
    assert row is not None
    return float(str(row[0])), float(str(row[1]))


def _sizes(house: Server, conn: Connection, days: int, told: list[Figures]) -> Figures:
    """What the tables weigh at the end, dead rows and all."""
    rows, indexes = _weigh_events(conn)
    sizes = {"event_bytes": rows, "event_index_bytes": indexes}
    for table in TABLES:
        row = conn.execute(TABLE, {"table": table}).fetchone()
        sizes[f"{table}_bytes"] = float(str(row[0] if row else 0))
    row = conn.execute(SUMS[house.edition].encode()).fetchone()
    sizes["sums_bytes"] = float(str(row[0] if row else 0))
    conn.commit()
    emails = sum(day["emails"] for day in told)
    return sizes | {"all_emails": emails, "all_webhook_events": sum(day["webhook_events"] for day in told)}


def _on_paper(ours: Mapping[str, float], days: list[Figures], emails: int) -> Figures:
    """Ten million a day, from what an email of the simulation weighed; gigabytes are 10^9 bytes."""
    week, gb = ours["all_emails"], PLANNED / 1e9
    events = 1 + ours["webhook_events"] / ours["emails"]
    peak = max(share(hour) for hour in range(24)) / 3600
    posts_days = min(len(days), 3)
    rows = ours["wal_bytes_per_email"] - ours["wal_bytes_per_email_page_images"]
    busy = sum(days[-1][f"{phase}_seconds"] for phase in PHASES)
    return {
        "emails": PLANNED,
        "emails_per_s_at_peak": PLANNED * peak,
        "events_per_s_at_peak": PLANNED * peak * events,
        "wal_gb_a_day_without_page_images": rows * gb,
        "wal_mb_per_s_at_peak_without_page_images": rows * PLANNED * peak / 1e6,
        "event_gb_a_day": (ours["event_bytes"] + ours["event_index_bytes"]) / week * gb,
        "event_gb_a_day_compressed": ours["event_bytes_compressed"] / week * gb,
        f"event_gb_of_{KEPT_DAYS}_days": ours["event_bytes_compressed"] / week * gb * KEPT_DAYS,
        "handoff_and_outbox_gb_a_day": (ours["handoff_bytes"] + ours["outbox_bytes"]) / week * gb,
        "webhook_event_gb_of_8_days": ours["webhook_event_bytes"] / week * gb * 8,
        "webhook_gb_of_3_days": ours["webhook_bytes"] / (week / len(days) * posts_days) * gb * 3,
        "sums_gb_a_day": ours["sums_bytes"] / week * gb,
        "database_busy": busy / 86_400 * PLANNED / emails,  # of one connection's time, all day
    }


def _old_design(house: Server, args: Namespace) -> Figures:
    """One row an email, put in 50 a commit and updated by each event, a post's to a commit."""
    say("the old design")
    with psycopg.connect(house.database_url) as conn:
        old_design.create(conn, rows=args.past, leads=args.leads, days=90)
        before = _old_bytes(conn)
        ids = [str(uuid4()) for _ in range(args.rival)]
        emails = [Email(10**6, 1, 1 + n, f"lead{n}@example.com", "News", ref) for n, ref in enumerate(ids)]
        rng = random.Random(7)
        told = [kind for kind, share in OLD_KINDS.items() for _ in range(int(args.rival * share))]
        rng.shuffle(told)
        with Wal(house.database_url) as wal, Watch() as watch:
            for first in range(0, len(emails), old_design.COMMIT_EVERY):
                old_design.insert(conn, emails[first : first + old_design.COMMIT_EVERY], "sent")
            inserted = watch.elapsed
            for number, kind in enumerate(told, 1):
                conn.execute(UPDATES[kind].encode(), [rng.choice(ids)], prepare=True)
                if number % POST == 0:
                    conn.commit()
            conn.commit()
        grown = _old_bytes(conn) - before
    return {
        "emails": args.rival,
        "webhook_events": len(told),
        "wal_bytes_per_email": wal.bytes / args.rival,
        "event_bytes": grown,
        "bytes_per_email": grown / args.rival,
        "webhooks_seconds": watch.seconds - inserted,
        "send_seconds": inserted,
    }


def _old_bytes(conn: Connection) -> float:
    row = conn.execute("SELECT pg_total_relation_size('email')").fetchone()
    conn.commit()
    assert row is not None
    return float(str(row[0]))
