"""Reading what providers answered: one outcome a lead, and what is to be written because of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final, NamedTuple

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Deferred, Kind, Outcome, Refused, Unsure
from app.models.event import Fact
from app.models.handoff import LETTERS, HandOff, Settled
from app.models.outbox import Counts, PageLead

# Seconds until leads that a provider put off are due again, by how often it did; the last one goes on.
LATER: Final = (60.0, 300.0, 900.0, 3600.0)
GIVE_UP_AFTER: Final = 24 * 3600.0
# A provider that is down is tried again after this long, where it named no time itself.
DOWN: Final = 30.0
SOONEST: Final = 2.0
LATEST: Final = 24 * 3600.0
SHORT: Final = 500  # characters of a provider's words that an event keeps
NOTHING: Final[Mapping[int, Mapping[int, Kind]]] = {}
_JUST_SENT: Final = (repeat(Kind.SENT), repeat(None), repeat(1))  # kind, detail, weight


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call came to: outcomes, one a lead in order, or the error of the whole call."""

    handoff: HandOff
    result: Sequence[Outcome] | ProviderError


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a pool must stop. `seconds` is the time that the provider named, if any; `person`: until somebody acts."""

    reason: str
    seconds: float | None = None
    person: bool = False


class Wait(NamedTuple):
    """How long leads wait: seconds, after that many attempts; `deferred` where the provider put off just these."""

    seconds: float
    attempts: int
    deferred: bool


@dataclass(slots=True)
class Tally:
    """A page's answers, read: what is to be written."""

    facts: list[Fact] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    kinds: Counter[Kind] = field(default_factory=Counter)
    later: dict[Wait, list[int]] = field(default_factory=dict)
    unsure_calls: int = 0
    calls_not_made: int = 0  # nothing of them left us
    gave_up: int = 0  # leads that failed since their provider put them off for too long
    pause: Pause | None = None

    @property
    def counts(self) -> Counts:
        """As a range counts them."""
        return Counts(
            sent=self.kinds[Kind.SENT],
            refused=self.kinds[Kind.REFUSED],
            failed=self.kinds[Kind.FAILED],
            unknown=self.kinds[Kind.UNKNOWN],
            moved=sum(map(len, self.later.values())),
        )


def read(
    answers: Sequence[Answer],
    leads: Sequence[PageLead],
    attempts: int,
    put_off_for: float,
    evidence: Mapping[int, Mapping[int, Kind]] = NOTHING,
) -> Tally:
    """Turn answers into what is to be written. `attempts` and `put_off_for` (seconds) are the range's so far.

    `evidence`, hand-off -> lead -> SENT or REFUSED: what webhooks said that were quicker than the answers.
    """
    tally = Tally()
    domains = {lead.id: lead.domain_id for lead in leads}
    for said in answers:
        answer = amended(said, evidence[said.handoff.id]) if said.handoff.id in evidence else said
        if isinstance(answer.result, ProviderError):
            _read_error(tally, answer.handoff, answer.result, attempts, domains)
        else:
            whole = isinstance(said.result, ProviderError)
            _read_outcomes(tally, answer.handoff, answer.result, attempts, put_off_for, domains, whole=whole)
    if tally.unsure_calls * 2 > len(answers):  # one lost reply happens; a provider that loses most is left alone
        tally.pause = tally.pause or Pause("Most calls came to no certain answer.")
    return tally


def amended(answer: Answer, told: Mapping[int, Kind]) -> Answer:
    """An answer in the light of webhooks: what they say holds, whatever was said or not said in the call."""
    said = answer.result
    if isinstance(said, ProviderError):
        said = [Unsure(f"Webhooks spoke of other leads of this call, though: {said}")] * len(answer.handoff.lead_ids)
    leads = zip(answer.handoff.lead_ids, said, strict=True)
    return Answer(answer.handoff, [_amended(outcome, told.get(lead_id)) for lead_id, outcome in leads])


def _amended(outcome: Outcome, told: Kind | None) -> Outcome:
    match told, outcome:
        case (Kind.REFUSED, Accepted() | Unsure() | Deferred()):
            return Refused("The provider dropped it: a webhook says so.")
        case (Kind.SENT, Unsure() | Deferred()):
            return Accepted("")
    return outcome


