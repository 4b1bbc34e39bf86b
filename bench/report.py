"""Asking for reports: ours from the report views and the record, the old design from its one `email` table.

`--events` events on our side: for every email its outcome, then deliveries, bounces, opens (half by machines) and
clicks. The same number of emails stand in the old design's table. Both are vacuumed and, on our side, rolled up; each
question is asked `--asks` times for other campaigns, users, days or leads, warm, over one connection. *_ms is the
95th of a hundred; with `live_` in front, of a campaign and a day to which 200,000 events of the last two minutes
belong that are not rolled up yet.
"""

from __future__ import annotations

import random
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
from sqlalchemy import Connection

from app.mail import Kind
from app.models import recipient, report
from app.runtime import Runtime
from bench import old_design, prefill, sending
from bench.harness import Answer, Figures, Watch, reach, say, server
from bench.prefill import DOMAINS, PAST_CAMPAIGNS, Tenant

SIZES = {"events": 5_000_000}
CAMPAIGN = 50_000  # leads of each campaign of the past
AN_EMAIL = 2.4  # events, of all kinds
DAYS = 90
LIVE = 200_000

# What webhooks told of the emails that were sent.
HAPPENED = """
INSERT INTO event (time, lead_id, organisation_id, user_id, campaign_id, domain_id, kind, pool_id, machine)
SELECT least(event.time + after * random(), now()), lead_id, organisation_id, user_id, campaign_id, domain_id,
       happened.kind::event_kind, pool_id, happened.machine
  FROM event
  JOIN (VALUES ('delivered', 0.96, interval '1 minute', false), ('bounced', 0.03, '1 minute', false),
               ('opened', 0.18, '2 days', false), ('opened', 0.18, '10 minutes', true),
               ('clicked', 0.03, '2 days', false))
       AS happened (kind, share, after, machine) ON random() < share
 WHERE event.kind = 'sent'
"""
CAMPAIGNS = """
INSERT INTO campaign (id, organisation_id, owner_id, name, state, run, audience, launched_at)
OVERRIDING SYSTEM VALUE
SELECT campaign_id, %(organisation_id)s, %(user_id)s, 'Campaign ' || campaign_id, 'finished', 1, count(*), min(time)
  FROM event GROUP BY campaign_id
"""
RANGES = """
INSERT INTO outbox (campaign_id, run, state, due_at, size, position, sent, first_lead, last_lead, lead_ids)
SELECT campaign_id, 1, 'done', now(), count(*), count(*), count(*), min(lead_id), max(lead_id), array_agg(lead_id)
  FROM (SELECT campaign_id, lead_id, row_number() OVER (PARTITION BY campaign_id ORDER BY lead_id) / 1000 AS slice
          FROM event WHERE kind IN ('sent', 'refused')) AS frozen
 GROUP BY campaign_id, slice
"""
TAIL = """
INSERT INTO event (time, lead_id, organisation_id, user_id, campaign_id, domain_id, kind, pool_id)
SELECT now() - n * interval '2 minutes' / %(rows)s, n, %(organisation_id)s, 1, %(campaign_id)s,
       1 + floor(997 * power(random(), 4))::integer, 'sent', 1
  FROM generate_series(1, %(rows)s) AS n
"""

