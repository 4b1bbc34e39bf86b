"""Writing down what became of emails: our hand-over and settle against the old design's insert and update.

Ours is the database's part of sending, by the flows that workers run: claim a range of 1,000, read its leads, hand
them over (a hand-off for every 50), settle (events, hand-offs, counts), try to finish; then a `bounced` event for every
bounce, 50 a commit. Every index is in place. The old design inserts its rows 50 a commit, and then updates the row of
every bounce. Both on one server, in one run, over one connection each, with `--rows` rows of the past on both sides, to
the same leads. No provider is asked: each lead is accepted under an id of 36 characters.

rows_per_s is emails by the seconds of what writes (ours: hand over, settle, bounces; theirs: insert, update), and
path_rows_per_s by all seconds: ours then reads its leads too, which the old design here finds in memory.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

import psycopg

from app.flows import answers, finish, launch, send_range, settle
from app.flows.send_range import Page
from app.mail import Accepted, Kind, Letter
from app.models import event
from app.models.event import Fact
from app.runtime import Runtime
from bench import old_design, prefill, sending
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.old_design import Email
from bench.prefill import Tenant

SIZES = {"rows": 2_000_000}
EVERYBODY = 5_000_000  # a campaign's leads are spread over this many ids
NOWHERE = "sink+http://127.0.0.1:9"  # opened, never called
BOUNCE = {"reason": "550 5.1.1 user unknown"}
COMMIT_EVERY = 50  # bounces: what a page of webhooks carries
# What writes an email down. Claiming reads the leads, which the old design is spared here, and finishing reads sums.
WRITING = {"hand_over_seconds", "settle_seconds", "insert_seconds", "sent_seconds", "bounces_seconds"}


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be written: by ours as a campaign of the tenant, by the old design as rows."""

    tenant: Tenant
    emails: Sequence[Email]
    bounced: int  # every so many-th email bounces


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
    parser.add_argument("--days", type=int, default=90, help="days over which the past is spread (default 90)")


def run(args: Namespace) -> Answer:
    """Ours, and the old design twice: a row put in when it was sent, or as queued and updated when it was sent."""
    with server(args.edition, changed={"wal_keep_size": "32GB"}) as house:  # kept: its page images are counted
        work = _prepare(house, rows=args.rows, emails=args.emails, days=args.days)
        ours = _ours(house, work)
        old = _theirs(house, work, queued=False)
        queued = _theirs(house, work, queued=True)
    return Answer(
        settings=house.settings
        | {"rows": args.rows, "emails": args.emails, "days": args.days, "bounced": 1 / work.bounced},
        ours=ours,
        rivals={"old_design": old, "old_design_queued": queued},
        reach={
            "rows_per_s_vs_old_design": reach(12, ours["rows_per_s"] / old["rows_per_s"]),
            "wal_bytes_per_email_vs_old_design": reach(0.05, ours["wal_bytes_per_email"] / old["wal_bytes_per_email"]),
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
    return Work(tenant, written, bounced=33)


def _ours(house: Server, work: Work) -> Figures:
    say("ours")
    spent = Spent()
    with sending.runtime(house, MILLRACE_LEASE="600") as runtime:
        campaign_id = sending.create_campaign(runtime, work.tenant, NOWHERE)
        launch.launch(runtime, work.tenant.organisation_id, campaign_id)
        with Wal(house.database_url) as wal, Watch() as watch:
            last = _send_all(runtime, spent)
            with spent("bounces"):
                _append_bounces(runtime, last, [email.lead_id for email in work.emails[:: work.bounced]])
    return _figures(work, watch, wal, spent)


def _send_all(runtime: Runtime, spent: Spent) -> Page:
    """What `send_range.drain` does, but for composing and calling; the last page."""
    last = None
    while (page := _send_page(runtime, spent)) is not None:
        last = page
    assert last is not None
    return last


def _send_page(runtime: Runtime, spent: Spent) -> Page | None:
    with spent("claim"):
        lease = send_range.claim(runtime)
        page = send_range.load(runtime, lease) if lease else None
    if page is None:
        return None
    letters = [Letter(lead.id, lead.email, (), "") for lead in page.leads]
    with spent("hand_over"):
        handoffs = send_range.hand_over(runtime, page, letters, [])
    assert handoffs is not None
    given = [answers.Answer(each, [Accepted(str(uuid4())) for _ in each.lead_ids]) for each in handoffs]
    with spent("settle"):
        settle.settle_page(runtime, page.lease, page.sending, page.source, page.leads, given)
    with spent("finish"):
        finish.try_finish(runtime, page.sending.campaign_id)
    return page


def _append_bounces(runtime: Runtime, page: Page, lead_ids: Sequence[int]) -> None:
    for first in range(0, len(lead_ids), COMMIT_EVERY):
        facts = [Fact(lead_id, 1, Kind.BOUNCED, BOUNCE) for lead_id in lead_ids[first : first + COMMIT_EVERY]]
        with runtime.db.begin() as conn:
            event.append(conn, page.source, facts)


def _theirs(house: Server, work: Work, *, queued: bool) -> Figures:
    say(f"the old design{', queued first' if queued else ''}")
    spent = Spent()
    emails = [replace(email, message_id=str(uuid4())) for email in work.emails]
    with psycopg.connect(house.database_url) as conn:
        with Wal(house.database_url) as wal, Watch() as watch:
            for first in range(0, len(emails), old_design.COMMIT_EVERY):
                _write(conn, emails[first : first + old_design.COMMIT_EVERY], spent, queued=queued)
            with spent("bounces"):
                for email in emails[:: work.bounced]:
                    old_design.mark_bounced(conn, str(email.message_id))
        old_design.vacuum(conn)
    return _figures(work, watch, wal, spent)


def _write(conn: old_design.Connection, emails: Sequence[Email], spent: Spent, *, queued: bool) -> None:
    if not queued:
        with spent("insert"):
            old_design.insert(conn, emails, "sent")
        return
    with spent("insert"):
        ids = old_design.insert(conn, [replace(email, message_id=None) for email in emails], "queued")
    with spent("sent"):
        old_design.mark_sent(conn, ids, [str(email.message_id) for email in emails])


def _figures(work: Work, watch: Watch, wal: Wal, spent: Spent) -> Figures:
    emails = len(work.emails)
    images = wal.read_images()
    writing = sum(seconds for phase, seconds in spent.seconds.items() if phase in WRITING)
    return {
        "rows_per_s": emails / writing,
        "path_rows_per_s": emails / watch.seconds,
        "wal_bytes_per_email": wal.bytes / emails,
        "wal_bytes_per_email_without_page_images": (wal.bytes - images) / emails,
        "seconds": watch.seconds,
        **spent.seconds,
    }
