"""Which column of a file is what: the address, the time zone, an attribute of which type, or nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app import cells
from app.addresses import match_plain
from app.errors import Fault, Invalid

EMAIL, TIME_ZONE, SKIP = "email", "time_zone", ""
# How header cells call these, in the form that `normal_name` gives.
EMAIL_NAMES = {"email", "e_mail", "mail", "email_address", "e_mail_address", "mail_address", "emailaddress"} | {
    "emailadresse", "email_adresse", "e_mail_adresse", "mailadresse", "correo", "correo_electronico", "courriel",
    "adresse_email", "adresse_e_mail", "indirizzo_email",
}  # fmt: skip
TIME_ZONE_NAMES = {"time_zone", "timezone", "tz", "zeitzone", "fuseau_horaire", "zona_horaria"}
LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class Column:
    """An attribute's column: its place in a row, the attribute's name and type."""

    index: int
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row's parts stand. `width` is the header's; `time_zone` is None where no column gives one."""

    width: int
    email: int
    time_zone: int | None
    attributes: tuple[Column, ...]


def name_columns(header: Sequence[str], mapping: Mapping[str, str]) -> list[str]:
    """What each column is: EMAIL, TIME_ZONE, an attribute's name, or SKIP.

    `mapping` (header cell → one of these) decides before the header's own words do. Raises Invalid when there is not
    exactly one address, or two columns are the same thing.
    """
    chosen = {cell: _chosen(cell, wanted) for cell, wanted in mapping.items()}
    taken = set(chosen.values())
    names = [chosen[cell] if cell in chosen else _natural(cell, place, taken) for place, cell in enumerate(header)]
    faults = [Fault(f"mapping/{cell}", "There is no such column.") for cell in mapping if cell not in header]
    faults += [
        Fault("file", f"Two columns are {name!r}: {_both(header, names, name)}. Rename one of them.")
        for name in dict.fromkeys(names)
        if name and names.count(name) > 1
    ]
    if EMAIL not in names:
        faults.append(Fault("file", _no_email(header)))
    if faults:
        raise Invalid(faults)
    return names


def plan(names: Sequence[str], types: Mapping[str, str]) -> Columns:
    """The columns under the registry `types`, which knows every attribute among `names`."""
    attributes = tuple(Column(i, n, types[n]) for i, n in enumerate(names) if n not in (EMAIL, TIME_ZONE, SKIP))
    time_zone = names.index(TIME_ZONE) if TIME_ZONE in names else None
    return Columns(len(names), names.index(EMAIL), time_zone, attributes)


def suggest_types(names: Sequence[str], known: Mapping[str, str], records: Sequence[Sequence[str]]) -> dict[str, str]:
    """Types for the attributes that the registry does not know yet, from a file's first records."""
    whole = [record for record in records if len(record) == len(names)]
    new = [(i, n) for i, n in enumerate(names) if n not in (EMAIL, TIME_ZONE, SKIP) and n not in known]
    return {name: cells.suggest(record[index].strip() for record in whole) for index, name in new}


def normal_name(text: str) -> str:
    """An attribute's name out of a header cell: "Straße / Nr." → "strasse_nr"; "" where nothing is left of it."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)  # firstName
    name = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
    if name[:1].isdigit():
        name = f"n_{name}"
    return name[:LONGEST_NAME].rstrip("_")


def _natural(cell: str, place: int, taken: Collection[str]) -> str:
    name = normal_name(cell)
    for meaning, names in ((EMAIL, EMAIL_NAMES), (TIME_ZONE, TIME_ZONE_NAMES)):
        if name in names and meaning not in taken:
            return meaning
    if name in taken or name in (EMAIL, TIME_ZONE):  # another column was chosen to be that
        return f"{name}_{place + 1}"
    return name or f"column_{place + 1}"


def _chosen(cell: str, wanted: str) -> str:
    wanted = wanted.strip()
    if wanted and normal_name(wanted) != wanted:
        better = normal_name(wanted) or "first_name"
        raise Invalid.one(f"mapping/{cell}", f"{wanted!r} cannot be an attribute's name; {better!r} could.")
    return wanted


def _both(header: Iterable[str], names: Iterable[str], name: str) -> str:
    return ", ".join(repr(cell) for cell, own in zip(header, names, strict=True) if own == name)


def _no_email(header: Sequence[str]) -> str:
    if any(match_plain(cell.strip().lower()) for cell in header):
        return "The first line already is a lead: put a line above it that names the columns, one of them email."
    found = ", ".join(header[:10]) + (", …" if len(header) > 10 else "")
    return f"No column is called email; the file has {found}. Rename the one with the addresses, or choose it."
