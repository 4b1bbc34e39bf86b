"""Writing down what became of emails: our settle against the old design's insert and update.

Ours is the database's part of sending, by the flows that workers run: claim ranges of 1,000, read their leads; hand
them over (a hand-off for every 50), before their provider is called; settle them (events, hand-offs, counts), after it
answered; then a `bounced` event for every bounce, 50 a commit. Every index is in place. The old design inserts its rows
50 a commit, once they were sent, and then updates the row of every bounce; `old_design_queued` puts them in before it
sends and updates them after, too, as whoever wants to know after a crash. Both on one server, in one run, from
`--streams` threads with a connection each (a worker process has four; the old design a thread for every campaign), with
`--rows` rows of the past on both sides, to the same leads. No provider is asked: each lead is accepted under an id of
36 characters.

rows_per_s is emails by the seconds of settling and of bounces: what is written once an email was sent, on both sides.
safe_rows_per_s counts what is written before it is sent as well: our hand-over, and the insert of old_design_queued.
path_rows_per_s is by all seconds: ours then claims and reads its leads too, which the old design here finds in memory.
The bytes of log are all of the run's, the hand-over's too.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar
from uuid import uuid4

import psycopg

from app.flows import answers, finish, launch, send_range, settle
from app.flows.send_range import Page
from app.mail import Accepted, Kind, Letter
from app.models import event
from app.models.event import Fact
from app.models.handoff import HandOff
from app.runtime import Runtime
from bench import old_design, prefill, sending
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.old_design import Email
from bench.prefill import Tenant

SIZES = {"rows": 2_000_000}
Item = TypeVar("Item")
EVERYBODY = 5_000_000  # a campaign's leads are spread over this many ids
NOWHERE = "sink+http://127.0.0.1:9"  # opened, never called
BOUNCE = {"reason": "550 5.1.1 user unknown"}
PAGE = 1000  # leads of a range
COMMIT_EVERY = 50  # bounces: what a page of webhooks carries
# What writes down what became of an email, and what was written before it was sent. Claiming reads the leads, which the
# old design is spared here, and finishing reads sums.
AFTER = {"settle_seconds", "write_seconds", "bounces_seconds"}
BEFORE = {"hand_over_seconds"}


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be written: by ours as a campaign of the tenant, by the old design as rows."""

    tenant: Tenant
    emails: Sequence[Email]
    bounced: int  # every so many-th email bounces
    streams: int


