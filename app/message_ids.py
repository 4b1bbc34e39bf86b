"""The numbers of messages, and how they are written for programs.

An id holds the minute that its message is due in, so that it says by itself which day's part of the store has it, and
messages that are sent together lie together. It is greater than any lead's: where ids of both may stand, the number
alone tells which it is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

FIRST: Final = 1 << 39  # every id of a message is at least this; a lead's is below
NUMBER_BITS: Final = 34  # of the id are a number that goes round after 17,179,869,184 messages
_EPOCH: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
MINUTES_A_DAY: Final = 1440
LONGEST_ID: Final = 1 << 58  # they stay below until the year 2051, and fit in the tokens that name them

_PREFIX: Final = "msg_"
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_LENGTH: Final = 11  # digits of base 62 that hold 64 bits
_PAIRS: Final = [high + low for high in _DIGITS for low in _DIGITS]
_TWO: Final = 62**2
_FOUR: Final = 62**4
_SIX: Final = 62**6
_WHOLE: Final = 1 << 64
# An odd factor turns each number into another one, and back: ids that follow each other do not look it.
_FACTOR: Final = 0x9E3779B97F4A7C15
_BACK: Final = pow(_FACTOR, -1, _WHOLE)


def is_message(number: int) -> bool:
    """Whether an id is a message's; otherwise it is a lead's."""
    return number >= FIRST


def minute_of(due_at: datetime) -> int:
    """The minute that something is due in, counted from 2020 on."""
    return (int(due_at.timestamp()) - _EPOCH) // 60


def id_of(due_at: datetime, number: int) -> int:
    """The id of a message that is due at a time, by its number (of the sequence `message_number`)."""
    return minute_of(due_at) << NUMBER_BITS | number


def due_minute(message_id: int) -> datetime:
    """The minute that a message is due in."""
    return datetime.fromtimestamp(_EPOCH + 60 * (message_id >> NUMBER_BITS), UTC)


def first_of_day(at: datetime) -> int:
    """Below every id of a message that is due on that day (UTC's) or later, above every earlier one: a chunk's edge."""
    return minute_of(at) // MINUTES_A_DAY * MINUTES_A_DAY << NUMBER_BITS


def to_public(message_id: int) -> str:
    """The id as programs know it: "msg_" and eleven letters and digits that say nothing."""
    # Two digits at a time, and the lower six by themselves: in a fourth of the time that eleven long divisions take.
    number = message_id * _FACTOR & _WHOLE - 1
    high = number // _SIX
    low = number - high * _SIX
    return (
        f"{_PREFIX}{_DIGITS[high // _FOUR]}{_PAIRS[high // _TWO % _TWO]}{_PAIRS[high % _TWO]}"
        f"{_PAIRS[low // _FOUR]}{_PAIRS[low // _TWO % _TWO]}{_PAIRS[low % _TWO]}"
    )


def from_public(written: str) -> int | None:
    """The number of a public id; None for what is none."""
    if len(written) != len(_PREFIX) + _LENGTH or not written.startswith(_PREFIX):
        return None
    number = 0
    for digit in written[len(_PREFIX) :]:
        if digit not in _VALUES:
            return None
        number = number * len(_DIGITS) + _VALUES[digit]
    found = number * _BACK % _WHOLE if number < _WHOLE else 0
    return found if FIRST <= found < LONGEST_ID else None
