"""A segment's condition in one sentence, for lists and confirmations."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from app.models.condition import Condition, Group
from app.models.field import Field, Fields
from app.models.operand import Day, Moment, Operand, RelativeDay, RelativeMoment
from app.models.operators import OPERATORS
from app.models.rule import Rule

LISTED: Final = 3  # values of a list that are named; the rest are counted
LONGEST: Final = 300  # characters
DAYS: Final = {(0, 0): "today", (0, -1): "yesterday", (0, 1): "tomorrow"}


def describe(condition: Condition, fields: Fields) -> str:
    """Like `Country is "France" and (Age is at least 30 or Plan is not known)`, at most 300 characters."""
    if not condition.rules:
        return "Every lead"
    said = _group(condition, fields, outermost=True)
    return said if len(said) <= LONGEST else said[: LONGEST - 1].rstrip() + "…"


def _group(group: Group, fields: Fields, *, outermost: bool = False) -> str:
    parts = [_rule(part, fields) if isinstance(part, Rule) else _group(part, fields) for part in group.rules]
    joined = f" {group.combinator} ".join(parts)
    if group.negated:
        return f"not ({joined})"
    return joined if outermost or len(parts) == 1 else f"({joined})"


def _rule(rule: Rule, fields: Fields) -> str:
    field, operator = fields[rule.field], OPERATORS[rule.operator]
    words = [field.label, operator.reads(field)]
    match operator.takes:
        case "one":
            words.append(_operand(rule.operands[0], field))
        case "pair":
            words.append(" and ".join(_operand(operand, field) for operand in rule.operands))
        case "list":
            words.append(_list(rule.operands, field))
    return " ".join(words)


def _list(operands: Sequence[Operand], field: Field) -> str:
    named = ", ".join(_operand(operand, field) for operand in operands[:LISTED])
    return named if len(operands) <= LISTED else f"{named} and {len(operands) - LISTED:,} more"


def _operand(operand: Operand, field: Field) -> str:
    match operand:
        case str():
            return operand if field.choices else f'"{operand}"'
        case bool():
            return "yes" if operand else "no"
        case Decimal():
            return f"{operand:f}"
        case Day(day):
            return day.isoformat()
        case Moment(time):
            return time.replace(tzinfo=None).isoformat(" ").removesuffix(":00") + " UTC"
        case RelativeDay(months, days):
            return DAYS.get((months, days)) or (_months(months) if months else _distance(days, "day"))
        case RelativeMoment(minutes):
            return _minutes(minutes)


def _months(months: int) -> str:
    return _distance(months, "month") if months % 12 else _distance(months // 12, "year")


def _minutes(minutes: int) -> str:
    if minutes == 0:
        return "now"
    return _distance(minutes, "minute") if minutes % 60 else _distance(minutes // 60, "hour")


def _distance(count: int, unit: str) -> str:
    said = f"{abs(count):,} {unit}{'' if abs(count) == 1 else 's'}"
    return f"{said} ago" if count < 0 else f"{said} from now"
