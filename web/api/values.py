"""Values as JSON has them: what leads' attributes are, and times."""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, NaiveDatetime, WithJsonSchema


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


def _is_written(value: object) -> object:
    """Times are texts: a number would be taken for seconds since 1970, whatever was meant by it."""
    if isinstance(value, datetime | time) or (isinstance(value, str) and ":" in value):
        return value
    raise ValueError("This must be a time, as in 2026-03-01T09:00:00Z")


# A moment, with its zone; the time that a clock on the wall shows, with its day; either; and a time of any day.
Moment = Annotated[AwareDatetime, BeforeValidator(_is_written), Field(strict=False)]
LocalMoment = Annotated[NaiveDatetime, BeforeValidator(_is_written), Field(strict=False)]
AnyMoment = Annotated[datetime, BeforeValidator(_is_written), Field(strict=False)]
Clock = Annotated[time, BeforeValidator(_is_written), Field(strict=False)]
