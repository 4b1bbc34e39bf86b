"""Finding the letter that made a provider refuse a whole call, without ever repeating a call that may have been taken.

Some providers refuse a call for one bad address in it. After a definite refusal, and only then, the call is halved: the
good letters still leave, and the bad one is named, at no more than twelve further calls for one in fifty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid5

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Batch, Deferred, Outcome, Refused, Unsure
from app.uptime import uptime

AGAIN = 30.0  # seconds until letters are tried again whose half could not be asked about: it is no fault of theirs
ALL_OF = 10  # letters: when so many are refused, and none taken, it is our account or our content, not the addresses


class CallRefused(ProviderError):
    """The provider definitely refused a call as a whole: none of its letters left. Providers raise it to `halve`."""


def halve(batch: Batch, call: Callable[[Batch], list[Outcome]], until: float) -> list[Outcome]:
    """`call`'s outcomes, one per letter in order; a refused call is halved until the bad letters stand alone.

    Halves get keys of their own, made from the batch's key and their place, and before the first of them leaves
    `batch.halving` is told: from then on the whole must never be called again, for it might be taken this time. Past
    `until` (seconds of `uptime`) nothing is called any more: the letters left are deferred. Errors of the first call
    and of `batch.halving` are raised; those of a half concern its own letters alone, as its neighbours have outcomes.
    Raises ProviderRefusesUs when many letters were refused one by one and none was taken.
    """
    try:
        return call(batch)
    except CallRefused as refusal:
        if len(batch.letters) == 1:
            return [Refused(str(refusal))]
        if batch.halving is not None:
            batch.halving()
        outcomes = _two_halves(batch, call, until)
        blame_us(outcomes, refusal.raw)
        return outcomes


def fitting(body: bytes, largest: int | None, provider: str) -> bytes:
    """The body of a call as it is; raises CallRefused where the provider would take none of it for its size."""
    if largest is not None and len(body) > largest:
        raise CallRefused(f"The call has {len(body):,} bytes, and {provider} takes {largest:,}.")
    return body


def blame_us(outcomes: Sequence[Outcome], raw: str = "") -> None:
    """Raise ProviderRefusesUs when every one of many letters was refused: pause, rather than burn a whole audience."""
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    if len(refused) >= ALL_OF and not any(isinstance(outcome, Accepted | Unsure) for outcome in outcomes):
        raise ProviderRefusesUs(f"Every one of {len(refused)} letters was refused: {refused[0].reason}", raw)


def instead(error: ProviderError) -> Outcome:
    """What an error means for one letter, where others of its batch have outcomes already."""
    match error:
        case ProviderUnsure():
            return Unsure(str(error))
        case ProviderDown(retry_in=retry_in):
            return Deferred(str(error), AGAIN if retry_in is None else retry_in)
        case _:
            return Deferred(str(error))


def _two_halves(batch: Batch, call: Callable[[Batch], list[Outcome]], until: float) -> list[Outcome]:
    middle = (len(batch.letters) + 1) // 2
    outcomes: list[Outcome] = []
    for start, stop in ((0, middle), (middle, len(batch.letters))):
        half = replace(batch, letters=batch.letters[start:stop], key=uuid5(batch.key, f"{start}:{stop}"))
        outcomes += _one_half(half, call, until)
    return outcomes


def _one_half(half: Batch, call: Callable[[Batch], list[Outcome]], until: float) -> list[Outcome]:
    if uptime() >= until:
        return [Deferred("No time was left to find the address that is refused.", 0.0)] * len(half.letters)
    try:
        return call(half)
    except CallRefused as refusal:
        return [Refused(str(refusal))] if len(half.letters) == 1 else _two_halves(half, call, until)
    except ProviderError as error:
        return [instead(error)] * len(half.letters)
