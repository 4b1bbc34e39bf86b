"""A provider in the test's own process that does what it is told, and knows whom it truly took: the ground truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.errors import ProviderDown, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Batch, Capabilities, Deferred, Kind, Outcome, Refused, Unsure

TAKEN = "sux"  # letters of a mood that take the email
WHOLE = ("", "lost", "breaks", "short", "unsure", "down", "later", "busy", "refuses")


@dataclass(frozen=True, slots=True)
class Mood:
    """How one call goes. `letters`, used in turn, are what becomes of its emails:

    s taken, x taken and dropped afterwards, r refused, d put off, u taken and not sure, v not taken and not sure.
    `whole` overrides the answer: lost, breaks and short do all that and lose the answer; unsure, down, later, busy and
    refuses take nothing.
    """

    letters: str = "s"
    whole: str = ""


class Stranger:
    """An account. `idempotent_for` in seconds: a call under a known key is answered with what came of the first."""

    def __init__(self, idempotent_for: float = 0.0, batch: int = 50) -> None:
        self.capabilities = Capabilities(batch=batch, distinct_body=True, idempotent_for=idempotent_for, lookup=True)
        self.moods: list[Mood] = []
        self.calls: list[Batch] = []
        self.taken: defaultdict[int, list[int]] = defaultdict(list)  # lead -> hand-offs, one for every email
        self.dropped: set[int] = set()  # leads whose email was taken, and then not delivered
        self.kept: dict[UUID, tuple[Batch, list[Outcome]]] = {}
        self.clashes: list[int] = []  # hand-offs whose key came with other bytes the second time

    def behave(self, moods: Sequence[Mood]) -> None:
        """Go on like this: one mood a call, the last one from then on."""
        self.moods = list(moods)

    def send(self, batch: Batch) -> list[Outcome]:
        mood = self.moods.pop(0) if len(self.moods) > 1 else self.moods[0] if self.moods else Mood()
        self.calls.append(batch)
        match mood.whole:
            case "unsure":
                raise ProviderUnsure("the connection was reset")
            case "down":
                raise ProviderDown("503")
            case "later":
                raise ProviderDown("429", retry_in=120.0)
            case "busy":
                raise ProviderDown("every connection is busy", retry_in=1.0, passing=True)
            case "refuses":
                raise ProviderRefusesUs("401")
        outcomes = self._answer(batch, mood.letters)
        match mood.whole:
            case "lost":
                raise ProviderUnsure("the answer was lost")
            case "breaks":
                raise ValueError("nonsense")
            case "short":
                return outcomes[:-1]
        return outcomes

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """The truth, of those that it took."""
        taken = [lead_id for lead_id in lead_ids if handoff_id in self.taken[lead_id]]
        return {lead_id: Kind.REFUSED if lead_id in self.dropped else Kind.SENT for lead_id in taken}

    def close(self) -> None:
        """There is nothing to hang up."""

    def _answer(self, batch: Batch, letters: str) -> list[Outcome]:
        if batch.key in self.kept:
            first, truth = self.kept[batch.key]
            if first != batch:
                self.clashes.append(batch.handoff_id)
            return list(truth)
        outcomes, truth = [], []
        for place, letter in enumerate(batch.letters):
            outcome, known = self._take(batch.handoff_id, letter.lead_id, letters[place % len(letters)])
            outcomes.append(outcome)
            truth.append(known)
        if self.capabilities.idempotent_for:
            self.kept[batch.key] = (batch, truth)
        return outcomes

    def _take(self, handoff_id: int, lead_id: int, letter: str) -> tuple[Outcome, Outcome]:
        """What is answered, and what is true."""
        if letter in TAKEN:
            self.taken[lead_id].append(handoff_id)
        match letter:
            case "x":
                self.dropped.add(lead_id)
                return Accepted(f"ref{lead_id}"), Accepted(f"ref{lead_id}")
            case "r":
                return Refused("550 no"), Refused("550 no")
            case "d":
                return Deferred("450 later"), Deferred("450 later")
            case "u":
                return Unsure("no reply to DATA"), Accepted(f"ref{lead_id}")
            case "v":
                return Unsure("no reply to DATA"), Refused("550 no")
        return Accepted(f"ref{lead_id}"), Accepted(f"ref{lead_id}")
