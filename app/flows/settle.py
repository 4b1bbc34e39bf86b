"""Settling a page: one transaction turns the providers' answers into events, closed hand-offs and counted leads."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure, Unavailable
from app.mail import Accepted, Deferred, Kind, Outcome, Refused, Unsure
from app.models import campaign, event, handoff, outbox
from app.models.campaign import Sending
from app.models.event import Fact, Source
from app.models.handoff import LETTERS, HandOff, Settled
from app.models.outbox import Counts, Lease, PageLead
from app.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds until leads that a provider put off are due again, by how often it did; the last one goes on.
LATER: Final = (60.0, 300.0, 900.0, 3600.0)
GIVE_UP_AFTER: Final = 24 * 3600.0
# A provider that is down is tried again after this long, where it named no time itself.
DOWN: Final = 30.0
# Shorter waits (all SMTP connections are busy) put off their own leads, and are no reason to stop the pool.
PASSING: Final = 1.0
_DETAIL: Final = 500  # characters of a provider's answer that an event keeps


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call came to: outcomes, one a lead in order, or the error of the whole call."""

    handoff: HandOff
    result: Sequence[Outcome] | ProviderError


@dataclass(slots=True)
class Tally:
    """A page's answers, read: what is to be written."""

    facts: list[Fact] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    kinds: Counter[Kind] = field(default_factory=Counter)
    later: dict[tuple[float, int], list[int]] = field(default_factory=dict)  # (seconds, attempts) -> lead ids
    pause: tuple[str, float | None] | None = None  # reason, seconds


def settle_page(
    runtime: Runtime,
    lease: Lease,
    sending: Sending,
    source: Source,
    leads: Sequence[PageLead],
    answers: Sequence[Answer],
) -> None:
    """Write what came of a page. Raises LeaseLost where somebody else has answered for it.

    A commit whose reply was lost is found out by trying again: the fence and the hand-offs' states let it happen once.
    """
    wait = 0.2
    while True:
        try:
            with runtime.db.begin() as conn:
                since = outbox.put_off_for(conn, lease.range_id) if lease.attempts else 0.0
                _write(conn, lease, sending, source, read(answers, leads, lease.attempts, since))
            return
        except Unavailable:
            log.warning("the database is away; range %s is settled when it is back", lease.range_id)
            if runtime.stopping.wait(wait):
                raise
            wait = min(wait * 2, 5.0)


def _write(conn: Connection, lease: Lease, sending: Sending, source: Source, tally: Tally) -> None:
    kinds = tally.kinds
    counts = Counts(
        sent=kinds[Kind.SENT],
        refused=kinds[Kind.REFUSED],
        failed=kinds[Kind.FAILED],
        unknown=kinds[Kind.UNKNOWN],
        moved=sum(map(len, tally.later.values())),
    )
    outbox.settle(conn, lease, counts)  # first: it holds the row that everybody who wants this range must lock
    handoff.settle(conn, tally.settled)
    for (seconds, attempts), lead_ids in tally.later.items():
        outbox.put_off(conn, lease, lead_ids, seconds, attempts)
    event.append(conn, source, tally.facts)
    if tally.pause is not None:
        campaign.pause_pool(conn, sending.pool_id, *tally.pause)
    elif kinds[Kind.SENT]:
        campaign.revive_pool(conn, sending.pool_id)


def read(answers: Sequence[Answer], leads: Sequence[PageLead], attempts: int, put_off_for: float) -> Tally:
    """Turn answers into what is to be written. `attempts` and `put_off_for` (seconds) are the range's so far."""
    tally = Tally()
    domains = {lead.id: lead.domain_id for lead in leads}
    for answer in answers:
        if isinstance(answer.result, ProviderError):
            _read_error(tally, answer.handoff, answer.result, attempts, domains)
        else:
            _read_outcomes(tally, answer.handoff, answer.result, attempts, put_off_for, domains)
    return tally


def _read_outcomes(
    tally: Tally,
    handoff: HandOff,
    outcomes: Sequence[Outcome],
    attempts: int,
    put_off_for: float,
    domains: Mapping[int, int],
) -> None:
    letters, refs = [], []
    for lead_id, outcome in zip(handoff.lead_ids, outcomes, strict=True):
        match outcome:
            case Accepted(ref):
                kind, detail, ref_of = Kind.SENT, None, ref
            case Refused(reason):
                kind, detail, ref_of = Kind.REFUSED, {"reason": reason[:_DETAIL]}, ""
            case Unsure(reason):
                kind, detail, ref_of = Kind.UNKNOWN, {"reason": reason[:_DETAIL]}, ""
            case Deferred(reason, retry_in):
                seconds = LATER[min(attempts, len(LATER) - 1)] if retry_in is None else retry_in
                given_up = put_off_for + seconds > GIVE_UP_AFTER
                kind, detail, ref_of = Kind.FAILED if given_up else Kind.DEFERRED, {"reason": reason[:_DETAIL]}, ""
                if not given_up:
                    cost = 1 if retry_in is None else 0
                    tally.later.setdefault((seconds, attempts + cost), []).append(lead_id)
        letters.append(LETTERS[kind])
        refs.append(ref_of)
        tally.kinds[kind] += 1
        tally.facts.append(Fact(lead_id, domains[lead_id], kind, detail))
    tally.settled.append(Settled(handoff.id, "".join(letters), refs if any(refs) else []))


def _read_error(
    tally: Tally, handoff: HandOff, error: ProviderError, attempts: int, domains: Mapping[int, int]
) -> None:
    answer = f"{error} {error.raw}".strip()[: 4 * _DETAIL]
    match error:
        case ProviderUnsure():
            kind = Kind.UNKNOWN
            detail = {"reason": str(error)[:_DETAIL]}
            tally.facts += [Fact(lead_id, domains[lead_id], kind, detail) for lead_id in handoff.lead_ids]
        case ProviderDown(retry_in=retry_in):
            kind = Kind.DEFERRED
            seconds = DOWN if retry_in is None else retry_in
            tally.later.setdefault((seconds, attempts), []).extend(handoff.lead_ids)
            if seconds > PASSING:
                tally.pause = tally.pause or (str(error), seconds)
        case ProviderRefusesUs():
            kind = Kind.DEFERRED
            tally.later.setdefault((0.0, attempts), []).extend(handoff.lead_ids)
            tally.pause = (str(error), None)
        case _:
            raise error
    tally.kinds[kind] += len(handoff.lead_ids)
    tally.settled.append(Settled(handoff.id, LETTERS[kind] * len(handoff.lead_ids), [], answer))
