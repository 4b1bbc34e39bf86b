"""The words shared with providers: what is to be sent, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Parts:
    """A compiled text: `static` has one piece more than `slots`; slot numbers index a letter's values."""

    static: tuple[str, ...]
    slots: tuple[int, ...]

    def fill(self, values: Sequence[str]) -> str:
        """The text for one lead. Values are strings that were escaped for this place already; never raises."""
        pieces = [""] * (2 * len(self.slots) + 1)
        pieces[0::2] = self.static
        pieces[1::2] = [values[slot] for slot in self.slots]
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Content:
    """What a campaign says, ready to be filled. Where no body per recipient can be sent, slots become variables."""

    version: int
    subject: Parts
    html: Parts
    text: Parts


class Letter(NamedTuple):  # one is made for every email: a frozen dataclass takes three times as long
    """One email of a batch: `values` are the slots' strings; `unsubscribe_url` is for List-Unsubscribe (RFC 8058)."""

    lead_id: int
    address: str
    values: Sequence[str]
    unsubscribe_url: str


@dataclass(frozen=True, slots=True)
class Batch:
    """One provider call: a hand-off and its letters. `key` is its idempotency key; the ids travel as metadata.

    `receiver`: all letters go to this one, which has a limit of its own (app/models/receiver.py); "": to anybody.
    `halving` is called once the whole was refused, before a part of it leaves; where it raises ProviderDown, none does.
    """

    handoff_id: int
    key: UUID
    campaign_id: int
    run: int
    from_name: str
    from_address: str
    reply_to: str | None
    content: Content
    letters: Sequence[Letter]
    receiver: str = ""
    halving: Callable[[], None] | None = field(default=None, compare=False)  # no part of what is sent


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took it; `ref` is its own id for the email."""

    ref: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will never take this one; `reason` is its answer, shortened."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. `retry_in` is in seconds, None where the provider named no time."""

    reason: str
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class Unsure:
    """It may have been taken: the answer about this one letter was lost. Unknown until there is evidence."""

    reason: str


Outcome = Accepted | Refused | Deferred | Unsure


@dataclass(frozen=True, slots=True)
class Checked:
    """An account that was asked for and answered well: `said` is what a person may know of it, in a sentence or two."""

    said: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider's bulk call can do, and how large it may be.

    `batch`: letters in one call. `distinct_body`: each with a body of its own; else slots become the provider's
    variables. `own_answers`: each with an answer of its own; else the call is taken or refused whole. `idempotent_for`:
    seconds for which a key is honoured, 0 where none is taken. `lookup`: it can be asked afterwards what became of a
    call. `largest_call`: bytes of a call's body, None where its provider names none; larger ones are halved.
    """

    batch: int
    distinct_body: bool
    own_answers: bool = True
    idempotent_for: float = 0.0
    lookup: bool = False
    largest_call: int | None = None


class Kind(StrEnum):
    """Kinds of events; the same words as the database's `event_kind`. The first six are outcomes."""

    SENT = "sent"
    REFUSED = "refused"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"


OUTCOMES = (Kind.SENT, Kind.REFUSED, Kind.FAILED, Kind.SKIPPED, Kind.CANCELLED, Kind.UNKNOWN)


class Bounce(StrEnum):
    """Why an email came back: the address is no good, not now, or the email was not liked (content, policy)."""

    HARD = "hard"
    SOFT = "soft"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a provider's type of event is in our words: `kind` goes into the record, None: nothing does.

    `evidence` is the outcome that it proves: Kind.SENT, or Kind.REFUSED where the provider took the call and then
    dropped the email; None: neither. `first`: the provider's first word about an email, by which lag is measured.
    """

    kind: Kind | None = None
    evidence: Kind | None = None
    bounce: Bounce | None = None
    first: bool = False

    @property
    def is_trouble(self) -> bool:
        """Something went wrong: what the provider says of it is worth keeping; of a delivery it fills the record."""
        return self.bounce is not None or self.kind is Kind.DEFERRED or self.evidence is Kind.REFUSED


class Unread(NamedTuple):
    """An event of a type that we have no word for: the provider's own name of it, and the event, cut to some size."""

    type: str
    raw: str


class Reported(NamedTuple):
    """One event of a webhook. `key` is the provider's own id of it, the same in every repeat; `at` has a time zone.

    `handoff_id` and `lead_id` are ours, from the metadata, 0 where there are none; `ref` is the provider's id of the
    email. `machine`: opened or clicked by a program, as the provider says; `agent` and `address` are what opened or
    clicked says of itself, and where from, for providers that do not say. `unread`: nobody knows what it means.
    """

    key: str
    at: datetime
    handoff_id: int
    lead_id: int
    meaning: Meaning
    ref: str = ""
    machine: bool = False
    url: str | None = None
    reason: str | None = None
    agent: str = ""
    address: str = ""
    unread: Unread | None = None
