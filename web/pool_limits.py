"""The limits of a pool as a table to fill in: the first row is for all emails, the others for one receiver each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from app.errors import Fault, Invalid
from app.models.limit import WHOLE, Limit, name_of
from app.models.receiver import RECEIVERS

SPARE: Final = 3  # empty rows to write into
MOST: Final = 100  # rows
COLUMNS: Final = ("receiver", "per_second", "burst", "per_day", "connections", "messages")
KEYS: Final = {each.name.lower(): key for key, each in RECEIVERS.items()}


@dataclass(slots=True)
class Row:
    """One limit as it is typed; `faults` are about its columns."""

    receiver: str = ""
    per_second: str = ""
    burst: str = ""
    per_day: str = ""
    connections: str = ""
    messages: str = ""
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not any(getattr(self, column) for column in COLUMNS)


def rows_of(limits: Sequence[Limit]) -> list[Row]:
    """Stored limits to write over, and empty rows behind."""
    whole = [each for each in limits if each.receiver == WHOLE] or [Limit()]
    others = [each for each in limits if each.receiver != WHOLE]
    return [_written(each) for each in (*whole, *others)] + [Row() for _ in range(SPARE)]


def read_rows(form: Mapping[str, str]) -> list[Row]:
    """What was typed, row by row, up to the first number that no row has."""
    rows = []
    for number in range(MOST):
        if f"per_second-{number}" not in form:
            break
        rows.append(Row(*(form.get(f"{each}-{number}", "").strip()[:300] for each in COLUMNS)))  # type: ignore[arg-type]
    return rows


def limits_of(rows: Sequence[Row]) -> list[tuple[Row, Limit]]:
    """What the rows mean, each with its row; empty ones mean nothing. Raises Invalid, with faults at their rows."""
    meant = []
    for number, row in enumerate(rows):
        if row.empty:
            continue
        row.faults.clear()
        per_second, per_day = _number(row, "per_second", float), _number(row, "per_day", int)
        burst = _number(row, "burst", int)
        connections, messages = _number(row, "connections", int), _number(row, "messages", int)
        receiver = WHOLE if number == 0 else KEYS.get(row.receiver.lower(), row.receiver.lower())
        if number and receiver == WHOLE:
            row.faults["receiver"] = "Say whose: a receiver, or a domain."
        if not row.faults and {per_second, per_day, connections, messages} == {None}:
            row.faults["per_second"] = "Give a rate or a number for a day, or empty the row."
        known = int(burst) if burst is not None else min(1_000_000, max(1, round(per_second or 1)))
        meant.append((row, Limit(receiver, per_second, known, _whole(per_day), _whole(connections), _whole(messages))))
    if any(row.faults for row in rows):
        raise Invalid.one("", "Something in the limits needs mending.")
    return meant


def blame(meant: Sequence[tuple[Row, Limit]], faults: Sequence[Fault]) -> None:
    """Put faults named "<number>.<column>" at their rows."""
    for fault in faults:
        number, _, column = fault.pointer.partition(".")
        if number.isdecimal() and int(number) < len(meant):
            meant[int(number)][0].faults[column] = fault.message


def _written(limit: Limit) -> Row:
    return Row(
        receiver=name_of(limit.receiver) if limit.receiver else "",
        per_second="" if limit.per_second is None else f"{limit.per_second:g}",
        burst="" if limit.per_second is None else str(limit.burst),
        per_day="" if limit.per_day is None else str(limit.per_day),
        connections="" if limit.connections is None else str(limit.connections),
        messages="" if limit.messages is None else str(limit.messages),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _number(row: Row, column: str, kind: type[float] | type[int]) -> float | None:
    typed = getattr(row, column).replace(",", "").replace("\u202f", "").replace(" ", "")
    if not typed:
        return None
    try:
        value = kind(typed)
        if isfinite(value):
            return value
        raise ValueError(typed)
    except (ValueError, OverflowError):
        row.faults[column] = "Write a number." if kind is float else "Write a whole number."
        return None
