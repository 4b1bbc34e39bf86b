"""CSV from a stream of bytes, block by block in constant memory: records with their line numbers, and what is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.flows.csv_shape import WIDTHS, Shape

LONGEST_LINE = 1 << 20  # bytes; of a record, too, that runs over several lines
SHOWN = 1000  # characters that a reject keeps of a line that is no record

TOO_LONG = "The line is longer than a megabyte."
NUL = "The row contains a NUL character."
AFTER_QUOTES = "There is text behind a closing quotation mark."
# By the beginnings of the csv module's messages (CPython, Modules/_csv.c).
FAULTS = {
    "unexpected end of data": "A quotation mark is opened here and never closed.",
    "field larger than field limit": "A cell is longer than 131,072 characters, or a quotation mark is never closed.",
    "new-line character seen": "There is a line break within a cell that has no quotation marks.",
}


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been read: bytes, and the number of the line that comes next, counted from 1."""

    bytes: int
    line: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not imported: the line where it begins, why, and what it says."""

    line: int
    reason: str
    cells: Sequence[str]


@dataclass(slots=True)
class Block:
    """Whole records and the line where each begins, rejects, and where the next block begins."""

    records: list[list[str]] = field(default_factory=list)
    lines: Sequence[int] = ()
    rejects: list[Reject] = field(default_factory=list)
    end: Position = Position(0, 1)


def read_blocks(chunks: Iterable[bytes], shape: Shape, start: Position) -> Iterator[Block]:
    """Blocks of records out of `chunks`, the file's bytes from `start` on; about a chunk's worth of records each.

    Reading may begin again at any block's end. A line beyond LONGEST_LINE is passed over without being held.
    """
    at, buffer = start, b""
    too_long: Reject | None = None
    for chunk in chunks:
        buffer += chunk
        cut = _last_line_end(buffer, shape)
        if too_long is None and not cut and len(buffer) > LONGEST_LINE:
            too_long = Reject(at.line, TOO_LONG, [_decode(buffer[:SHOWN], shape.encoding)[0]])
        if too_long is not None:
            skipped = _first_line_end(buffer, shape) or len(buffer) - len(buffer) % shape.width
            at, buffer = Position(at.bytes + skipped, at.line), buffer[skipped:]
            if not cut:
                continue
            at = Position(at.bytes, at.line + 1)
            yield Block(rejects=[too_long], end=at)
            too_long, cut = None, cut - skipped
        if cut:
            block = _parse(buffer[:cut], shape, at, final=False)
            buffer = buffer[block.end.bytes - at.bytes :]
            at = block.end
            yield block
    if too_long is not None:
        yield Block(rejects=[too_long], end=Position(at.bytes + len(buffer), at.line))
    elif buffer:
        yield _parse(buffer, shape, at, final=True)


def _first_line_end(raw: bytes, shape: Shape) -> int:
    """Where the first line of `raw` ends; 0 where none does."""
    mark = shape.line_end
    found = raw.find(mark)
    while found >= 0 and found % shape.width:  # half of one letter and half of the next
        found = raw.find(mark, found + 1)
    return found + shape.width if found >= 0 else 0


def _last_line_end(raw: bytes, shape: Shape) -> int:
    mark = shape.line_end
    found = raw.rfind(mark)
    while found >= 0 and found % shape.width:
        found = raw.rfind(mark, 0, found + shape.width - 1)
    return found + shape.width if found >= 0 else 0


def _parse(raw: bytes, shape: Shape, at: Position, *, final: bool) -> Block:
    """The block that `raw` holds; unless `final`, a record that runs beyond its end is left to the next."""
    text, wrong = _decode(raw if shape.newline == "\n" else _translate(raw, shape), shape.encoding)
    block = None if wrong or "\0" in text else _parse_plain(text, shape.delimiter, at)
    if block is not None:
        block.end = Position(at.bytes + len(raw), at.line + text.count("\n"))
        return block
    lines = io.StringIO(text, newline="\n").readlines()
    block, read = _parse_with_care(lines, wrong, shape.delimiter, at.line, final=final)
    block.end = Position(at.bytes + len(raw) - _bytes_left(raw, lines, read, shape), at.line + read)
    return block


def _translate(raw: bytes, shape: Shape) -> bytes:
    """Lines that end in CR only, as old Macs wrote them, as lines that end in LF: the same number of bytes."""
    if shape.encoding in WIDTHS:
        return raw.decode(shape.encoding, "replace").replace("\r", "\n").encode(shape.encoding)
    return raw.replace(b"\r", b"\n")


def _bytes_left(raw: bytes, lines: Sequence[str], read: int, shape: Shape) -> int:
    if read == len(lines):
        return 0
    if shape.encoding in WIDTHS:
        return len("".join(lines[read:]).encode(shape.encoding))
    # By line ends, not by encoding the text again: not every old encoding gives the same bytes back.
    return len(raw.split(shape.line_end, read)[read])


def _decode(raw: bytes, encoding: str) -> tuple[str, Mapping[int, str]]:
    """The text of whole lines; and by their index those that are not written in `encoding`, with the reason."""
    if encoding in WIDTHS:
        return raw.decode(encoding, "replace"), {}
    try:
        return raw.decode("utf-8" if encoding == "ascii" else encoding), {}
    except UnicodeDecodeError:
        return _decode_lines(raw, encoding)


def _decode_lines(raw: bytes, encoding: str) -> tuple[str, Mapping[int, str]]:
    lines: list[str] = []
    wrong: dict[int, str] = {}
    choices = ("utf-8", "cp1252") if encoding == "ascii" else (encoding,)
    for index, line in enumerate(io.BytesIO(raw)):
        for choice in choices:
            try:
                lines.append(line.decode(choice))
                break
            except UnicodeDecodeError as error:
                fault = f"Byte {error.start + 1} of the line (0x{line[error.start]:02x}) is no {encoding}."
        else:
            wrong[index] = fault
            lines.append(line.decode("utf-8", "replace"))
    return "".join(lines), wrong


def _parse_plain(text: str, delimiter: str, at: Position) -> Block | None:
    """One call into C for the whole block, where each line is a record and none has a fault; otherwise None."""
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    try:
        records = list(reader)
    except csv.Error:
        return None
    if reader.line_num != len(records) or not all(records):
        return None
    return Block(records, range(at.line, at.line + len(records)))


class _Feed:
    """Lines for a csv reader that can be set back: a fault costs the line it began on, not those that it swallowed."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.next = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.next == len(self.lines):
            raise StopIteration
        self.next += 1
        return self.lines[self.next - 1]


