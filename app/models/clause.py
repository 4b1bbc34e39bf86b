"""Segment conditions compiled to SQL expressions over `lead`: always true or false, never raising on what is stored.

Every value, and every attribute's name, is a bound parameter. What a lead lacks, or has in another type than its
attribute's, is not known: no comparison with it holds, and so each negative operator, the exact complement, does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Date,
    Numeric,
    SQLColumnExpression,
    Text,
    and_,
    any_,
    case,
    cast,
    collate,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeEngine

from app.models.condition import Condition
from app.models.field import Field, Fields
from app.models.lead import Domain, Lead
from app.models.operand import Day, Moment, Operand, RelativeDay, RelativeMoment, Time
from app.models.operators import OPERATORS
from app.models.rule import Rule

Clause = ColumnElement[bool]
Value = SQLColumnExpression[Any]

COLUMNS: Final[Mapping[str, Value]] = {
    "email": Lead.email,
    "status": Lead.status,
    "time_zone": Lead.time_zone,
    "created_at": Lead.created_at,
    "domain": Domain.name,
}
FOLDED: Final = frozenset({"email", "domain", "status"})  # kept in small letters: an index on them stays of use
NEVER_NULL: Final = frozenset({"email", "domain", "status", "created_at"})
COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
PATTERNS: Final = {"contains": "%{}%", "beginsWith": "{}%", "endsWith": "%{}"}
ARRAYS: Final[Mapping[str, TypeEngine[Any]]] = {"text": ARRAY(Text), "number": ARRAY(Numeric)}
INSTANT: Final = TIMESTAMP(timezone=True)
# ISO 8601 as imports and the API write it; a word that PostgreSQL takes for a date ("today", "infinity") is none.
ISO_TIME: Final = "^.{10}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?$"


def compile(condition: Condition, fields: Fields) -> Clause:
    """The leads that a parsed condition means, as an expression over `lead`. An empty condition means every lead."""
    parts = [
        _rule(part, fields[part.field]) if isinstance(part, Rule) else compile(part, fields) for part in condition.rules
    ]
    joined = and_(true(), *parts) if condition.combinator == "and" or not parts else or_(false(), *parts)
    return not_(joined) if condition.negated else joined


def _rule(rule: Rule, field: Field) -> Clause:
    denied = OPERATORS[rule.operator].denies
    return not_(_holds(denied, field, rule.operands)) if denied else _holds(rule.operator, field, rule.operands)


def _holds(name: str, field: Field, operands: Sequence[Operand]) -> Clause:
    match name:
        case "notNull":
            test = _known(field)
        case "between":
            test = and_(_test(">=", field, operands[0]), _test("<=", field, operands[1]))
        case "in":
            test = _guarded(field, _value(field) == any_(literal(list(operands), ARRAYS[field.type])))
        case _:
            test = _test(name, field, operands[0])
    if field.name == "domain":
        return Lead.domain_id.in_(select(Domain.id).where(test))
    return test if field.name in NEVER_NULL else test.is_(true())


def _known(field: Field) -> Clause:
    if field.type == "date":
        return _is_day(field)
    known = _value(field).is_not(None)
    return _guarded(field, and_(known, _value(field) != "") if field.type == "text" else known)


def _test(name: str, field: Field, operand: Operand) -> Clause:
    match operand:
        case str() if name in PATTERNS:
            return _guarded(field, _matches(field, PATTERNS[name].format(_escaped(operand))))
        case str() if name == "=":
            return _guarded(field, _value(field) == literal(operand, Text))
        case str():  # by code points, not by the database's language
            return _guarded(field, _compared(name, collate(_value(field), "C"), literal(operand, Text)))
        case bool():
            return _value(field).is_(true() if operand else false())
        case Day() | RelativeDay() | Moment() | RelativeMoment():
            return _date_test(name, field, operand) if field.attribute else _instant_test(name, field, operand)
        case _:
            return _compared(name, _value(field), literal(operand, Numeric))


def _compared(name: str, value: Value, bound: Value) -> Clause:
    compared: Clause = COMPARISONS[name](value, bound)
    return compared


def _matches(field: Field, pattern: str) -> Clause:
    if field.name in FOLDED:
        return _value(field).like(literal(pattern.lower(), Text))
    return func.lower(_value(field)).like(func.lower(literal(pattern, Text)))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _value(field: Field) -> Value:
    """The field's value in SQL; NULL where the lead lacks it. A text attribute needs `_guarded` around the test."""
    if field.attribute is None:
        return COLUMNS[field.name]
    stored = Lead.attributes[field.attribute]
    match field.type:
        case "number":
            return case((_is("number", field), cast(stored, Numeric)))
        case "boolean":
            return case((_is("boolean", field), cast(stored, Boolean)))
        case _:
            text: Value = stored.astext
            return text


def _guarded(field: Field, test: Clause) -> Clause:
    """`test` first, as it is the cheaper: the stored type is looked at only where it holds."""
    return and_(test, _is("string", field)) if field.attribute and field.type == "text" else test


def _is(kind: str, field: Field) -> Clause:
    return func.jsonb_typeof(Lead.attributes[field.attribute]) == kind


# A date attribute is compared by the day that is written in it, as text: casting five million takes ten seconds.


def _date_test(name: str, field: Field, operand: Time) -> Clause:
    if isinstance(operand, Moment | RelativeMoment):
        return _compared(name, _instant(field), _moment(operand))
    return and_(_compared(name, _written_day(field), _iso_day(operand)), _is_day(field))


def _written_day(field: Field) -> Value:
    return collate(func.left(Lead.attributes[field.attribute].astext, 10), "C")


def _is_day(field: Field) -> Clause:
    written = _written_day(field)
    return and_(written.like("____-__-__"), func.pg_input_is_valid(written, "date"), _is("string", field))


def _instant(field: Field) -> Value:
    """The moment in a date attribute: midnight where it is only a day, UTC where it names no offset; else NULL."""
    written = Lead.attributes[field.attribute].astext
    readable = and_(_is_day(field), written.regexp_match(ISO_TIME), func.pg_input_is_valid(written, "timestamptz"))
    named_offset = func.substr(written, 11).regexp_match("[Z+-]")
    in_utc = func.timezone("UTC", cast(written, TIMESTAMP()))
    return case((readable, case((named_offset, cast(written, INSTANT)), else_=in_utc)))


def _instant_test(name: str, field: Field, operand: Time) -> Clause:
    """A day, compared with a moment, is the whole of it from midnight to midnight."""
    value = _value(field)
    if isinstance(operand, Moment | RelativeMoment):
        return _compared(name, value, _moment(operand))
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
