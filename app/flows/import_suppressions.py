"""Lists of suppressed addresses, from other systems and providers or from our own export, read from a stream.

A row needs an address and nothing else. It is done block by block, each in a transaction of its own, and the same file
may be read any number of times: an address keeps the gravest of its reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import BinaryIO, Final

from sqlalchemy.exc import DBAPIError

from app.addresses import match_plain, read_address
from app.errors import Invalid
from app.flows.csv_shape import HEAD, Shape, find_shape
from app.flows.lead_columns import EMAIL_NAMES, normal_name
from app.flows.read_csv import Block, Position, Reject, read_blocks
from app.flows.suppressions import call, senders_of
from app.models.suppression import EVERYBODY, REASONS, Entry, suppress_each
from app.runtime import Runtime

CHUNK: Final = 1 << 18  # bytes: some 8,000 rows in a transaction
LONGEST: Final = 200  # characters of a source
TRIES: Final = 5
DEADLOCK: Final = "40P01"

# How the header's cells are called in our own export, and in what providers let their customers download.
COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "email": frozenset(EMAIL_NAMES | {"recipient", "address", "emails"}),
    "reason": frozenset({"reason", "type", "suppression_reason", "suppressionreason"}),
    "source": frozenset({"source", "note", "comment", "origin"}),
    "since": frozenset({"since", "created", "created_at", "createdat", "date", "lastupdatetime", "happened_at"}),
    "sender": frozenset({"sender"}),
}
# What they say of a reason; any other text is kept as the source.
WORDS: Final[Mapping[str, str]] = {reason: reason for reason in REASONS} | {
    **dict.fromkeys(("bounce", "bounces", "hard", "hard_bounce", "hardbounce", "hard_bounced", "invalid"), "bounced"),
    **dict.fromkeys(
        ("complaint", "complaints", "spam", "spam_complaint", "spamcomplaint", "spam_report"), "complained"
    ),
    **dict.fromkeys(("unsubscribe", "unsubscribes", "opt_out", "optout", "contactunsubscribed"), "unsubscribed"),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for rows that do not say otherwise, and who reads the file."""

    reason: str = "manual"
    sender_id: int = EVERYBODY
    source: str = "a file"
    user_id: int | None = None


@dataclass(slots=True)
class Imported:
    """What came of a file: rows read, addresses that were not suppressed before, rows that were not taken."""

    rows: int = 0
    added: int = 0
    rejected: int = 0

    @property
    def known(self) -> int:
        """Rows whose address was suppressed already, or stood in the file before."""
        return self.rows - self.added - self.rejected


def import_file(
    runtime: Runtime,
    organisation_id: int,
    stream: BinaryIO,
    options: Options,
    on_reject: Callable[[Reject], None] = lambda _: None,
) -> Imported:
    """Suppress the addresses of a CSV file; each row that is not taken is told to `on_reject`, with its line.

    Raises Invalid ("file") where this is no CSV file, or none with addresses; nothing was changed then. It is not held
    whole in memory.
    """
    head = stream.read(HEAD)
    shape = find_shape(head)
    with runtime.db.begin() as conn:
        senders = {
            name.lower(): number
            for number, each in senders_of(conn, organisation_id).items()
            for name in (each.address, call(each))
        }
    rows = _Rows(shape, options, senders)
    done = Imported()
    for block in _blocks(shape, head, stream):
        entries, rejects = rows.read(block)
        done.added += _suppress(runtime, organisation_id, entries, options.user_id)
        done.rows += len(block.records) + len(block.rejects)
        done.rejected += len(rejects)
        for reject in rejects:
            on_reject(reject)
    return done


