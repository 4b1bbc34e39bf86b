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
FOLDED: Final = frozenset({"email", "domain", "status"})  # kept in small letters: an index on them stays of use
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
            test = _guarded(field, _value(field) == any_(literal(list(operands), ARRAYS[field.type])))
        case _:
            test = _test(name, field, operands[0])
    if field.name == "domain":
        return Lead.domain_id.in_(
            select(Domain.id).where(test).correlate(None)
        )  # even where `domain` is joined already
    return test if field.name in NEVER_NULL else test.is_(true())


def _known(field: Field) -> Clause:
    if field.type == "date":
        return is_written_day(_stored(field))
    known = _value(field).is_not(None)
    return _guarded(field, and_(known, _value(field) != "") if field.type == "text" else known)


def _test(name: str, field: Field, operand: Operand) -> Clause:
    match operand:
        case str() if name in PATTERNS:
            return _guarded(field, _matches(field, PATTERNS[name].format(_escaped(operand))))
        case str() if name == "=":
            return _guarded(field, _value(field) == literal(operand, Text))
        case str():  # by code points, not by the database's language
            return _guarded(field, compare(name, collate(_value(field), "C"), literal(operand, Text)))
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
        return _value(field).like(literal(pattern.lower(), Text))
    return func.lower(_value(field)).like(func.lower(literal(pattern, Text)))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _value(field: Field) -> Value:
    """The field's value in SQL; NULL where the lead lacks it. A text attribute needs `_guarded` around the test."""
    if field.attribute is None:
        return COLUMNS[field.name]
    match field.type:
        case "number":
            return case((_is("number", field), cast(_stored(field), Numeric)))
        case "boolean":
            return case((_is("boolean", field), cast(_stored(field), Boolean)))
        case _:
            text: Value = _stored(field).astext
            return text


def _guarded(field: Field, test: Clause) -> Clause:
    """`test` first, as it is the cheaper: the stored type is looked at only where it holds."""
    return and_(test, _is("string", field)) if field.attribute and field.type == "text" else test


def _is(kind: str, field: Field) -> Clause:
    return func.jsonb_typeof(_stored(field)) == kind


def _stored(field: Field) -> Any:
    return Lead.attributes[field.attribute]
