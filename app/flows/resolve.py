"""Resolving what is unknown: by late answers, by the same call under its key, by webhooks, by a person or a policy.

All of them write the same: the unknown outcome is taken back, what the lead turned out to be is counted, and nothing is
lost or counted twice, whoever comes second.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from sqlalchemy import Connection

from app.flows.answers import Tally, Wait
from app.mail import Kind
from app.models import addressee, alert, campaign, event, handoff, outbox, unknown
from app.models.event import Fact, Source
from app.models.handoff import AGAIN, COUNTS_AS, LEFT, LETTERS, Standing
from app.models.outbox import Counts

log = logging.getLogger(__name__)

SENT: Final = LETTERS[Kind.SENT]
UNKNOWN: Final = LETTERS[Kind.UNKNOWN]
DEFERRED: Final = LETTERS[Kind.DEFERRED]
FAILED: Final = LETTERS[Kind.FAILED] + LEFT
REFUSED: Final = LETTERS[Kind.REFUSED]
# That an email was taken holds against everything that was only supposed.
SUPPOSED: Final = UNKNOWN + FAILED
# That the provider dropped it is the last word, whichever of the two webhooks comes first.
DROPPABLE: Final = SUPPOSED + SENT
AT_ONCE: Final = Wait(0.0, 0, deferred=False)


class Verdict(NamedTuple):
    """What a lead turns out to be, as a letter of `handoff.outcomes`; `wait` where it stands in a later range."""

    letter: str
    detail: Mapping[str, object] | None = None
    wait: Wait | None = None


class Evidence(NamedTuple):
    """What a webhook says of an email: SENT, or REFUSED where the provider dropped it instead of sending it."""

    handoff_id: int
    lead_id: int
    outcome: Kind


Verdicts = Mapping[int, Mapping[int, Verdict]]  # hand-off -> lead -> verdict


def verdicts_of(tally: Tally) -> Verdicts:
    """What a provider's answers say of the leads that they are certain of."""
    later = {lead_id: wait for wait, lead_ids in tally.later.items() for lead_id in lead_ids}
    details = {fact.lead_id: fact.detail for fact in tally.facts}
    return {
        each.handoff_id: {
            lead_id: Verdict(letter, details.get(lead_id), later.get(lead_id))
            for lead_id, letter in zip(each.lead_ids, each.letters, strict=True)
            if letter != UNKNOWN
        }
        for each in tally.settled
    }


def resolve(conn: Connection, verdicts: Verdicts, *, over: str = UNKNOWN, tries: int = 0) -> int:
    """Give leads the outcomes that they turned out to have, where they still have one of the letters `over`; how many.

    What was put off is left unknown while its call will be made again under its key, for it would be mailed by both;
    and once it was made again, for the repeat may have been taken though the first call was not. Unless the newest
    repeat itself says so (`tries` is its number): its call is never made again then.
    """
    resolved = 0
    for standing in lock(conn, verdicts):
        _alarm_doubles(conn, standing, verdicts[standing.id])
        held = replace(standing, repeats=False, tries=0) if 0 < tries == standing.tries else standing
        resolved += _resolve(conn, held, verdicts[standing.id], over)
    return resolved


def lock(conn: Connection, handoff_ids: Iterable[int]) -> list[Standing]:
    """Lock calls for a change of their letters: their ranges first, as everybody does. Some may be unsettled."""
    ids = list(handoff_ids)
    outbox.lock(conn, handoff.find_ranges(conn, ids))
    return handoff.lock(conn, ids)


def _resolve(conn: Connection, standing: Standing, verdicts: Mapping[int, Verdict], over: str) -> int:
    letters, changed = list(standing.letters), {}
    for place, lead_id in enumerate(standing.lead_ids if standing.letters else ()):
        verdict = verdicts.get(lead_id)
        if verdict is None or letters[place] not in (SUPPOSED if verdict.letter == SENT else over):
            continue
        if standing.repeats and verdict.letter in (DEFERRED, AGAIN):
            continue
        if standing.tries and verdict.letter == DEFERRED:
            continue
        changed[lead_id] = (letters[place], verdict)
        letters[place] = verdict.letter
    if changed:
        handoff.resolve(conn, {standing.id: "".join(letters)})
        _count(conn, standing, changed)
        _record(conn, standing, changed)
        _send_later(conn, standing, changed)
        if UNKNOWN not in letters and not unknown.count(conn, standing.campaign_id).calls:
            alert.clear(conn, alert.Kind.UNKNOWN, standing.campaign_id)
    return len(changed)


Changed = Mapping[int, tuple[str, Verdict]]  # lead -> the letter it had, what it turned out to be


