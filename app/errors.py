"""Everything that Millrace raises on purpose, named by what the caller does next.

MillraceError
├── ConfigError            an operator sets a variable right
├── Unavailable            a server of ours is away: wait, try again
├── Invalid                the caller mends the named fields; nothing was changed
├── Unverified             a webhook that its provider did not sign, or not lately: refused, nothing was changed
├── NotFound               it does not exist, or it is not yours
├── Conflict               it is not in a state that allows this
│   └── UnderWay           the same is being done at this moment: wait a second, ask again
├── Unrenderable           one lead cannot be written to with this content: leave it out
├── LeaseLost              somebody else works on this range now: drop it
├── DayUsedUp              a pool's limit by day has less left than a page was cut to: cut it anew
└── ProviderError
    ├── ProviderDown       nothing left us: later, at no attempt
    ├── ProviderUnsure     it may have left: unknown until there is evidence
    └── ProviderRefusesUs  our account is refused: pause the pool, tell a person
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class MillraceError(Exception):
    """The root; its text is a sentence that may be shown to a user."""


class ConfigError(MillraceError):
    """A setting is missing or wrong; the text names the variable and the way out."""


class Unavailable(MillraceError):
    """PostgreSQL or Redis cannot be reached now."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: `pointer` is a form field's name or a JSON pointer (RFC 6901)."""

    pointer: str
    message: str


class Invalid(MillraceError):
    """Bad input. `faults` names every field; nothing was changed."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{f.pointer}: {f.message}" if f.pointer else f.message for f in self.faults))

    @classmethod
    def one(cls, pointer: str, message: str) -> Invalid:
        return cls([Fault(pointer, message)])


class Unverified(MillraceError):
    """A webhook whose signature is missing, wrong or old; the text says which to the log, and to nobody outside.

    `provider` is whose it would have been, "" where the pool takes none.
    """

    provider = ""


class NotFound(MillraceError):
    """It does not exist, or belongs to somebody else: the two look the same from outside."""


class Conflict(MillraceError):
    """The thing is in a state that does not allow this; the text says which."""


class UnderWay(Conflict):
    """The same was asked for before, and is being done at this moment."""


class Unrenderable(MillraceError):
    """This lead cannot be written to with this content; the text says why. The others are not touched by it."""


class LeaseLost(MillraceError):
    """The range was given to another worker, or its campaign no longer sends."""


class DayUsedUp(MillraceError):
    """A pool's limit for a day has less left than a page was cut to: it goes back, and is cut anew."""


class ProviderError(MillraceError):
    """A whole call failed. `raw` is what the provider answered, for people."""

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


class ProviderDown(ProviderError):
    """Nothing left us (refused connection, 429, 503): the leads go later, at no attempt. `retry_in` is in seconds.

    `passing`: it was our own crowding (every connection was busy), which says nothing about the provider.
    """

    def __init__(self, message: str, raw: str = "", retry_in: float | None = None, *, passing: bool = False) -> None:
        super().__init__(message, raw)
        self.retry_in = retry_in
        self.passing = passing


class ProviderUnsure(ProviderError):
    """The call may have been accepted: its leads are unknown until there is evidence."""


class ProviderRefusesUs(ProviderError):
    """Our key, our account or our configuration is refused: nothing left us, and nothing will until a person acts."""
