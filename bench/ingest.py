"""What providers report, from signed posts to the record: our door and reader against the old design's updates.

Ours: every post is verified and kept, by as many threads as web may have, then read by one thread of a worker, by the
same flows: matched with its hand-offs, told from repeats, proven, recorded, its consequences drawn. A tenth of the
posts come twice. HTTP is left out on both sides. The old design finds the email of each event by the provider's id and
updates its row, by as many threads, and commits; "by_post" commits once for a post, which is kind to it. All on one
server, in one run, with `--rows` rows of the past.
"""

from __future__ import annotations

import random
from argparse import ArgumentParser, Namespace
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import orjson
import psycopg

from app.flows import ingest, pools, take_webhook
from app.models import webhook
from app.providers import standard
from app.runtime import Runtime
from bench import old_design, prefill, sending
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.old_design import Email
from bench.prefill import Tenant

SIZES = {"rows": 2_000_000, "events": 200_000}
SECRET = "whsec_" + b64encode(b"what the bench and the pool share").decode()
POST = 100  # events
CALL = 50  # emails of a hand-off
THREADS = 8
KINDS = ("delivered", "delivered", "delivered", "opened", "opened", "clicked", "bounced", "complained")
WEIGHTS = (40, 30, 20, 20, 8, 4, 2, 0.1)
Event = dict[str, object]

HAND_OFFS = """
INSERT INTO handoff (range_id, campaign_id, pool_id, run, state, key, lead_ids, outcomes, settled_at)
SELECT 0, %(campaign)s, %(pool)s, 1, 'settled', gen_random_uuid(), array_agg(id ORDER BY id),
       repeat('s', count(*)::integer), now()
  FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM lead) AS leads
 GROUP BY (place - 1) / %(size)s
"""
UPDATES = {
    "delivered": "UPDATE email SET status = 'delivered' WHERE provider_message_id = %s",
    "opened": "UPDATE email SET opened_at = now() WHERE provider_message_id = %s",
    "clicked": "UPDATE email SET clicked_at = now() WHERE provider_message_id = %s",
    "bounced": "UPDATE email SET status = 'bounced', bounced_at = now(), error = '550' WHERE provider_message_id = %s",
    "complained": "UPDATE email SET status = 'complained' WHERE provider_message_id = %s",
}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=90, help="days over which the past is spread (default 90)")


