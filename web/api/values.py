"""Values that leads' attributes have, as JSON has them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema


def _check(value: object) -> object:
    if isinstance(value, str | int | float | bool):
        return value
    raise ValueError("This must be a text, a number, true or false")


def _check_or_none(value: object) -> object:
    return None if value is None else _check(value)


_SCHEMA: dict[str, Any] = {"type": ["string", "number", "boolean"]}
# One check instead of a union: of a union's each branch would have its say about what is wrong.
Value = Annotated[Any, AfterValidator(_check), WithJsonSchema(_SCHEMA)]
ValueOrNone = Annotated[
    Any, AfterValidator(_check_or_none), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
]
