"""The filters that templates may use: total functions over plain values, capped, that never raise.

A filter that cannot be applied (a missing value, text where a number is needed, a division by zero) gives None: it is
shown as nothing, and a `default` after it can step in. What a filter is given is checked when a template is saved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Final, Literal
from urllib.parse import quote_plus

Scalar = str | int | float | bool | None
Kind = Literal["text", "number", "any"]

LONGEST: Final = 16_384  # characters of a value; filters stop one later, so that what is too long can be told
_MOST: Final = 1e15  # beyond it, floats no longer count in ones
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,10})?")
_DIRECTIVE = re.compile(r"%(-?[A-Za-z%]|.|$)", re.DOTALL)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter, the kinds of its arguments, how many of them must be given, and what it makes of a value."""

    apply: Callable[..., Scalar]
    takes: tuple[Kind, ...] = ()
    least: int = 0
    makes: Kind = "text"


def text_of(value: object) -> str:
    """A value as it is shown: nothing for None, `true`, and `3` for the number 3.0 too."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 1_000 else ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _MOST else repr(value)
    return ""


def bad_date_format(shape: str) -> str | None:
    """What is wrong with a date's format, in a sentence; None for a right one."""
    if len(shape) > 100:
        return "A date's format has at most 100 characters."
    for found in _DIRECTIVE.finditer(shape):
        if found[1].lstrip("-") not in DIRECTIVES:
            return f"%{found[1]} is not known in a date's format: use {' '.join('%' + name for name in DIRECTIVES)}."
    return None


def _number(value: object) -> int | float | None:
    """The number that a value is, or that its text says; None for any other, and for what is out of bounds."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return None
        return float(text) if "." in text else int(text)
    if not isinstance(value, int | float):
        return None
    return value if abs(value) < _MOST else None


def _on_text(change: Callable[..., str]) -> Callable[..., Scalar]:
    def apply(value: Scalar, *arguments: Scalar) -> Scalar:
        if value is None:
            return None
        return change(text_of(value)[: LONGEST + 1], *arguments)[: LONGEST + 1]

    return apply


def _on_number(change: Callable[..., int | Decimal]) -> Callable[..., Scalar]:
    def apply(value: Scalar, *arguments: Scalar) -> Scalar:
        numbers = [number for each in (value, *arguments) if (number := _number(each)) is not None]
        if len(numbers) <= len(arguments):
            return None
        try:
            result = change(*_exact(numbers))
        except ArithmeticError:
            return None
        if not -_MOST < result < _MOST:
            return None
        return result if isinstance(result, int) else float(result)

    return apply


def _exact(numbers: list[int | float]) -> list[int | Decimal]:
    """0.1 + 0.2 is 0.3 for whoever reads the email; integers stay integers among themselves."""
    whole = [number for number in numbers if isinstance(number, int)]
    return list(whole) if len(whole) == len(numbers) else [Decimal(str(number)) for number in numbers]


def _default(value: Scalar, instead: Scalar) -> Scalar:
    return instead if value is None or value is False or value == "" else value


def _same(value: Scalar) -> Scalar:
    return value


def _truncate(text: str, most: Scalar = 50, end: Scalar = "...") -> str:
    length, tail = _count(most), text_of(end)
    return text if len(text) <= length else text[: max(length - len(tail), 0)] + tail


def _truncate_words(text: str, most: Scalar = 15, end: Scalar = "...") -> str:
    words, length = text.split(), max(_count(most), 1)
    return text if len(words) <= length else " ".join(words[:length]) + text_of(end)


def _slice(text: str, first: Scalar, length: Scalar = 1) -> str:
    start = int(_number(first) or 0)
    start = max(start + len(text), 0) if start < 0 else start
    return text[start : start + _count(length)]


def _count(value: Scalar) -> int:
    return max(int(_number(value) or 0), 0)


def _round(number: int | Decimal, digits: int | Decimal = 0) -> int | Decimal:
    places = min(max(int(digits), 0), 10)
    rounded = Decimal(number).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return rounded if places else int(rounded)


def _divide(number: int | Decimal, by: int | Decimal) -> int | Decimal:
    return number // by if isinstance(number, int) and isinstance(by, int) else Decimal(number) / Decimal(by)


def _modulo(number: int | Decimal, by: int | Decimal) -> int | Decimal:
    # Python's sign (the divisor's), as in Liquid; Decimal's own % would give the dividend's
    return number - by * (number // by) if isinstance(number, int) else number - by * _floor(number / by)


def _floor(number: int | Decimal) -> int:
    return int(number // 1) if isinstance(number, int) else int(number.to_integral_value("ROUND_FLOOR"))


def _date(value: Scalar, shape: Scalar) -> Scalar:
    """A date or timestamp (ISO 8601), or "now" (UTC), in strftime's letters; anything else stays as it is."""
    text = text_of(value).strip()
    if not text:
        return None
    try:
        when = datetime.now(UTC) if text in ("now", "today") else datetime.fromisoformat(text[:64])
    except ValueError:
        return text[: LONGEST + 1]
    return _DIRECTIVE.sub(lambda found: _directive(found[1], when), text_of(shape)[:100])