def run(args: Namespace) -> Answer:
    """Both designs are told the same events, in the same order."""
    with server(args.edition, changed={"wal_keep_size": "32GB"}) as house, sending.runtime(house) as runtime:
        with psycopg.connect(house.database_url) as conn:
            tenant = prefill.create_tenant(conn)
            leads = max(args.events // 2, POST)
            say(f"{leads:,} emails, handed over; {args.rows:,} events of the past")
            prefill.create_leads(conn, tenant, leads)
            prefill.create_events(conn, tenant, args.rows, days=args.days)
            sending.catch_up(house)
            old_design.create(conn, rows=args.rows, days=args.days)
            token, handoffs = _hand_over(runtime, conn, tenant)
            told = _tell(handoffs, args.events)
        ours = _ours(house, runtime, token, told)
        rivals = _theirs(house, told)
    return Answer(
        settings=house.settings | {"rows": args.rows, "events": args.events, "days": args.days, "post": POST},
        ours=ours,
        rivals=rivals,
        reach={
            "events_per_s": reach(8_000, ours["events_per_s"]),
            "events_per_s_vs_old_design": reach(3, ours["events_per_s"] / rivals["old_design"]["events_per_s"]),
        },
    )


def _hand_over(
    runtime: Runtime, conn: psycopg.Connection[tuple[object, ...]], tenant: Tenant
) -> tuple[str, list[tuple[int, list[int]]]]:
    """The address's token, and every hand-off with its leads."""
    campaign_id = sending.create_campaign(runtime, tenant, "sink+http://127.0.0.1:9")
    with runtime.db.begin() as ours:
        (door,) = webhook.list_doors(ours, tenant.organisation_id).values()
    pools.set_webhook_secret(runtime, tenant.organisation_id, door.pool_id, SECRET)
    conn.execute(HAND_OFFS, {"campaign": campaign_id, "pool": door.pool_id, "size": CALL})
    conn.commit()
    prefill.vacuum(conn, "handoff")
    found = conn.execute("SELECT id, lead_ids FROM handoff ORDER BY id").fetchall()
    return door.token, [(int(str(each)), list(leads)) for each, leads in found]  # type: ignore[call-overload]


def _tell(handoffs: Sequence[tuple[int, list[int]]], events: int) -> list[Event]:
    """Events of emails drawn from all of them: those of one call do not come together."""
    draw = random.Random(1)
    now = datetime.now(UTC).isoformat()
    told: list[Event] = []
    for number, kind in enumerate(draw.choices(KINDS, WEIGHTS, k=events)):
        handoff_id, leads = draw.choice(handoffs)
        event: Event = {"id": f"evt_{number}", "type": kind, "time": now, "handoff": handoff_id}
        told.append(event | {"lead": draw.choice(leads), "ref": f"sink-{number}", "bounce": "hard"})
    return told


def _posts(told: Sequence[Event]) -> Iterator[Sequence[Event]]:
    for first in range(0, len(told), POST):
        yield told[first : first + POST]


def _ours(house: Server, runtime: Runtime, token: str, told: Sequence[Event]) -> Figures:
    say("ours")
    bodies = [orjson.dumps({"events": post}) for post in _posts(told)]
    signed = [(body, standard.sign(f"msg_{number}", body, SECRET)) for number, body in enumerate(bodies)]
    signed += signed[::10]
    with Wal(house.database_url) as wal, Watch() as watch:
        with ThreadPoolExecutor(THREADS) as web:
            list(web.map(lambda post: take_webhook.take(runtime, token, post[1], post[0]), signed))
        kept = watch.elapsed
        while ingest.read_waiting(runtime):
            pass
    with runtime.db.begin() as conn:
        (door,) = webhook.list_doors(conn, 1).values()
    assert (door.set_aside, door.unmatched) == (0, 0)
    return {
        "events_per_s": len(told) / watch.seconds,
        "read_events_per_s": len(told) * 1.1 / (watch.seconds - kept),
        "posts_per_s": len(signed) / kept,
        "wal_bytes_per_event": wal.bytes / len(told),
        "seconds": watch.seconds,
        "python_seconds": watch.cpu_seconds,
    }


def _theirs(house: Server, told: Sequence[Event]) -> dict[str, Figures]:
    """Its emails have been sent before, and are not measured."""
    say("the old design")
    ids = {each["lead"]: str(uuid4()) for each in told}
    emails = [Email(10**6, 1, int(str(lead)), f"lead{lead}@example.com", "News", ref) for lead, ref in ids.items()]
    with psycopg.connect(house.database_url) as conn:
        for first in range(0, len(emails), old_design.COMMIT_EVERY):
            old_design.insert(conn, emails[first : first + old_design.COMMIT_EVERY], "sent")
        old_design.vacuum(conn)
    return {
        "old_design": _updated(house, told, ids, commit_every=1),
        "old_design_by_post": _updated(house, told, ids, commit_every=POST),
    }


def _updated(house: Server, told: Sequence[Event], ids: Mapping[object, str], *, commit_every: int) -> Figures:
    """Each post's in the order of the ids, or two threads would wait for each other."""

    def update(posts: Sequence[Sequence[Event]]) -> None:
        with psycopg.connect(house.database_url) as conn:
            for post in posts:
                for number, each in enumerate(sorted(post, key=lambda event: ids[event["lead"]]), 1):
                    conn.execute(UPDATES[str(each["type"])].encode(), [ids[each["lead"]]], prepare=True)
                    if number % commit_every == 0:
                        conn.commit()
                conn.commit()

    posts = list(_posts(told))
    with Wal(house.database_url) as wal, Watch() as watch, ThreadPoolExecutor(THREADS) as web:
        list(web.map(update, [posts[at::THREADS] for at in range(THREADS)]))
    return {
        "events_per_s": len(told) / watch.seconds,
        "wal_bytes_per_event": wal.bytes / len(told),
        "seconds": watch.seconds,
    }