def _read_outcomes(
    tally: Tally,
    handoff: HandOff,
    outcomes: Sequence[Outcome],
    attempts: int,
    put_off_for: float,
    domains: Mapping[int, int],
    *,
    whole: bool,
) -> None:
    if set(map(type, outcomes)) == {Accepted}:  # nearly always, and in a third of the time
        _read_accepted(tally, handoff, outcomes, domains)
        return
    letters, refs = [], []
    for lead_id, outcome in zip(handoff.lead_ids, outcomes, strict=True):
        match outcome:
            case Accepted(ref):
                kind, detail, ref_of = Kind.SENT, None, ref
            case Refused(reason):
                kind, detail, ref_of = Kind.REFUSED, {"reason": plain(reason, SHORT)}, ""
            case Unsure(reason):
                kind, detail, ref_of = Kind.UNKNOWN, {"reason": plain(reason, SHORT)}, ""
            case Deferred(reason, retry_in):
                wait = _wait(retry_in, attempts)
                given_up = put_off_for + wait.seconds > GIVE_UP_AFTER
                kind, detail, ref_of = Kind.FAILED if given_up else Kind.DEFERRED, {"reason": plain(reason, SHORT)}, ""
                tally.gave_up += given_up
                if not given_up:
                    tally.later.setdefault(wait, []).append(lead_id)
        letters.append(LETTERS[kind])
        refs.append(ref_of if ref_of.isprintable() else plain(ref_of, SHORT))
        tally.kinds[kind] += 1
        tally.facts.append(Fact(lead_id, domains[lead_id], kind, detail))
    kept = refs if any(refs) else []
    tally.settled.append(Settled(handoff.id, "".join(letters), kept, lead_ids=handoff.lead_ids, whole=whole))


def _read_accepted(tally: Tally, handoff: HandOff, outcomes: Sequence[Outcome], domains: Mapping[int, int]) -> None:
    refs = [outcome.ref for outcome in outcomes if isinstance(outcome, Accepted)]
    if not "".join(refs).isprintable():
        refs = [plain(ref, SHORT) for ref in refs]
    tally.kinds[Kind.SENT] += len(refs)
    lead_ids = handoff.lead_ids  # the same as Fact(lead_id, domains[lead_id], Kind.SENT) for each, in half the time
    tally.facts += map(Fact._make, zip(lead_ids, map(domains.__getitem__, lead_ids), *_JUST_SENT, strict=False))
    letters = LETTERS[Kind.SENT] * len(refs)
    tally.settled.append(Settled(handoff.id, letters, refs if any(refs) else [], lead_ids=handoff.lead_ids))


def _wait(retry_in: float | None, attempts: int) -> Wait:
    """The schedule, or the time that the provider named, which costs no attempt."""
    if retry_in is None:
        return Wait(LATER[min(attempts, len(LATER) - 1)], attempts + 1, deferred=True)
    return Wait(_bounded(retry_in), attempts, deferred=True)


def _bounded(seconds: float) -> float:
    """What a provider says, within reason: "at once" would be a loop, and "next year" a campaign that never ends."""
    return min(max(seconds, SOONEST), LATEST)


def _read_error(
    tally: Tally, handoff: HandOff, error: ProviderError, attempts: int, domains: Mapping[int, int]
) -> None:
    said = plain(str(error), SHORT)
    match error:
        case ProviderUnsure():
            kind = Kind.UNKNOWN
            tally.unsure_calls += 1
            tally.facts += [Fact(lead_id, domains[lead_id], kind, {"reason": said}) for lead_id in handoff.lead_ids]
        case ProviderDown(retry_in=retry_in, passing=passing):
            kind = Kind.DEFERRED
            seconds = wait_for(error)
            tally.later.setdefault(Wait(seconds, attempts, deferred=False), []).extend(handoff.lead_ids)
            tally.calls_not_made += 1
            if not passing:
                tally.pause = tally.pause or Pause(said, None if retry_in is None else seconds)
        case ProviderRefusesUs():
            kind = Kind.DEFERRED
            tally.calls_not_made += 1
            tally.later.setdefault(Wait(0.0, attempts, deferred=False), []).extend(handoff.lead_ids)
            tally.pause = Pause(said, person=True)
        case _:
            raise error
    tally.kinds[kind] += len(handoff.lead_ids)
    letters = LETTERS[kind] * len(handoff.lead_ids)
    answer = plain(f"{error} {error.raw}".strip(), 4 * SHORT)
    tally.settled.append(Settled(handoff.id, letters, [], answer, handoff.lead_ids, whole=True))


def wait_for(error: ProviderDown) -> float:
    """Seconds until a provider that is down is tried again."""
    return _bounded(DOWN if error.retry_in is None else error.retry_in)


def plain(text: str, longest: int) -> str:
    """A stranger's words as they may be stored: no control characters (PostgreSQL takes no NUL), and not too long."""
    return "".join(character if character.isprintable() else " " for character in text[:longest])