def _parse_with_care(
    lines: Sequence[str], wrong: Mapping[int, str], delimiter: str, first: int, *, final: bool
) -> tuple[Block, int]:
    """The block, and how many of its lines were read."""
    feed, block, begins = _Feed(lines), Block(), []
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while (began := feed.next) < len(lines):
        if began in wrong:
            block.rejects.append(Reject(first + began, wrong[began], [_shown(lines[began])]))
            feed.next += 1
            continue
        try:
            record = next(reader)
        except csv.Error as error:
            if _runs_on(error, lines, began) and not final:
                feed.next = began
                break
            block.rejects.append(Reject(first + began, _reason(error), [_shown(lines[began])]))
            feed.next = began + 1
            continue
        fault = next((wrong[n] for n in range(began + 1, feed.next) if n in wrong), None)
        if fault is None and any("\0" in cell for cell in record):
            fault, record = NUL, [cell.replace("\0", "") for cell in record]
        if fault:
            block.rejects.append(Reject(first + began, fault, record))
        elif record:
            block.records.append(record)
            begins.append(first + began)
    block.lines = begins
    return block, feed.next


def _runs_on(error: csv.Error, lines: Sequence[str], began: int) -> bool:
    """Whether the record that began there may end in the next block."""
    return str(error) == "unexpected end of data" and sum(map(len, lines[began:])) < LONGEST_LINE


def _reason(error: csv.Error) -> str:
    return next((fault for start, fault in FAULTS.items() if str(error).startswith(start)), AFTER_QUOTES)


def _shown(line: str) -> str:
    return line.rstrip("\r\n")[:SHOWN].replace("\0", "")