def _count(conn: Connection, standing: Standing, changed: Changed) -> None:
    change: Counter[str] = Counter()
    for before, verdict in changed.values():
        change[COUNTS_AS[before].value] -= 1
        change[COUNTS_AS[verdict.letter].value if verdict.letter in COUNTS_AS else "moved"] += 1
    outbox.recount(conn, standing.range_id, Counts(**change))


def _record(conn: Connection, standing: Standing, changed: Changed) -> None:
    domains = addressee.find_domains(conn, standing.campaign_id, list(changed))
    taken_back, found = [], []
    for lead_id, (before, verdict) in changed.items():
        domain = domains.get(lead_id, 0)
        if COUNTS_AS[before] == COUNTS_AS.get(verdict.letter):
            continue
        taken_back.append(Fact(lead_id, domain, COUNTS_AS[before], None, -1))
        if verdict.letter != AGAIN:
            kind = COUNTS_AS.get(verdict.letter, Kind.DEFERRED)
            found.append(Fact(lead_id, domain, kind, verdict.detail))
    event.append(conn, source_of(conn, standing), taken_back + found)


def source_of(conn: Connection, standing: Standing) -> Source:
    """What the events of a call have in common."""
    sending = campaign.load_sending(conn, standing.campaign_id)
    return Source(
        organisation_id=sending.organisation_id,
        user_id=sending.owner_id,
        campaign_id=standing.campaign_id,
        pool_id=standing.pool_id,
        variant=standing.variant,
        run=standing.run,
        message=sending.is_stream,
    )


def _send_later(conn: Connection, standing: Standing, changed: Changed) -> None:
    later: defaultdict[tuple[Wait, bool, bool], list[int]] = defaultdict(list)
    for lead_id, (before, verdict) in changed.items():
        if verdict.letter in (DEFERRED, AGAIN):
            resent = verdict.letter == AGAIN and before in UNKNOWN + LEFT
            later[verdict.wait or AT_ONCE, resent, before in FAILED].append(lead_id)
    for (wait, resent, later_run), lead_ids in later.items():
        outbox.put_off(conn, standing.range_id, lead_ids, **wait._asdict(), resent=resent, later_run=later_run)
        campaign.reopen(conn, standing.campaign_id, standing.run + later_run)


def use_evidence(conn: Connection, pool_id: int, evidence: Sequence[Evidence]) -> int:
    """Resolve what a pool's webhooks speak of; how many leads were unknown, or given up, and are known now.

    A call that is still under way keeps it until its worker answers, or dies. Hand-offs of other pools are passed over.
    """
    origins = handoff.find_origins(conn, {each.handoff_id for each in evidence})
    telling: defaultdict[int, dict[int, Verdict]] = defaultdict(dict)
    for each in evidence:
        origin = origins.get(each.handoff_id)
        if origin is not None and origin.pool_id == pool_id and _is_open(origin, each.lead_id, each.outcome):
            said = telling[each.handoff_id]
            if each.lead_id not in said or each.outcome is Kind.REFUSED:
                said[each.lead_id] = Verdict(LETTERS[each.outcome], {"reason": "a webhook says so"})
    if not telling:  # nearly always: everything that it spoke of was known already
        return 0
    early: list[tuple[int, int, Kind]] = []
    resolved = 0
    for standing in lock(conn, telling):
        said = telling[standing.id]
        if not standing.letters:
            early += [(standing.id, lead_id, COUNTS_AS[verdict.letter]) for lead_id, verdict in said.items()]
            continue
        _alarm_doubles(conn, standing, said)
        resolved += _resolve(conn, standing, said, DROPPABLE)
    handoff.remember_evidence(conn, early)
    return resolved


def _is_open(origin: handoff.Origin, lead_id: int, outcome: Kind) -> bool:
    """Whether a webhook about this lead of a call tells anything new."""
    if lead_id not in origin.lead_ids:
        return False
    if origin.outcomes is None:
        return True
    letter = origin.outcomes[origin.lead_ids.index(lead_id)]
    return letter != REFUSED and (letter != SENT or outcome is Kind.REFUSED)


def _alarm_doubles(conn: Connection, standing: Standing, said: Mapping[int, Verdict]) -> None:
    """A call took leads that stand in a later range: sent again on purpose, or since the provider had said no."""
    now = dict(zip(standing.lead_ids, standing.letters, strict=False))
    gone = [lead_id for lead_id, verdict in said.items() if verdict.letter == SENT]
    twice = [lead_id for lead_id in gone if now.get(lead_id) in (AGAIN, DEFERRED)]
    if twice:
        message = (
            f"Provider call {standing.id} had taken {len(twice):,} emails that were sent again, or are about to be:"
            f" {', '.join(f'lead {lead_id}' for lead_id in twice[:5])}{' …' if len(twice) > 5 else ''}."
        )
        log.error("campaign %s: %s", standing.campaign_id, message)
        alert.raise_alert(conn, alert.Kind.DOUBLED, standing.campaign_id, message)
