"""What a cell of text means: its value under an attribute's type, and the type that a column of cells suggests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime

Value = str | int | float | bool

LONGEST_TEXT = 10_000
TOO_LONG = f"is longer than {LONGEST_TEXT:,} characters"
MOST_DIGITS = 15  # what a double carries exactly; longer figures are identifiers, and those are text

_NUMBER = re.compile(r"[+-]?(\d+)(?:\.(\d+))?\Z", re.ASCII)
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?\Z", re.ASCII)  # 007 and +49 are codes and telephones
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?\Z", re.ASCII | re.IGNORECASE
)
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read(kind: str, cell: str) -> Value:
    """The value of a cell that is not empty, for an attribute of type `kind`; raises ValueError with the reason.

    text → str; number → int or float; boolean → bool; date → "YYYY-MM-DD", or a timestamp in UTC where it has a time.
    """
    return READERS[kind](cell)


def _read_text(cell: str) -> str:
    if len(cell) > LONGEST_TEXT:
        raise ValueError(TOO_LONG)
    if "\0" in cell:
        raise ValueError("contains a NUL character")
    return cell


def _read_number(cell: str) -> int | float:
    found = _NUMBER.match(cell)
    if found is None:
        raise ValueError(f"is not a number: {shorten(cell)}")
    if len(found[1]) + len(found[2] or "") > MOST_DIGITS:
        raise ValueError(f"has more than {MOST_DIGITS} digits: {shorten(cell)}")
    return float(cell) if found[2] else int(cell)


def _read_boolean(cell: str) -> bool:
    try:
        return _WORDS[cell.lower()]
    except KeyError:
        raise ValueError(f"is neither true nor false: {shorten(cell)}") from None


def _read_date(cell: str) -> str:
    try:
        if _DATE.match(cell):
            return date.fromisoformat(cell).isoformat()
        if _TIMESTAMP.match(cell):
            moment = datetime.fromisoformat(cell.upper())
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        pass  # the 31st of February, or a time before the year 1
    raise ValueError(f"is not a date (as in 2026-11-30): {shorten(cell)}")


READERS: dict[str, Callable[[str], Value]] = {
    "text": _read_text,
    "number": _read_number,
    "boolean": _read_boolean,
    "date": _read_date,
}


def _is_number(cell: str) -> bool:
    return _PLAIN_NUMBER.match(cell) is not None and sum(map(str.isdigit, cell)) <= MOST_DIGITS


def _is_boolean(cell: str) -> bool:
    return cell.lower() in ("true", "false")


def _is_date(cell: str) -> bool:
    try:
        _read_date(cell)
    except ValueError:
        return False
    return True


SUGGESTIONS: dict[str, Callable[[str], bool]] = {"number": _is_number, "boolean": _is_boolean, "date": _is_date}


def suggest(cells: Iterable[str]) -> str:
    """The narrowest type that all cells fit; empty ones say nothing. "text" where there is any doubt."""
    given = {cell for cell in cells if cell}
    for kind, fits in SUGGESTIONS.items():
        if given and all(map(fits, given)):
            return kind
    return "text"


def shorten(cell: str) -> str:
    """A cell as a sentence may quote it."""
    return repr(cell if len(cell) <= 40 else cell[:39] + "…")
