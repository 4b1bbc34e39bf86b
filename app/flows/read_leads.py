"""Records of a file become leads that are ready to be merged: column by column, because rows come by the million."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from json.encoder import encode_basestring as quote

import orjson

from app import cells
from app.addresses import match_plain, read_address
from app.errors import Invalid
from app.flows.lead_columns import Column, Columns
from app.flows.read_csv import Reject

MEMORY = 50_000  # different cells that a column remembers
NULL = "\x01"  # stands for COPY's \N until backslashes are doubled; JSON never carries it bare


@dataclass(slots=True)
class Leads:
    """Leads of one block, each address once: four columns of equal length.

    A body is what stands between the braces of the attributes' JSON. `repeated` rows were merged into later ones.
    """

    emails: Sequence[str]
    domains: Sequence[str]
    zones: Sequence[str]
    bodies: Sequence[str]
    repeated: int = 0

    def keep(self, chosen: Sequence[bool]) -> None:
        """Drops the leads that are not chosen."""
        for name in ("emails", "domains", "zones", "bodies"):
            setattr(self, name, list(compress(getattr(self, name), chosen)))

    def lines(self, numbers: Mapping[str, int]) -> str:
        """COPY's lines: email, domain's number, time zone, attributes. By address, or two imports would deadlock."""
        rows = zip(self.emails, map(numbers.__getitem__, self.domains), self.zones, self.bodies, strict=True)
        lines = [f"{email}\t{number}\t{zone}\t{{{body}}}\n" for email, number, zone, body in rows]
        lines.sort()
        return "".join(lines).replace("\\", "\\\\").replace(NULL, "\\N")


class LeadReader:
    """Reads the records of one file under its columns; `time_zones` are the known ones by their small letters."""

    def __init__(self, columns: Columns, time_zones: Mapping[str, str]) -> None:
        self.columns = columns
        self._fragments = [_TextColumn(c) if c.type == "text" else _Memo(_attribute(c)) for c in columns.attributes]
        self._zones = _Memo(_zone(time_zones), empty=NULL)

    def read(self, records: Sequence[Sequence[str]], lines: Sequence[int]) -> tuple[Leads, list[Reject]]:
        """The leads of the records that are good, and the others with the reason; `lines` are where they begin."""
        rejects, records, lines = self._drop_uneven(records, lines)
        if not records:
            return Leads((), (), (), ()), rejects
        table = [[record[place].strip() for record in records] for place in range(self.columns.width)]
        faults: dict[int, str] = {}
        emails, domains = _read_emails(table[self.columns.email], faults)
        zones = self._read_zones(table, faults)
        fragments = [
            _read_cells(memory, table[column.index], column.name, faults)
            for memory, column in zip(self._fragments, self.columns.attributes, strict=True)
        ]
        rejects += [Reject(lines[row], reason, records[row]) for row, reason in faults.items()]
        return _merge_repeats(emails, domains, zones, fragments, faults), rejects

    def _read_zones(self, table: Sequence[list[str]], faults: dict[int, str]) -> list[str]:
        if self.columns.time_zone is None:
            return [NULL] * len(table[0])
        return _read_cells(self._zones, table[self.columns.time_zone], "time_zone", faults)

    def _drop_uneven(
        self, records: Sequence[Sequence[str]], lines: Sequence[int]
    ) -> tuple[list[Reject], Sequence[Sequence[str]], Sequence[int]]:
        width = self.columns.width
        if set(map(len, records)) <= {width}:
            return [], records, lines
        rejects: list[Reject] = []
        even: list[Sequence[str]] = []
        begins: list[int] = []
        for record, line in zip(records, lines, strict=True):
            if len(record) == width or (len(record) > width and not any(record[width:])):  # spare delimiters at the end
                even.append(record[:width])
                begins.append(line)
            else:
                rejects.append(Reject(line, f"The row has {len(record)} cells, the header has {width}.", record))
        return rejects, even, begins


class _Memo(dict[str, str]):
    """Cell → fragment, each different cell read once; what cannot be read is "" here and has its reason in `faults`."""

    def __init__(self, read: Callable[[str], str], empty: str = "") -> None:
        super().__init__()
        self.read = read
        self.empty = empty
        self.faults: dict[str, str] = {}

    def __missing__(self, cell: str) -> str:
        try:
            found = self.read(cell) if cell else self.empty
        except ValueError as error:
            self.faults[cell] = str(error)
            found = self.empty
        self[cell] = found
        return found

    def column(self, given: list[str]) -> list[str]:
        if len(self) > MEMORY:
            self.clear()
            self.faults.clear()
        return list(map(self.__getitem__, given))


class _TextColumn:
    """Texts seldom repeat often enough to be remembered: quoting one costs as much as looking it up."""

    def __init__(self, column: Column) -> None:
        self.begin = f'"{column.name}":'
        self.faults: dict[str, str] = {}

    def column(self, given: list[str]) -> list[str]:
        self.faults = {}
        if max(map(len, given)) > cells.LONGEST_TEXT:
            self.faults = dict.fromkeys((cell for cell in given if len(cell) > cells.LONGEST_TEXT), cells.TOO_LONG)
        begin = self.begin
        return [begin + quote(cell) if cell else "" for cell in given]


def _attribute(column: Column) -> Callable[[str], str]:
    def read(cell: str) -> str:
        return f'"{column.name}":{orjson.dumps(cells.read(column.type, cell)).decode()}'

    return read


def _zone(time_zones: Mapping[str, str]) -> Callable[[str], str]:
    def read(cell: str) -> str:
        try:
            return time_zones[cell.lower()]
        except KeyError:
            raise ValueError(f"is no time zone (as in Europe/Berlin): {cells.shorten(cell)}") from None

    return read


def _read_cells(memory: _Memo | _TextColumn, given: list[str], name: str, faults: dict[int, str]) -> list[str]:
    found = memory.column(given)
    if memory.faults:
        wrong = memory.faults
        for row, cell in enumerate(given):
            if cell in wrong:
                faults.setdefault(row, f"{name} {wrong[cell]}.")
    return found


def _read_emails(given: list[str], faults: dict[int, str]) -> tuple[list[str], list[str]]:
    """Addresses and their domains, "" where there is a fault."""
    emails = [cell.lower() for cell in given]
    if "".join(given).isascii():  # only then do small letters change nothing else (see app.addresses)
        domains = [found[1] if (found := match_plain(email)) else "" for email in emails]
    else:
        domains = [""] * len(given)
    for row, domain in enumerate(domains):
        if not domain:
            try:
                emails[row], domains[row] = read_address(given[row])
            except Invalid as error:
                faults[row] = error.faults[0].message
    return emails, domains


def _merge_repeats(
    emails: list[str], domains: list[str], zones: list[str], fragments: list[list[str]], faults: Collection[int]
) -> Leads:
    """Each address once, where its last good row stands; what that row does not give is taken from the rows before."""
    last = {email: row for row, email in enumerate(emails) if row not in faults}
    repeated = len(emails) - len(faults) - len(last)
    if repeated:
        earlier = [row for row, email in enumerate(emails) if row not in faults and last[email] != row]
        for row in reversed(earlier):
            final = last[emails[row]]
            for column, empty in [(zones, NULL), *((column, "") for column in fragments)]:
                if column[final] == empty:
                    column[final] = column[row]
    leads = Leads(emails, domains, zones, _bodies(fragments, len(emails)), repeated)
    if len(last) < len(emails):
        kept = set(last.values())
        leads.keep([row in kept for row in range(len(emails))])
    return leads


def _bodies(fragments: Sequence[list[str]], rows: int) -> list[str]:
    if not fragments:
        return [""] * rows
    if not any("" in column for column in fragments):
        return list(map(",".join, zip(*fragments, strict=True)))
    return [",".join(filter(None, row)) for row in zip(*fragments, strict=True)]