OLD = {
    "campaign": "SELECT status, count(*), count(opened_at), count(clicked_at) FROM email WHERE campaign_id = %(c)s"
    " GROUP BY status",
    "hours": "SELECT date_trunc('hour', sent_at), status, count(*) FROM email WHERE campaign_id = %(c)s GROUP BY 1, 2",
    "domains": "SELECT split_part(address, '@', 2), count(*), count(opened_at) FROM email WHERE campaign_id = %(c)s"
    " GROUP BY 1 ORDER BY 2 DESC LIMIT 20",
    "yesterday": "SELECT status, count(*), count(opened_at), count(clicked_at) FROM email WHERE user_id = %(u)s"
    " AND sent_at >= %(day)s AND sent_at < %(day)s + interval '1 day' GROUP BY status",
    "month": "SELECT (sent_at AT TIME ZONE 'Europe/Berlin')::date, user_id, count(*), count(opened_at) FROM email"
    " WHERE sent_at >= %(day)s - interval '30 days' AND sent_at < %(day)s GROUP BY 1, 2",
    "month_odd_zone": "SELECT (sent_at AT TIME ZONE 'Asia/Kolkata')::date, user_id, count(*), count(opened_at)"
    " FROM email WHERE sent_at >= %(day)s - interval '30 days' AND sent_at < %(day)s GROUP BY 1, 2",
    "campaigns": "SELECT campaign_id, status, count(*), count(opened_at) FROM email WHERE campaign_id <= %(c)s"
    " AND campaign_id > %(c)s - 20 GROUP BY 1, 2",
    "leads": "SELECT lead_id, address, status, opened_at FROM email WHERE campaign_id = %(c)s ORDER BY lead_id"
    " LIMIT 50 OFFSET %(skip)s",
    "bounced_leads": "SELECT lead_id, address, status, opened_at FROM email WHERE campaign_id = %(c)s"
    " AND status = 'bounced' ORDER BY lead_id LIMIT 50",
    "timeline": "SELECT * FROM email WHERE lead_id = %(lead)s ORDER BY sent_at DESC LIMIT 100",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One question's parameters: the campaign counts from 0."""

    campaign: int
    user: int
    day: datetime
    lead: int
    skip: int


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--asks", type=int, default=40, help="how often each question is asked (default 40)")


def run(args: Namespace) -> Answer:
    """Fills both, asks both, and asks ours again over what is not rolled up yet."""
    emails = round(args.events / AN_EMAIL)
    rng = random.Random(7)
    with server(args.edition) as house, psycopg.connect(house.database_url) as conn, sending.runtime(house) as running:
        tenant = _fill(conn, emails)
        say("rolling up")
        with Watch() as rolling:
            sending.catch_up(house)
        _vacuum_sums(conn)
        ours = {"rolled_up_seconds": round(rolling.seconds, 1)}
        asks = [_ask(rng, emails) for _ in range(args.asks)]
        ours |= _time_ours(running, tenant, asks)
        _add_tail(conn, tenant, emails)
        now = [replace(ask, campaign=(emails - 1) // CAMPAIGN, user=1, day=_midnight()) for ask in asks]
        ours |= {f"live_{name}": value for name, value in _time_ours(running, tenant, now).items()}
        events = _number(conn, "SELECT count(*) FROM event")
        say("filling the old design's table")
        old_design.create(conn, rows=emails, days=DAYS)
        theirs = _time_theirs(conn, asks)
    rolled_up = {name: value for name, value in ours.items() if name.endswith("_ms") and not name.startswith("live_")}
    return Answer(
        settings=house.settings | {"events": events, "emails": emails, "asks": args.asks},
        ours=ours,
        rivals={"old_design": theirs},
        reach={"slowest_question_ms": reach(100.0, max(rolled_up.values()))},
    )


def _fill(conn: psycopg.Connection[tuple[object, ...]], emails: int) -> Tenant:
    say(f"filling the record with {emails:,} emails and what happened to them")
    tenant = prefill.create_tenant(conn)
    conn.execute(
        "INSERT INTO domain (name) SELECT 'mail' || n || '.example.com' FROM generate_series(1, %s) n", [DOMAINS]
    )
    prefill.create_events(conn, tenant, emails, days=DAYS)
    ids = {"organisation_id": tenant.organisation_id, "user_id": tenant.user_id}
    for statement in (HAPPENED, CAMPAIGNS, RANGES):
        conn.execute(statement, ids)
    conn.commit()
    for table in ("event", "campaign", "outbox"):
        prefill.vacuum(conn, table)
    return tenant


def _vacuum_sums(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    """What reports read, as autovacuum leaves it: roll-up tables, or what is below continuous aggregates."""
    tables = conn.execute(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates"
        " UNION ALL SELECT format('%I', relname) FROM pg_class"
        " WHERE relkind = 'r' AND (relname LIKE 'rollup%' OR relname LIKE 'touched%')"
    ).fetchall()
    for (table,) in tables:
        prefill.vacuum(conn, str(table))


def _add_tail(conn: psycopg.Connection[tuple[object, ...]], tenant: Tenant, emails: int) -> None:
    values = {
        "rows": LIVE,
        "organisation_id": tenant.organisation_id,
        "campaign_id": _campaign((emails - 1) // CAMPAIGN),
    }
    conn.execute(TAIL, values)
    conn.commit()


def _campaign(number: int) -> int:
    return PAST_CAMPAIGNS + number


def _ask(rng: random.Random, emails: int) -> Ask:
    return Ask(
        campaign=rng.randrange(max(emails // CAMPAIGN, 1)),
        user=1 + rng.randrange(20),
        day=_midnight() - timedelta(days=rng.randrange(1, DAYS // 2)),
        lead=rng.randrange(1, 5_000_000),
        skip=rng.randrange(CAMPAIGN - 100),
    )


def _midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _time_ours(running: Runtime, tenant: Tenant, asks: list[Ask]) -> Figures:
    organisation = tenant.organisation_id

    def days(ask: Ask, zone: str, last: int) -> report.Period:
        return report.period(ask.day.date() - timedelta(days=last), ask.day.date(), zone)

    questions: dict[str, Callable[[Connection, Ask], object]] = {
        "campaign": lambda conn, ask: report.sum_campaign(conn, organisation, _campaign(ask.campaign)),
        "hours": lambda conn, ask: report.sum_campaign_hours(conn, organisation, _campaign(ask.campaign)),
        "domains": lambda conn, ask: report.sum_campaign_domains(conn, organisation, _campaign(ask.campaign)),
        "yesterday": lambda conn, ask: report.sum_days(conn, organisation, days(ask, "UTC", 0), ask.user),
        "month": lambda conn, ask: report.sum_days(conn, organisation, days(ask, "Europe/Berlin", 29)),
        "month_odd_zone": lambda conn, ask: report.sum_days(conn, organisation, days(ask, "Asia/Kolkata", 29)),
        "campaigns": lambda conn, ask: report.sum_campaigns(
            conn, organisation, [_campaign(n) for n in range(ask.campaign - 19, ask.campaign + 1)]
        ),
        "leads": lambda conn, ask: recipient.find_page(
            conn, organisation, _campaign(ask.campaign), after=ask.skip * 100
        ),
        "bounced_leads": lambda conn, ask: recipient.find_page(
            conn, organisation, _campaign(ask.campaign), kind=Kind.BOUNCED
        ),
        "timeline": lambda conn, ask: recipient.find_timeline(conn, organisation, ask.lead),
    }
    with running.db.begin() as conn:
        return {f"{name}_ms": _slowest(asks, lambda ask, of=of: of(conn, ask)) for name, of in questions.items()}


def _time_theirs(conn: psycopg.Connection[tuple[object, ...]], asks: list[Ask]) -> Figures:
    def values(ask: Ask) -> dict[str, object]:
        return {"c": 1 + ask.campaign, "u": ask.user, "day": ask.day, "lead": ask.lead, "skip": ask.skip}

    say("asking the old design")
    return {
        f"{name}_ms": _slowest(asks, lambda ask, query=query: conn.execute(query, values(ask)).fetchall())
        for name, query in OLD.items()
    }


def _slowest(asks: list[Ask], answer: Callable[[Ask], object]) -> float:
    """The 95th percentile in milliseconds; the first question of all is asked twice, to warm up."""
    answer(asks[0])
    spent = []
    for ask in asks:
        with Watch() as watch:
            answer(ask)
        spent.append(watch.seconds * 1000)
    return round(sorted(spent)[int(len(spent) * 0.95)], 2)


def _number(conn: psycopg.Connection[tuple[object, ...]], query: LiteralString) -> int:
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(str(row[0]))
