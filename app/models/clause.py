"""Segment conditions compiled to SQL expressions over `lead`: always true or false, never raising on what is stored.

Every value, and every attribute's name, is a bound parameter. What a lead lacks, or has in another type than its
attribute's, is not known: no comparison with it holds, and so each negative operator, the exact complement, does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    Boolean,
    Numeric,
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
from sqlalchemy.types import TypeEngine

from app.models.condition import Condition
from app.models.field import Field, Fields
from app.models.lead import Domain, Lead
from app.models.operand import Day, Moment, Operand, RelativeDay, RelativeMoment
from app.models.operators import OPERATORS
from app.models.rule import Rule
from app.models.time_clause import Clause, Value, compare, compare_column, compare_written, is_written_day

COLUMNS: Final[Mapping[str, Value]] = {
    "email": Lead.email,
    "status": Lead.status,
    "time_zone": Lead.time_zone,
    "created_at": Lead.created_at,
    "domain": Domain.name,
}
FOLDED: Final = frozenset({"email", "domain"})  # kept and asked in small letters: the index on addresses stays of use
NEVER_NULL: Final = frozenset({"email", "domain", "status", "created_at"})
PATTERNS: Final = {"contains": "%{}%", "beginsWith": "{}%", "endsWith": "%{}"}
ARRAYS: Final[Mapping[str, TypeEngine[Any]]] = {"text": ARRAY(Text), "number": ARRAY(Numeric)}


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
            test = _value(field) == any_(literal(list(operands), ARRAYS[field.type]))
        case _:
            test = _test(name, field, operands[0])
    if field.attribute:
        return _guarded(field, test).is_(true())
    if field.name == "domain":
        return Lead.domain_id.in_(select(Domain.id).where(test))
    return test if field.name in NEVER_NULL else test.is_(true())


def _known(field: Field) -> Clause:
    match field.type:
        case "date":
            return is_written_day(_stored(field))
        case "text":
            return _value(field) != ""
        case _:
            return _value(field).is_not(None)


def _test(name: str, field: Field, operand: Operand) -> Clause:
    match operand:
        case str() if name in PATTERNS:
            return _matches(field, PATTERNS[name].format(_escaped(operand)))
        case str() if name == "=":
            return _value(field) == literal(operand, Text)
        case str():  # by code points, not by the database's language
            return compare(name, collate(_value(field), "C"), literal(operand, Text))
        case bool():
            return _value(field).is_(true() if operand else false())
        case Day() | RelativeDay() | Moment() | RelativeMoment():
            if field.attribute:
                return compare_written(name, _stored(field), operand)
            return compare_column(name, _value(field), operand)
        case _:
            return compare(name, _value(field), literal(operand, Numeric))


def _matches(field: Field, pattern: str) -> Clause:
    if field.name in FOLDED:
        return _value(field).like(literal(pattern, Text))
    return func.lower(_value(field)).like(func.lower(literal(pattern, Text)))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _guarded(field: Field, test: Clause) -> Clause:
    """`test`, where the attribute is stored in its registered type; else NULL or false."""
    match field.type:
        case "text":  # the test first: it is the cheaper, and never raises
            return and_(test, _is("string", field))
        case "number" | "boolean":  # a CASE, because AND promises no order, and the cast of another type raises
            return case((_is(field.type, field), test))
        case _:  # times guard themselves
            return test


def _value(field: Field) -> Value:
    """The field's value in SQL. An attribute's may raise, unless `_guarded` is around the test."""
    if field.attribute is None:
        return COLUMNS[field.name]
    match field.type:
        case "number":
            return cast(_stored(field), Numeric)
        case "boolean":
            return cast(_stored(field), Boolean)
        case _:
            text: Value = _stored(field).astext
            return text


def _is(kind: str, field: Field) -> Clause:
    return func.jsonb_typeof(_stored(field)) == kind


def _stored(field: Field) -> Any:
    return Lead.attributes[field.attribute]