def _suppress(runtime: Runtime, organisation_id: int, entries: Sequence[Entry], user_id: int | None) -> int:
    """A block's addresses; again where PostgreSQL ended it: a file of leads may change the same ones, last first."""
    for left in reversed(range(TRIES)):
        try:
            with runtime.db.begin() as conn:
                return suppress_each(conn, organisation_id, entries, user_id=user_id)
        except DBAPIError as error:
            if not left or getattr(error.orig, "sqlstate", None) != DEADLOCK:
                raise
    raise AssertionError("the last try returns or raises")


def _blocks(shape: Shape, head: bytes, stream: BinaryIO) -> Iterator[Block]:
    """The file's rows; its first line is one of them where it holds an address, and not the columns' names."""
    if _place_of_address(shape.header) is not None:
        yield Block(records=[list(shape.header)], lines=[max(1, shape.data_line - 1)])
    pieces = [head[at : at + CHUNK] for at in range(shape.data_at, len(head), CHUNK)]
    rest: Iterable[bytes] = iter(lambda: stream.read(CHUNK), b"")
    yield from read_blocks(chain(pieces, rest), shape, Position(shape.data_at, shape.data_line))


def _place_of_address(cells: Sequence[str]) -> int | None:
    return next((place for place, cell in enumerate(cells) if match_plain(cell.strip().lower())), None)


class _Rows:
    """Reads a file's rows as entries."""

    def __init__(self, shape: Shape, options: Options, senders: Mapping[str, int]) -> None:
        self.options = options
        self.senders = senders
        self.now = datetime.now(UTC)
        self.places = _places(shape.header)

    def read(self, block: Block) -> tuple[list[Entry], list[Reject]]:
        """The block's entries, and its rows that are none."""
        entries, rejects = [], list(block.rejects)
        for line, record in zip(block.lines, block.records, strict=True):
            try:
                entries.append(self._entry(record))
            except Invalid as invalid:
                rejects.append(Reject(line, invalid.faults[0].message, record))
        return entries, sorted(rejects, key=lambda each: each.line)

    def _entry(self, record: Sequence[str]) -> Entry:
        said = {name: _cell(record, place) for name, place in self.places.items()}
        email, _ = read_address(_unquoted(said["email"]))
        word = WORDS.get(normal_name(said.get("reason", "")))
        told = said.get("source") or ("" if word else said.get("reason", "")) or self.options.source
        return Entry(
            email=email,
            reason=word or self.options.reason,
            source=_unquoted(told)[:LONGEST],
            sender_id=self._sender(said.get("sender", "")),
            at=self._time(said.get("since", "")),
        )

    def _sender(self, said: str) -> int:
        if not said:
            return self.options.sender_id
        try:
            return self.senders[_unquoted(said).lower()]
        except KeyError:
            raise Invalid.one("sender", f"There is no sender {said[:80]}.") from None

    def _time(self, said: str) -> datetime | None:
        """None, which is now, where nothing is said that could be read as a time; never later than now."""
        try:
            at = datetime.fromtimestamp(int(said), UTC) if said.isdigit() else datetime.fromisoformat(said)
            return min(at if at.tzinfo else at.replace(tzinfo=UTC), self.now)
        except (ValueError, OverflowError, OSError):
            return None


def _places(header: Sequence[str]) -> dict[str, int]:
    """name -> column. Raises Invalid where no column has the address."""
    place = _place_of_address(header)
    if place is not None:
        return {"email": place}
    names = [normal_name(cell) for cell in header]
    places = {
        meaning: next(place for place, name in enumerate(names) if name in called)
        for meaning, called in COLUMNS.items()
        if called & set(names)
    }
    if "email" not in places:
        raise Invalid.one("file", f"No column is called “email”: the first line says {', '.join(header)[:200]}.")
    return places


def _cell(record: Sequence[str], place: int) -> str:
    return record[place].strip() if place < len(record) else ""


def _unquoted(cell: str) -> str:
    """Without the apostrophe that keeps a spreadsheet from reckoning: our own export puts it there."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in "=+-@\t\r＝＋－＠" and len(cell) > 1 else cell
