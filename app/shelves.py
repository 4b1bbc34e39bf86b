"""Shelves: where a message waits for its time. Those that are due together lie together, so that few pages hold them.

A shelf is a span of due time: narrow for what is near when it is accepted, wide for what is far, so that a thousand
messages over a year need a few hundred shelves and not 35,000. Its number is the minute that its span begins with,
four times, and its level: whatever is due by a time lies on shelves up to a number.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from app.message_ids import minute_of

LEVELS: Final = 4  # that there is room for in a shelf's number


class Level(NamedTuple):
    """Shelves of so many minutes, for what is accepted up to `ahead` of its time."""

    ahead: timedelta
    minutes: int


NEAR: Final = Level(timedelta(hours=6), 15)
SOON: Final = Level(timedelta(days=4), 120)
FAR: Final = Level(timedelta.max, 1440)
ALL: Final = (NEAR, SOON, FAR)


def shelf_of(due_at: datetime, now: datetime) -> int:
    """The shelf of what is due at a time and was accepted at another one."""
    ahead = due_at - now
    return _number(due_at, next(level for level, each in enumerate(ALL) if ahead <= each.ahead))


def shelves_of(due_at: datetime) -> list[int]:
    """Every shelf that something due at a time may lie on, whenever it was accepted: one of each level."""
    return [_number(due_at, level) for level in range(len(ALL))]


def last_of(at: datetime) -> int:
    """The last shelf that may hold something that is due by then: none with a greater number does."""
    return minute_of(at) * LEVELS + LEVELS - 1


def is_over(shelf: int, at: datetime) -> bool:
    """Whether everything that may lie on a shelf is due by then."""
    minute, level = divmod(shelf, LEVELS)
    return minute + ALL[level].minutes <= minute_of(at)


def _number(due_at: datetime, level: int) -> int:
    minutes = ALL[level].minutes
    return minute_of(due_at) // minutes * minutes * LEVELS + level
