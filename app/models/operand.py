"""The values of segment rules: read from JSON by the field's type, with sentences for whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from app.models.field import Field

VALUE_BYTES: Final = 1_024
LARGEST_NUMBER: Final = 10**15  # what JSON carries from any program to any other without loss
FARTHEST_DAYS: Final = 36_600  # a hundred years


@dataclass(frozen=True, slots=True)
class Day:
    """A whole day."""

    day: date


@dataclass(frozen=True, slots=True)
class RelativeDay:
    """A whole day, counted from the day (UTC) on which the condition is evaluated: first months, then days."""

    months: int
    days: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, in UTC."""

    time: datetime


@dataclass(frozen=True, slots=True)
class RelativeMoment:
    """A point in time, in minutes from when the condition is evaluated."""

    minutes: int


Time = Day | RelativeDay | Moment | RelativeMoment
Operand = str | Decimal | bool | Time

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.]\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)?", re.ASCII)
_RELATIVE = re.compile(r"(?P<ahead>in )?(?P<count>\d{1,9}) (?P<unit>[a-z]+?)s?(?P<ago> ago)?", re.ASCII)
_NAMED: Final[Mapping[str, Time]] = {
    "today": RelativeDay(0, 0),
    "yesterday": RelativeDay(0, -1),
    "tomorrow": RelativeDay(0, 1),
    "now": RelativeMoment(0),
}
# unit -> months, days, minutes: months and days make whole days, minutes make moments
_UNITS: Final = {
    "minute": (0, 0, 1),
    "hour": (0, 0, 60),
    "day": (0, 1, 0),
    "week": (0, 7, 0),
    "month": (1, 0, 0),
    "year": (12, 0, 0),
}
_TIME_FORMS: Final = (
    'Write a day like "2026-05-31", a time like "2026-05-31T18:00:00Z", '
    'or a distance like "30 days ago", "today" or "in 2 weeks".'
)


class Unfit(ValueError):
    """Something does not suit. The text is a sentence for its writer, `at` the pointer from where the reader was."""

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(message)
        self.at = at


def read_operand(value: object, field: Field) -> Operand:
    """One value, as `field` understands it. Raises Unfit."""
    match field.type:
        case "text":
            return _text(value, field)
        case "number":
            return _number(value, field)
        case "boolean":
            if not isinstance(value, bool):
                raise Unfit(f"{field.label} is yes or no: write true or false, without quotes.")
            return value
        case "date" | "timestamp":
            return read_time(value, field)


def read_time(value: object, field: Field) -> Time:
    """A day or a moment, absolute or relative. Raises Unfit."""
    if not isinstance(value, str):
        raise Unfit(f"{field.label} is a date. {_TIME_FORMS}")
    written = _checked(value).strip()
    if _DAY.fullmatch(written):
        return Day(_day(written))
    if _MOMENT.fullmatch(written):
        return Moment(_moment(written))
    return _relative(written.lower(), field)


def is_above(low: Operand, high: Operand) -> bool:
    """Whether `low` is surely the higher of the two, as far as that can be said before the condition is evaluated."""
    match low, high:
        case (str(a), str(b)):
            return a > b
        case (Decimal() as a, Decimal() as b):
            return a > b
        case (Day(a), Day(b)):
            return a > b
        case (Moment(a), Moment(b)):
            return a > b
        case (RelativeMoment(a), RelativeMoment(b)):
            return a > b
        case (RelativeDay() as a, RelativeDay() as b):
            return a != b and a.months >= b.months and a.days >= b.days
    return False


def _text(value: object, field: Field) -> str:
    if not isinstance(value, str):
        raise Unfit(f"{field.label} is a text: write its value in quotes.")
    if not _checked(value).strip():
        raise Unfit('The value is empty: write one, or ask with "null" for leads that have none.')
    if field.choices and value not in field.choices:
        raise Unfit(f"{field.label} is one of {', '.join(field.choices)}.")
    # addresses and their domains are kept trimmed and in small letters
    return value.strip().lower() if field.name in ("email", "domain") else value


def _number(value: object, field: Field) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(f"{field.label} is a number: write its value without quotes.")
    if not abs(value) <= LARGEST_NUMBER:  # so that NaN is refused too
        raise Unfit(f"This number is too large: at most {LARGEST_NUMBER:,} is understood.")
    return Decimal(value) if isinstance(value, int) else Decimal(repr(value))


def _checked(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Unfit("The text holds half a character (a lone surrogate).") from None
    if "\0" in value:
        raise Unfit("The text holds a NUL character, which no lead can have.")
    if size > VALUE_BYTES:
        raise Unfit(f"The text is too long: at most {VALUE_BYTES:,} bytes.")
    return value


def _day(written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise Unfit(f"There is no day {written}.") from None


def _moment(written: str) -> datetime:
    try:
        moment = datetime.fromisoformat(written)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unfit(f"There is no time {written}.") from None


def _relative(written: str, field: Field) -> Time:
    if written in _NAMED:
        return _NAMED[written]
    found = _RELATIVE.fullmatch(written)
    # exactly one of "in …" and "… ago"
    if found is None or found["unit"] not in _UNITS or bool(found["ahead"]) == bool(found["ago"]):
        raise Unfit(f"{field.label} is a date. {_TIME_FORMS}")
    count = int(found["count"]) * (-1 if found["ago"] else 1)
    months, days, minutes = _UNITS[found["unit"]]
    if abs(count) * (months * 30.5 + days + minutes / 1_440) > FARTHEST_DAYS:
        raise Unfit("This is too far away: at most a hundred years are understood.")
    return RelativeMoment(count * minutes) if minutes else RelativeDay(count * months, count * days)
