"""Settling a page: one transaction turns the providers' answers into events, closed hand-offs and counted leads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.errors import LeaseLost, Unavailable
from app.flows import resolve, shape
from app.flows.answers import Answer, Tally, read
from app.mail import Kind
from app.models import alert, event, handoff, limit, outbox, pool, warm_up
from app.models.campaign import Sending
from app.models.event import Source
from app.models.outbox import Lease, PageLead
from app.runtime import Runtime

log = logging.getLogger(__name__)

TRIES: Final = 5  # of a transaction that fails for another reason than that the server is away
SAYING: Final = (Kind.DEFERRED, Kind.REFUSED, Kind.FAILED)  # whose reasons are a receiver's own words, perhaps
LAST_WAIT: Final = 10.0  # seconds that a process which must end waits for the database


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

    def write_unspoken(conn: Connection) -> None:
        """Nearly always no webhook was quicker: two trips to the server less than asking first."""
        tally = read(answers, leads, lease.attempts, lease.put_off_for)
        _write(conn, lease, sending, source, tally, unspoken=True)

    def write(conn: Connection) -> None:
        outbox.lock(conn, [lease.range_id])  # whoever wants this range, or has evidence for it, must lock it first
        evidence = handoff.find_evidence(conn, lease.range_id)
        _write(conn, lease, sending, source, read(answers, leads, lease.attempts, lease.put_off_for, evidence))

    def write_late(conn: Connection) -> None:
        _resolve(conn, lease, sending, read(answers, leads, lease.attempts, lease.put_off_for))

    for attempt in (write_unspoken, write):
        try:
            patiently(runtime, attempt)
        except LeaseLost:  # of the first: perhaps only because a webhook has spoken of one of its calls
            continue
        return
    patiently(runtime, write_late)


def patiently(runtime: Runtime, write: Callable[[Connection], None]) -> None:
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


def _write(
    conn: Connection, lease: Lease, sending: Sending, source: Source, tally: Tally, *, unspoken: bool = False
) -> None:
    """The range is counted first, which locks it: whoever has evidence for its calls wants it first, too."""
    if _nothing_left_us(lease, tally):
        outbox.take_back(conn, lease, 0.0 if tally.pause else max(wait.seconds for wait in tally.later))
        handoff.settle(conn, tally.settled, unspoken=unspoken)
    else:
        outbox.settle(conn, lease, tally.counts)
        handoff.settle(conn, tally.settled, unspoken=unspoken)
        for wait, lead_ids in tally.later.items():
            # what a pool that is broken off did not take waits for it, or goes through the sender's other one at once
            due = wait if tally.pause is None or wait.deferred else wait._replace(seconds=0.0)
            outbox.put_off(conn, lease.range_id, lead_ids, **due._asdict())
        event.append(conn, source, tally.facts)
    never_left = sum(len(lead_ids) for wait, lead_ids in tally.later.items() if not wait.deferred)
    if lease.by_day and never_left:  # their calls were not made: they will count when they are
        limit.give_back(conn, sending.pool_id, dict.fromkeys(lease.by_day, never_left))
    if lease.warm_ups and never_left:
        warm_up.give_back(conn, lease.warm_ups, never_left)
    _tell(conn, lease, sending, tally)


def _tell(conn: Connection, lease: Lease, sending: Sending, tally: Tally) -> None:
    """What receivers' replies bring about, the pool's breaker, and the owner where leads are given up. Last: it locks
    what every page of a pool wants."""
    _shape(conn, sending, tally)
    _tell_pool(conn, lease, sending.pool_id, tally)
    if tally.gave_up:
        reason = "They were put off for a day, and are given up: the reasons are in the list of recipients."
        alert.raise_alert(conn, alert.Kind.GAVE_UP, sending.campaign_id, reason)


def _shape(conn: Connection, sending: Sending, tally: Tally) -> None:
    if any(tally.kinds[kind] for kind in SAYING):
        said = [
            (fact.domain_id, str(fact.detail["reason"])) for fact in tally.facts if fact.kind in SAYING and fact.detail
        ]
        shape.note(conn, sending.organisation_id, sending.pool_id, said)


def _nothing_left_us(lease: Lease, tally: Tally) -> bool:
    """Whether the page can stand as before it was handed over: otherwise a provider that is down for long would shatter
    ranges into ever more rows. One with leads that were skipped cannot: they have their events."""
    called = sum(len(each.lead_ids) for each in tally.settled)
    return tally.calls_not_made == len(tally.settled) > 0 and called == len(lease.lead_ids)


def _tell_pool(conn: Connection, lease: Lease, pool_id: int, tally: Tally) -> None:
    """Open the pool's circuit breaker, or close it again: only a probe can, since an old page may come in late."""
    match tally.pause:
        case None if lease.probe and tally.settled and not tally.calls_not_made:
            pool.revive(conn, pool_id)
        case None if lease.probe:
            pool.end_probe(conn, pool_id)
        case None:
            pass
        case pause if pause.person:
            pool.pause(conn, pool_id, pause.reason)
        case pause:
            pool.break_off(conn, pool_id, pause.reason, pause.seconds, probe=lease.probe)


def _resolve(conn: Connection, lease: Lease, sending: Sending, tally: Tally) -> None:
    """The range was taken away and its calls declared unknown; these are the answers after all."""
    resolved = resolve.resolve(conn, resolve.verdicts_of(tally))
    _tell(conn, lease, sending, tally)
    if resolved:
        log.warning("range %s was answered late: %s leads are known after all", lease.range_id, resolved)
