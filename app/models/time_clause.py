"""Days and moments in segment conditions, compared in SQL with columns and with the ISO 8601 texts of attributes.

All in UTC, whatever the session's time zone. A day, compared with a moment, is the whole of it, midnight to midnight.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from sqlalchemy import ColumnElement, Date, SQLColumnExpression, Text, and_, case, cast, collate, func, literal, select
from sqlalchemy.dialects.postgresql import TIMESTAMP

from app.models.operand import Day, Moment, RelativeDay, RelativeMoment, Time

Clause = ColumnElement[bool]
Value = SQLColumnExpression[Any]

COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
INSTANT: Final = TIMESTAMP(timezone=True)
# As imports and the API write it: a word that PostgreSQL takes for a date ("today", "infinity") is none.
ISO_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
ISO_CLOCK: Final = "[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"


def compare(name: str, value: Value, bound: Value) -> Clause:
    """`value` < `bound`, or whatever `name` says."""
    compared: Clause = COMPARISONS[name](value, bound)
    return compared


def compare_column(name: str, value: Value, operand: Time) -> Clause:
    """A timestamp column, compared with a day or a moment."""
    if isinstance(operand, Moment | RelativeMoment):
        return compare(name, value, _moment(operand))
    start, end = _midnight(operand, 0), _midnight(operand, 1)
    match name:
        case "=":
            return and_(value >= start, value < end)
        case "<":
            return value < start
        case "<=":
            return value < end
        case ">":
            return value >= end
        case _:
            return value >= start


def compare_written(name: str, stored: Any, operand: Time) -> Clause:
    """An attribute's JSON value, compared with a day or a moment; NULL or false where it is no date.

    Days are compared as the text that they are written in: casting five million of them takes ten seconds.
    """
    if isinstance(operand, Moment | RelativeMoment):
        return and_(*_near(name, stored, operand), compare(name, _instant(stored), _moment(operand)))
    return and_(compare(name, _written_day(stored), _iso_day(operand)), is_written_day(stored))


def is_written_day(stored: Any) -> Clause:
    """Whether an attribute's JSON value is a day, or a moment that begins with one."""
    written = _written_day(stored)
    return and_(
        written.like("____-__-__"), func.pg_input_is_valid(written, "date"), func.jsonb_typeof(stored) == "string"
    )


def _written_day(stored: Any) -> Value:
    return collate(func.left(stored.astext, 10), "C")


def _near(name: str, stored: Any, operand: Moment | RelativeMoment) -> list[Clause]:
    """What the written day must be first, cheaply: offsets are below 24 hours, so it is at most one day away."""
    earliest, latest = _iso_day_near(operand, -1), _iso_day_near(operand, 1)
    tests = []
    if name in (">", ">=", "="):
        tests.append(_written_day(stored) >= earliest)
    if name in ("<", "<=", "="):
        tests.append(_written_day(stored) <= latest)
    return tests


def _iso_day_near(operand: Moment | RelativeMoment, days: int) -> Value:
    if isinstance(operand, Moment):
        near = operand.time.date().toordinal() + days
        return literal(date.fromordinal(min(max(near, 1), date.max.toordinal())).isoformat(), Text)
    near_now = func.timezone("UTC", func.now() + func.make_interval(0, 0, 0, days, 0, operand.minutes))
    return _once(func.to_char(near_now, "YYYY-MM-DD"))


def _instant(stored: Any) -> Value:
    """The moment in a date attribute: midnight where it is only a day, UTC where it names no offset; else NULL."""
    written = stored.astext
    looks_right = and_(func.jsonb_typeof(stored) == "string", written.regexp_match(f"^{ISO_DAY}({ISO_CLOCK})?$"))
    readable = and_(looks_right, func.pg_input_is_valid(written, "timestamptz"))
    named_offset = func.substr(written, 11).regexp_match("[Z+-]")
    in_utc = func.timezone("UTC", cast(written, TIMESTAMP()))
    return case((readable, case((named_offset, cast(written, INSTANT)), else_=in_utc)))


def _moment(operand: Moment | RelativeMoment) -> Value:
    if isinstance(operand, Moment):
        return literal(operand.time, INSTANT)
    return _once(func.now() + func.make_interval(0, 0, 0, 0, 0, operand.minutes))


def _midnight(operand: Day | RelativeDay, later: int) -> Value:
    """The midnight that begins the day, or `later` days after it."""
    moment = func.timezone("UTC", cast(_day(operand), TIMESTAMP()) + func.make_interval(0, 0, 0, later))
    return moment if isinstance(operand, Day) else _once(moment)


def _iso_day(operand: Day | RelativeDay) -> Value:
    if isinstance(operand, Day):
        return literal(operand.day.isoformat(), Text)
    return _once(func.to_char(_day(operand), "YYYY-MM-DD"))


def _day(operand: Day | RelativeDay) -> Value:
    if isinstance(operand, Day):
        return literal(operand.day, Date)
    today = func.timezone("UTC", func.now())
    return cast(today + func.make_interval(0, operand.months, 0, operand.days), Date)


def _once(value: Value) -> Value:
    """Computed once for a statement, not once for every lead."""
    return select(value).scalar_subquery()
