"""The published JSON Schema of segment conditions, made from the same tables that the parser reads by."""

from __future__ import annotations

from typing import Final

from app.models.condition import DEPTH, NAME, RULES
from app.models.operand import LARGEST_NUMBER, VALUE_BYTES
from app.models.operators import OPERATORS, Takes
from app.models.rule import LIST

ID: Final = {"type": "string", "maxLength": NAME, "description": "Kept for editors; it means nothing."}
SCALAR: Final[dict[str, object]] = {"$ref": "#/$defs/scalar"}
VALUES: Final[dict[Takes, dict[str, object]]] = {
    "nothing": {"enum": [None, ""]},
    "one": SCALAR,
    "pair": {"type": "array", "items": SCALAR, "minItems": 2, "maxItems": 2},
    "list": {"type": "array", "items": SCALAR, "minItems": 1, "maxItems": LIST},
}


def json_schema() -> dict[str, object]:
    """JSON Schema 2020-12. Which fields there are, and of which type, differs by organisation: the parser says."""
    groups = {f"group{depth}": _group(depth) for depth in range(2, DEPTH + 1)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Segment condition",
        "description": "Which leads belong to a segment: rules joined by and/or, in react-querybuilder's format.",
        **_group(1),
        "$defs": {"scalar": _scalar(), "rule": _rule(), **groups},
    }


def _group(depth: int) -> dict[str, object]:
    inner = [{"$ref": "#/$defs/rule"}]
    if depth < DEPTH:
        inner.append({"$ref": f"#/$defs/group{depth + 1}"})
    return {
        "type": "object",
        "properties": {
            "id": ID,
            "combinator": {"enum": ["and", "or"]},
            "not": {"type": "boolean", "default": False},
            "rules": {"type": "array", "items": {"anyOf": inner}, "minItems": min(depth - 1, 1), "maxItems": RULES},
        },
        "required": ["combinator", "rules"],
        "additionalProperties": False,
    }


def _rule() -> dict[str, object]:
    return {
        "type": "object",
        "properties": {
            "id": ID,
            "field": {"type": "string", "minLength": 1, "maxLength": NAME},
            "operator": {"enum": list(OPERATORS)},
            "value": True,
        },
        "required": ["field", "operator"],
        "additionalProperties": False,
        "oneOf": [_shape(takes) for takes in VALUES],
    }


def _shape(takes: Takes) -> dict[str, object]:
    operators = [name for name, operator in OPERATORS.items() if operator.takes == takes]
    shape: dict[str, object] = {"properties": {"operator": {"enum": operators}, "value": VALUES[takes]}}
    return shape if takes == "nothing" else shape | {"required": ["value"]}


def _scalar() -> dict[str, object]:
    text = {"type": "string", "minLength": 1, "maxLength": VALUE_BYTES}
    number = {"type": "number", "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}
    return {"anyOf": [text, number, {"type": "boolean"}]}
