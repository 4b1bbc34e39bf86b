"""What is asked of the database at the end of every simulated day, through the flows and the questions of the pages."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TypeVar

import orjson
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection

from app.flows import ingest, launch, send_range
from app.mail import Accepted, Kind
from app.models import recipient, report, webhook
from app.runtime import Runtime
from bench import sending
from bench.append import hand_over, settle_page
from bench.harness import Figures, Server, Watch
from bench.plan_week import POST, Account, Day, catch_up
from bench.prefill import Tenant
from bench.webhooks import Door, tell

Given = TypeVar("Given")
NOWHERE = "sink+http://127.0.0.1:9"  # opened, never called
FEW = {"combinator": "and", "rules": [{"field": "attributes.age", "operator": "<=", "value": 19}]}  # two leads in sixty
PAGES = 20  # claimed, at the most
POSTS = 5
ASKS = 20

HANDED_OVER = """
SELECT id, lead_ids FROM handoff
 WHERE campaign_id BETWEEN %s AND %s AND pool_id = %s AND outcomes !~ '[^s]'
 ORDER BY id LIMIT 2000
"""


def ask(house: Server, runtime: Runtime, account: Account, day: Day, seed: int) -> Figures:
    """All of it, in milliseconds: of a page, of a post, the 95th percentile of a question."""
    figures = _send(runtime, account.tenant) | _webhooks(house, runtime, account, day, seed)
    now = datetime.now(UTC)
    # What these questions wrote is summed up, too: a day passes in seconds here, and the last five minutes, which are
    # summed live, would hold what was asked on every day before.
    catch_up(house, runtime, now - timedelta(days=3), now + timedelta(minutes=5))
    with psycopg.connect(house.database_url, autocommit=True) as conn:  # as autovacuum, which has a day for it
        conn.execute("ANALYZE event, outbox, handoff")
    return figures | _report(runtime, account, day)


def read_calls(house: Server, account: Account, day: Day) -> list[tuple[int, list[int]]]:
    """Some of the day's hand-offs, with their leads."""
    with psycopg.connect(house.database_url) as conn:
        values = [day.campaigns.start, day.campaigns.stop - 1, account.pool_id]
        found = conn.execute(HANDED_OVER.encode(), values).fetchall()
    return [(int(str(each)), list(leads)) for each, leads in found]


def door(calls: Sequence[tuple[int, list[int]]]) -> Door:
    """What events are told of; nothing is posted through it."""
    return Door(0, "", ec.generate_private_key(ec.SECP256R1()), calls)


def _send(runtime: Runtime, tenant: Tenant) -> Figures:
    """A campaign from its launch on, page by page. No provider is asked."""
    campaign_id = sending.create_campaign(runtime, tenant, NOWHERE, FEW)
    figures, claims, loads, hands, settles = {}, [], [], [], []
    with Watch() as watch:
        launch.launch(runtime, tenant.organisation_id, campaign_id)
    figures["launch_ms"] = watch.seconds * 1000
    for _ in range(PAGES):
        lease, spent = _timed(lambda: send_range.claim(runtime))
        if lease is None:
            break
        claims.append(spent)
        page, spent = _timed(lambda lease=lease: send_range.load(runtime, lease))  # type: ignore[misc]
        loads.append(spent)
        handoffs, spent = _timed(lambda page=page: hand_over(runtime, page))  # type: ignore[misc]
        hands.append(spent)
        accepted = [Accepted(f"{n:x}") for n in range(len(page.leads))]
        _, spent = _timed(lambda args=(page, handoffs, accepted): settle_page(runtime, *args))  # type: ignore[misc]
        settles.append(spent)
    for name, found in {"claim": claims, "load": loads, "hand_over": hands, "settle": settles}.items():
        figures[f"{name}_ms"] = median(found)
    return figures


def _webhooks(house: Server, runtime: Runtime, account: Account, day: Day, seed: int) -> Figures:
    """Posts about emails of the day, from where they are kept until they are read."""
    calls = read_calls(house, account, day)
    told = tell(door(calls), POSTS * POST, seed=1000 + seed)
    with runtime.db.begin() as conn:
        for first in range(0, len(told), POST):
            webhook.keep(conn, account.pool_id, "", orjson.dumps(told[first : first + POST]))
    _, spent = _timed(lambda: ingest.read_waiting(runtime))
    return {"read_post_ms": spent / POSTS}


def _report(runtime: Runtime, account: Account, day: Day) -> Figures:
    organisation, rng = account.tenant.organisation_id, random.Random(7)
    today = datetime.now(UTC).date()
    campaigns = day.campaigns

    def month(zone: str) -> report.Period:
        return report.period(today - timedelta(days=29), today, zone)

    questions: dict[str, Callable[[Connection], object]] = {
        "campaign": lambda conn: report.sum_campaign(conn, organisation, rng.choice(campaigns)),
        "hours": lambda conn: report.sum_campaign_hours(conn, organisation, rng.choice(campaigns)),
        "domains": lambda conn: report.sum_campaign_domains(conn, organisation, rng.choice(campaigns)),
        "month": lambda conn: report.sum_days(conn, organisation, month("Europe/Berlin")),
        "month_odd_zone": lambda conn: report.sum_days(conn, organisation, month("Asia/Kolkata")),
        "campaigns": lambda conn: report.sum_campaigns(conn, organisation, campaigns[:20]),
        "leads": lambda conn: recipient.find_page(
            conn, organisation, rng.choice(campaigns), after=rng.randrange(10**5)
        ),
        "bounced_leads": lambda conn: recipient.find_page(conn, organisation, rng.choice(campaigns), kind=Kind.BOUNCED),
        "timeline": lambda conn: recipient.find_timeline(conn, organisation, rng.randrange(1, 10**5)),
    }
    with runtime.db.begin() as conn:
        return {f"{name}_ms": _slowest(lambda of=of: of(conn)) for name, of in questions.items()}  # type: ignore[misc]


def _slowest(answer: Callable[[], object]) -> float:
    """The 95th percentile in milliseconds; the first time is not counted: it warms up."""
    answer()
    return sorted(_timed(answer)[1] for _ in range(ASKS))[int(ASKS * 0.95)]


def _timed(act: Callable[[], Given]) -> tuple[Given, float]:
    """What it gives, and its milliseconds."""
    with Watch() as watch:
        given = act()
    return given, watch.seconds * 1000