class Spent:
    """Seconds by phase: `with spent("settle"):`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[f"{phase}_seconds"] += time.perf_counter() - began


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--emails", type=int, default=200_000, help="emails written while measured (default 200,000)")
    parser.add_argument("--streams", type=int, default=1, help="threads that write, on both sides (default 1)")
    parser.add_argument("--days", type=int, default=90, help="days over which the past is spread (default 90)")


def run(args: Namespace) -> Answer:
    """Ours, and the old design twice: a row put in when it was sent, or as queued and updated when it was sent."""
    with server(args.edition, changed={"wal_keep_size": "32GB"}) as house:  # kept: its page images are counted
        work = replace(_prepare(house, rows=args.rows, emails=args.emails, days=args.days), streams=args.streams)
        ours = _ours(house, work)
        old = _theirs(house, work, queued=False)
        queued = _theirs(house, work, queued=True)
    return Answer(
        settings=house.settings
        | {"rows": args.rows, "emails": args.emails, "streams": args.streams, "days": args.days}
        | {"bounced": 1 / work.bounced},
        ours=ours,
        rivals={"old_design": old, "old_design_queued": queued},
        reach={
            "rows_per_s_vs_old_design": reach(12, ours["rows_per_s"] / old["rows_per_s"]),
            "safe_rows_per_s_vs_old_design_queued": reach(12, ours["safe_rows_per_s"] / queued["safe_rows_per_s"]),
            "wal_bytes_per_email_vs_old_design": reach(0.05, ours["wal_bytes_per_email"] / old["wal_bytes_per_email"]),
            "wal_bytes_per_email_vs_old_design_queued": reach(
                0.05, ours["wal_bytes_per_email"] / queued["wal_bytes_per_email"]
            ),
        },
    )


def _prepare(house: Server, *, rows: int, emails: int, days: int) -> Work:
    """The leads, and the same past for both."""
    with psycopg.connect(house.database_url) as conn:
        tenant = prefill.create_tenant(conn)
        say(f"{emails:,} leads")
        prefill.create_leads(conn, tenant, emails, stride=max(EVERYBODY // emails, 1))
        say(f"{rows:,} events of the past, rolled up and compressed where they would be")
        prefill.create_events(conn, tenant, rows, leads=EVERYBODY, days=days)
        sending.catch_up(house)
        say(f"{rows:,} rows of the old design's past, and their indexes")
        old_design.create(conn, rows=rows, leads=EVERYBODY, days=days)
        leads = conn.execute("SELECT id, email FROM lead ORDER BY id").fetchall()
    written = [Email(10**6, tenant.user_id, int(str(i)), str(address), "Five new routes") for i, address in leads]
    return Work(tenant, written, bounced=33, streams=1)


def _ours(house: Server, work: Work) -> Figures:
    say("ours")
    spent = Spent()
    with sending.runtime(house, MILLRACE_LEASE="600") as runtime, ThreadPoolExecutor(work.streams) as streams:
        campaign_id = sending.create_campaign(runtime, work.tenant, NOWHERE)
        launch.launch(runtime, work.tenant.organisation_id, campaign_id)
        accepted = [[Accepted(str(uuid4())) for _ in range(PAGE)] for _ in range(len(work.emails) // PAGE + 1)]
        with Wal(house.database_url) as wal, Watch() as watch:
            with spent("claim"):
                pages = list(_claim_all(runtime))
            with spent("hand_over"):
                handed = list(streams.map(partial(hand_over, runtime), pages))
            with spent("settle"):
                list(streams.map(partial(settle_page, runtime), pages, handed, accepted))
            with spent("finish"):
                finish.try_finish(runtime, campaign_id)
            with spent("bounces"):
                bounced = [email.lead_id for email in work.emails[:: work.bounced]]
                list(streams.map(partial(_append_bounces, runtime, pages[0]), cut(bounced, COMMIT_EVERY)))
    return _figures(work, watch, wal, spent)


def _claim_all(runtime: Runtime) -> Iterator[Page]:
    while (lease := send_range.claim(runtime)) is not None:
        yield send_range.load(runtime, lease)


def hand_over(runtime: Runtime, page: Page) -> Sequence[HandOff]:
    """What `send_range.send` does before it calls, but for composing."""
    handoffs = send_range.hand_over(runtime, page, [Letter(lead.id, lead.email, (), "") for lead in page.leads], [])
    assert handoffs is not None
    return handoffs


def settle_page(runtime: Runtime, page: Page, handoffs: Sequence[HandOff], accepted: Sequence[Accepted]) -> None:
    """What it does once it was answered, but for trying to finish."""
    outcomes = iter(accepted)
    given = [answers.Answer(each, list(islice(outcomes, len(each.lead_ids)))) for each in handoffs]
    settle.settle_page(runtime, page.lease, page.sending, page.source, page.leads, given)


def _append_bounces(runtime: Runtime, page: Page, lead_ids: Sequence[int]) -> None:
    with runtime.db.begin() as conn:
        event.append(conn, page.source, [Fact(lead_id, 1, Kind.BOUNCED, BOUNCE) for lead_id in lead_ids])


def cut(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items, so many at a time."""
    return [items[first : first + size] for first in range(0, len(items), size)]


def _theirs(house: Server, work: Work, *, queued: bool) -> Figures:
    say(f"the old design{', queued first' if queued else ''}")
    spent = Spent()
    emails = [replace(email, message_id=str(uuid4())) for email in work.emails]
    lines: SimpleQueue[old_design.Connection] = SimpleQueue()  # a connection for each stream
    with ExitStack() as opened, ThreadPoolExecutor(work.streams) as streams:
        for _ in range(work.streams):
            lines.put(opened.enter_context(psycopg.connect(house.database_url)))
        with Wal(house.database_url) as wal, Watch() as watch:
            with spent("write"):
                list(streams.map(partial(_write, lines, queued), cut(emails, old_design.COMMIT_EVERY)))
            with spent("bounces"):
                ids = [str(email.message_id) for email in emails[:: work.bounced]]
                list(streams.map(partial(_bounce, lines), ids))
    with psycopg.connect(house.database_url) as conn:
        old_design.vacuum(conn)
    return _figures(work, watch, wal, spent)


def _write(lines: SimpleQueue[old_design.Connection], queued: bool, emails: Sequence[Email]) -> None:
    conn = lines.get()
    try:
        if queued:
            ids = old_design.insert(conn, [replace(email, message_id=None) for email in emails], "queued")
            old_design.mark_sent(conn, ids, [str(email.message_id) for email in emails])
        else:
            old_design.insert(conn, emails, "sent")
    finally:
        lines.put(conn)


def _bounce(lines: SimpleQueue[old_design.Connection], message_id: str) -> None:
    conn = lines.get()
    try:
        old_design.mark_bounced(conn, message_id)
    finally:
        lines.put(conn)


def _figures(work: Work, watch: Watch, wal: Wal, spent: Spent) -> Figures:
    emails = len(work.emails)
    images = wal.read_images()
    after = sum(seconds for phase, seconds in spent.seconds.items() if phase in AFTER)
    before = sum(seconds for phase, seconds in spent.seconds.items() if phase in BEFORE)
    return {
        "rows_per_s": emails / after,
        "safe_rows_per_s": emails / (after + before),
        "path_rows_per_s": emails / watch.seconds,
        "wal_bytes_per_email": wal.bytes / emails,
        "wal_bytes_per_email_without_page_images": (wal.bytes - images) / emails,
        "seconds": watch.seconds,
        **spent.seconds,
    }
