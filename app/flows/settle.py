"""Settling a page: one transaction turns the providers' answers into events, closed hand-offs and counted leads."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.errors import LeaseLost, Unavailable
from app.flows.answers import Answer, Tally, read
from app.mail import Kind
from app.models import campaign, event, handoff, outbox
from app.models.campaign import Sending
from app.models.event import Source
from app.models.handoff import LETTERS, Settled
from app.models.outbox import Counts, Lease, PageLead
from app.runtime import Runtime

log = logging.getLogger(__name__)

TRIES: Final = 5  # of a transaction that fails for another reason than that the server is away
LAST_WAIT: Final = 10.0  # seconds that a process which must end waits for the database
# What a late answer settles: the lead went, or never will.
RESOLVES: Final = frozenset({Kind.SENT, Kind.REFUSED, Kind.FAILED})


def settle_page(
    runtime: Runtime,
    lease: Lease,
    sending: Sending,
    source: Source,
    leads: Sequence[PageLead],
    answers: Sequence[Answer],
) -> None:
    """Write what came of a page. One that was rescued meanwhile, as unknown, is resolved by these answers.

    Raises only where the database refuses, or stays away while the process must end: the page is unknown then.
    """
    tally = read(answers, leads, lease.attempts, lease.put_off_for)
    try:
        _patiently(runtime, lambda conn: _write(conn, lease, sending, source, tally))
    except LeaseLost:
        _patiently(runtime, lambda conn: _resolve(conn, lease, source, tally))


def _patiently(runtime: Runtime, write: Callable[[Connection], None]) -> None:
    """Run a transaction until it commits. One whose reply was lost is tried again: fence and states let it happen once.

    Raises LeaseLost, and at last what else it cannot get around.
    """
    wait, tries, began = 0.2, 0, time.monotonic()
    while True:
        try:
            with runtime.db.begin() as conn:
                write(conn)
            return
        except Unavailable as error:
            trouble: Exception = error
        except (DBAPIError, psycopg.Error) as error:  # a deadlock, a timeout, a server that was demoted: not for long
            tries += 1
            trouble = error
        log.warning("a page cannot be settled yet: %s", trouble)
        if tries >= TRIES or (runtime.stopping.is_set() and time.monotonic() - began > LAST_WAIT):
            raise trouble
        time.sleep(wait)
        wait = min(wait * 2, 5.0)


def _write(conn: Connection, lease: Lease, sending: Sending, source: Source, tally: Tally) -> None:
    outbox.settle(conn, lease, tally.counts)  # first: it holds the row that everybody who wants this range must lock
    handoff.settle(conn, tally.settled)
    for wait, lead_ids in tally.later.items():
        outbox.put_off(conn, lease, lead_ids, **wait._asdict())
    event.append(conn, source, tally.facts)
    if tally.pause is not None:
        campaign.pause_pool(conn, sending.pool_id, *tally.pause)
    elif tally.kinds[Kind.SENT]:
        campaign.revive_pool(conn, sending.pool_id)


def _resolve(conn: Connection, lease: Lease, source: Source, tally: Tally) -> None:
    """The range was taken away and its calls declared unknown; these are the answers after all.

    Nothing else is touched: what the provider put off stays unknown, for a person to send again.
    """
    late = [
        Settled(each.handoff_id, each.letters.replace(LETTERS[Kind.DEFERRED], LETTERS[Kind.UNKNOWN]), each.refs)
        for each in tally.settled
    ]
    resolved = handoff.resolve(conn, late)
    known = {lead_id for each in tally.settled if each.handoff_id in resolved for lead_id in each.lead_ids}
    facts = [fact for fact in tally.facts if fact.lead_id in known and fact.kind in RESOLVES]
    kinds = Counter(fact.kind for fact in facts)
    outbox.resolve(conn, lease.range_id, Counts(kinds[Kind.SENT], kinds[Kind.REFUSED], kinds[Kind.FAILED]))
    event.append(conn, source, [fact._replace(kind=Kind.UNKNOWN, detail=None, weight=-1) for fact in facts])
    event.append(conn, source, facts)
    if facts:
        log.warning("range %s was answered late: %s leads are known after all", lease.range_id, len(facts))
