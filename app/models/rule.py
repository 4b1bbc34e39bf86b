"""One rule of a segment's condition, a field compared with values: read from JSON and checked against the fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from app.models.field import ATTRIBUTE, Field, Fields, Type
from app.models.operand import Operand, Unfit, is_above, read_operand
from app.models.operators import OPERATORS, Takes, suiting

LIST: Final = 1_000
NAME: Final = 200  # characters: no field is longer, and longer words are not worth guessing at
RULE_KEYS: Final = frozenset({"field", "operator", "value", "id"})
KINDS: Final[Mapping[Type, str]] = {
    "text": "is a text",
    "number": "is a number",
    "boolean": "is yes or no",
    "date": "is a date",
    "timestamp": "is a date",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One comparison. `operands` holds none, one, two (between) or many (in) values, as the operator takes them."""

    field: str
    operator: str
    operands: tuple[Operand, ...]


def read_rule(node: object, fields: Fields) -> Rule:
    """The rule. Raises Unfit, for the first fault only, with the pointer from here."""
    if isinstance(node, str):
        raise Unfit("A word between two rules is not supported: a group has one combinator.")
    if not isinstance(node, dict):
        raise Unfit('This is no rule: write {"field": …, "operator": …, "value": …}.')
    field = _field(node.get("field"), fields)
    operator = _operator(node.get("operator"), field)
    return Rule(field.name, operator, _operands(node.get("value"), OPERATORS[operator].takes, field))


def printed(word: str) -> str:
    """A word from outside as it may stand in a sentence: short, and without what cannot be shown."""
    shown = word if len(word) <= 60 else f"{word[:60]}…"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown)


def _field(name: object, fields: Fields) -> Field:
    if not isinstance(name, str) or not name:
        raise Unfit("Say which field is meant.", "/field")
    if name not in fields:
        raise Unfit(f'There is no field "{printed(name)}".{_guess(name, fields)}', "/field")
    return fields[name]


def _guess(name: str, fields: Fields) -> str:
    likely = [ATTRIBUTE + name] if ATTRIBUTE + name in fields else []
    if not likely and len(name) <= NAME:
        likely = get_close_matches(name, fields, n=1)
    return f' Did you mean "{likely[0]}"?' if likely else ""


def _operator(name: object, field: Field) -> str:
    fitting = ", ".join(suiting(field))
    if not isinstance(name, str) or name not in OPERATORS:
        said = f' "{printed(name)}"' if isinstance(name, str) and name else ""
        raise Unfit(f"There is no operator{said}. For {field.label}, use one of: {fitting}.", "/operator")
    if name not in suiting(field):
        kind = "has a few fixed values" if field.choices else KINDS[field.type]
        raise Unfit(f'"{name}" does not suit {field.label}, which {kind}. Use one of: {fitting}.', "/operator")
    return name


def _operands(value: object, takes: Takes, field: Field) -> tuple[Operand, ...]:
    match takes:
        case "nothing":
            if value is not None and value != "":
                raise Unfit("This operator takes no value: leave it out.", "/value")
            return ()
        case "one":
            return (_operand(value, field, "/value"),)
        case "pair":
            return _pair(value, field)
        case "list":
            return _list(value, field)


def _pair(value: object, field: Field) -> tuple[Operand, Operand]:
    if not isinstance(value, list) or len(value) != 2:
        raise Unfit("Write two values in a list: the lowest and the highest that match.", "/value")
    low, high = (_operand(item, field, f"/value/{index}") for index, item in enumerate(value))
    if is_above(low, high):
        raise Unfit("The first value is above the second: no lead could match.", "/value")
    return low, high


def _list(value: object, field: Field) -> tuple[Operand, ...]:
    if not isinstance(value, list) or not value:
        raise Unfit("Write the values in a list, at least one.", "/value")
    if len(value) > LIST:
        raise Unfit(f"There are too many values: at most {LIST:,}.", "/value")
    return tuple(_operand(item, field, f"/value/{index}") for index, item in enumerate(value))


def _operand(value: object, field: Field, at: str) -> Operand:
    try:
        return read_operand(value, field)
    except Unfit as error:
        raise Unfit(str(error), at) from None
