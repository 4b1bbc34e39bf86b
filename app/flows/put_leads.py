"""Leads put in by a program: up to a thousand at once, added or changed by their address, all of them or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import cells
from app.addresses import match_plain, read_address
from app.errors import Fault, Invalid
from app.flows.lead_columns import EMAIL, LONGEST_NAME, TIME_ZONE, normal_name
from app.flows.read_leads import NULL
from app.models import lead
from app.runtime import Runtime

TRIES: Final = 5
# Somebody else added the same address at that moment, or held a lead that we held the other half of: do it again.
AGAIN: Final = ("23505", "40P01", "40001")
MOST_FAULTS: Final = 100
RESERVED: Final = frozenset({EMAIL, TIME_ZONE, "id", "status"})
JSON_TYPES: Final = {bool: "boolean", int: "number", float: "number", str: "text"}


@dataclass(frozen=True, slots=True)
class NewLead:
    """A lead as a program has it; an attribute is a text, a number or a truth value. What is not given stays."""

    email: str
    time_zone: str | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Put:
    """What became of them: how many were added, changed, and known like this; ids in the order that was given."""

    added: int
    changed: int
    unchanged: int
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Row:
    email: str
    domain: str
    zone: str | None
    attributes: Mapping[str, object]


def put(runtime: Runtime, organisation_id: int, given: Sequence[NewLead]) -> Put:
    """Add those whose address is new, and change the others: attributes that are given replace what was there.

    Attributes that no lead had are entered, with the type that their values have. Raises Invalid naming "<n>.email",
    "<n>.time_zone" or "<n>.attributes/<name>"; nothing was changed then.
    """
    with runtime.db.begin() as conn:
        zones = _time_zones(conn) if any(each.time_zone for each in given) else {}
        types = lead.load_attributes(conn, organisation_id)
    faults: list[Fault] = []
    new = _suggest(given, types, faults)
    rows = [_read(place, each, types | new, zones, faults) for place, each in enumerate(given)]
    _refuse_repeats(rows, faults)
    if faults:
        raise Invalid(faults[:MOST_FAULTS])
    for left in reversed(range(TRIES)):
        try:
            with runtime.db.begin() as conn:
                return _merge(conn, organisation_id, rows, new)
        except DBAPIError as error:
            if not left or getattr(error.orig, "sqlstate", None) not in AGAIN:
                raise
    raise AssertionError("the last try returns or raises")


def _merge(conn: Connection, organisation_id: int, rows: Sequence[_Row], new: Mapping[str, str]) -> Put:
    registered = lead.register_attributes(conn, organisation_id, new) if new else {}
    if any(registered.get(name) != kind for name, kind in new.items()):
        raise Invalid.one("", "Somebody else has just entered one of these attributes with another type: try again.")
    numbers = lead.number_domains(conn, {row.domain for row in rows})
    lead.stage(conn, [_lines(rows, numbers)])
    merged = lead.merge(conn, organisation_id)
    ids = lead.find_ids_of(conn, organisation_id, [row.email for row in rows])
    return Put(len(merged.added), len(merged.changed), len(merged.same), [ids[row.email] for row in rows])


def _lines(rows: Sequence[_Row], numbers: Mapping[str, int]) -> str:
    """COPY's lines: by address, or two that put the same leads would wait for each other."""
    lines = [
        f"{row.email}\t{numbers[row.domain]}\t{row.zone or NULL}\t{orjson.dumps(row.attributes).decode()}\n"
        for row in rows
    ]
    lines.sort()
    return "".join(lines).replace("\\", "\\\\").replace(NULL, "\\N")


def _suggest(given: Sequence[NewLead], known: Mapping[str, str], faults: list[Fault]) -> dict[str, str]:
    """Types of the attributes that are new, by their values: texts that all are dates are dates."""
    values: defaultdict[str, list[object]] = defaultdict(list)
    for place, each in enumerate(given):
        for name, value in each.attributes.items():
            if name in known:
                continue
            if name not in values and (fault := _bad_name(name)):
                faults.append(Fault(f"{place}.attributes/{name[:LONGEST_NAME]}", fault))
            elif type(value) in JSON_TYPES:
                values[name].append(value)
            else:
                said = "This must be a text, a number, true or false."
                faults.append(Fault(f"{place}.attributes/{name}", said))
    return {name: _type_of(found) for name, found in values.items()}


def _type_of(values: Sequence[object]) -> str:
    kinds = {JSON_TYPES[type(value)] for value in values}
    if kinds != {"text"}:
        return kinds.pop() if len(kinds) == 1 else "text"  # what does not suit is a fault of its own
    return "date" if cells.suggest(str(value) for value in values) == "date" else "text"


def _bad_name(name: str) -> str | None:
    better = normal_name(name)
    if better != name or not name:
        return f"This cannot be an attribute's name; {better or 'first_name'!r} could."
    return "This is no attribute: give it beside the others." if name in RESERVED else None


def _read(place: int, each: NewLead, types: Mapping[str, str], zones: Mapping[str, str], faults: list[Fault]) -> _Row:
    email, domain = _read_email(place, each.email, faults)
    zone = zones.get(each.time_zone.strip().lower()) if each.time_zone else None
    if each.time_zone and zone is None:
        said = f"There is no time zone {cells.shorten(each.time_zone)} (as in Europe/Berlin)."
        faults.append(Fault(f"{place}.time_zone", said))
    attributes = {}
    for name, value in each.attributes.items():
        if name in types:  # otherwise its name is a fault already
            try:
                attributes[name] = READERS[types[name]](value)
            except ValueError as error:
                faults.append(Fault(f"{place}.attributes/{name}", f"The value {error}."))
    return _Row(email, domain, zone, attributes)


def _read_email(place: int, raw: str, faults: list[Fault]) -> tuple[str, str]:
    if found := match_plain(raw):
        return raw, found[1]
    try:
        return read_address(raw)
    except Invalid as error:
        faults += [Fault(f"{place}.email", fault.message) for fault in error.faults]
        return "", ""


def _refuse_repeats(rows: Sequence[_Row], faults: list[Fault]) -> None:
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        if row.email and first.setdefault(row.email, place) != place:
            faults.append(Fault(f"{place}.email", f"Number {first[row.email]} of the list has the same address."))


def _read_text(value: object) -> cells.Value:
    if type(value) is not str:
        raise ValueError("must be a text")
    return cells.read("text", value)


def _read_number(value: object) -> cells.Value:
    if type(value) is not int and type(value) is not float:
        raise ValueError("must be a number")
    if type(value) is int and abs(value) >= 10**cells.MOST_DIGITS:
        raise ValueError(f"has more than {cells.MOST_DIGITS} digits")
    assert isinstance(value, int | float)
    return value


def _read_boolean(value: object) -> cells.Value:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _read_date(value: object) -> cells.Value:
    if type(value) is not str:
        raise ValueError("must be a date, as a text (as in 2026-11-30)")
    return cells.read("date", value)


READERS: Final[Mapping[str, Callable[[object], cells.Value]]] = {
    "text": _read_text,
    "number": _read_number,
    "boolean": _read_boolean,
    "date": _read_date,
}
_zones: dict[str, dict[str, str]] = {}


def _time_zones(conn: Connection) -> Mapping[str, str]:
    """The database's time zones, asked for once: it takes a tenth of a second."""
    if "all" not in _zones:
        _zones["all"] = lead.load_time_zones(conn)
    return _zones["all"]
