"""Events of a type that we have no word for: what a provider has added since. They are shown, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import orjson

from app.mail import Meaning, Reported, Unread

KEPT: Final = 4096  # bytes of an event that are shown
LONGEST: Final = 80  # characters of a type's name
NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)  # of an event that says none that we understand
NOTHING: Final = Meaning()


def unread(kind: object, told: Any, at: Callable[[Any], datetime]) -> Reported:
    """An event of a type that its reader does not know; `at` reads its time where it has one as others of its kind do.

    The key is a digest of all that it says: a repeat says the same. Raises TypeError where the type is no name at all.
    """
    if not isinstance(kind, str) or not kind:
        raise TypeError("an event without a type")
    raw = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    name = "".join(each if each.isprintable() else "?" for each in kind)[:LONGEST]
    try:
        time = at(told)
    except (KeyError, TypeError, ValueError, OverflowError):
        time = NO_TIME
    shown = orjson.dumps(told)[:KEPT]  # its own order is how the provider's pages show it
    return Reported(
        key=blake2b(raw, digest_size=16).hexdigest(),
        at=time,
        handoff_id=0,
        lead_id=0,
        meaning=NOTHING,
        unread=Unread(name, shown.decode("utf-8", "replace")),
    )