def _directive(name: str, when: datetime) -> str:
    letter = name.lstrip("-")
    known = DIRECTIVES.get(letter)
    if known is None:
        return ""
    shown = known(when)
    return shown.lstrip("0 ") or "0" if name != letter and shown.strip().isdigit() else shown


# Our own and English: strftime would follow the server's locale, and takes a field width of a billion.
DIRECTIVES: Final[Mapping[str, Callable[[datetime], str]]] = {
    "Y": lambda when: f"{when.year:04}",
    "y": lambda when: f"{when.year % 100:02}",
    "m": lambda when: f"{when.month:02}",
    "B": lambda when: _MONTHS[when.month - 1],
    "b": lambda when: _MONTHS[when.month - 1][:3],
    "d": lambda when: f"{when.day:02}",
    "e": lambda when: f"{when.day:2}",
    "A": lambda when: _DAYS[when.weekday()],
    "a": lambda when: _DAYS[when.weekday()][:3],
    "H": lambda when: f"{when.hour:02}",
    "I": lambda when: f"{(when.hour - 1) % 12 + 1:02}",
    "M": lambda when: f"{when.minute:02}",
    "S": lambda when: f"{when.second:02}",
    "p": lambda when: "AM" if when.hour < 12 else "PM",
    "%": lambda when: "%",
}

FILTERS: Final[Mapping[str, Filter]] = {
    "default": Filter(_default, ("any",), 1, makes="any"),
    # Values are escaped for their place anyway: people write it out of habit, and twice would show &amp;amp;.
    "escape": Filter(_same, makes="any"),
    "upcase": Filter(_on_text(str.upper)),
    "downcase": Filter(_on_text(str.lower)),
    "capitalize": Filter(_on_text(str.capitalize)),
    "strip": Filter(_on_text(str.strip)),
    "squish": Filter(_on_text(lambda text: " ".join(text.split()))),
    "append": Filter(_on_text(lambda text, more: text + text_of(more)), ("any",), 1),
    "prepend": Filter(_on_text(lambda text, before: text_of(before) + text), ("any",), 1),
    "truncate": Filter(_on_text(_truncate), ("number", "text")),
    "truncatewords": Filter(_on_text(_truncate_words), ("number", "text")),
    "slice": Filter(_on_text(_slice), ("number", "number"), 1),
    "url_encode": Filter(_on_text(quote_plus)),
    "date": Filter(_date, ("text",), 1),
    "plus": Filter(_on_number(lambda number, other: number + other), ("number",), 1, makes="number"),
    "minus": Filter(_on_number(lambda number, other: number - other), ("number",), 1, makes="number"),
    "times": Filter(_on_number(lambda number, other: number * other), ("number",), 1, makes="number"),
    "divided_by": Filter(_on_number(_divide), ("number",), 1, makes="number"),
    "modulo": Filter(_on_number(_modulo), ("number",), 1, makes="number"),
    "round": Filter(_on_number(_round), ("number",), makes="number"),
    "ceil": Filter(_on_number(lambda number: -_floor(-number)), makes="number"),
    "floor": Filter(_on_number(_floor), makes="number"),
    "abs": Filter(_on_number(abs), makes="number"),
    "at_least": Filter(_on_number(max), ("number",), 1, makes="number"),
    "at_most": Filter(_on_number(min), ("number",), 1, makes="number"),
}
