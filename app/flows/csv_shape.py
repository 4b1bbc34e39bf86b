"""How a CSV file is written: its encoding, delimiter and line ends, found from its first megabyte; and its header."""

from __future__ import annotations

import csv
import io
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, lookup
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from charset_normalizer import from_bytes

from app.errors import Invalid

HEAD = 1 << 20  # bytes that are looked at
MOST_COLUMNS = 500
DELIMITERS = ",;\t|"

# The longer first: UTF-32's little-endian mark begins with UTF-16's.
MARKS = (
    (BOM_UTF32_LE, "utf-32-le"),
    (BOM_UTF32_BE, "utf-32-be"),
    (BOM_UTF8, "utf-8"),
    (BOM_UTF16_LE, "utf-16-le"),
    (BOM_UTF16_BE, "utf-16-be"),
)
WIDTHS = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}
# What a file may be said to be written in, by its makers' names; the rest is Python's business.
NAMES = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8", "iso8859-1": "cp1252", "latin-1": "cp1252"}
MAGIC = {
    b"PK\x03\x04": "This is an Excel workbook or a ZIP archive: save it as CSV, or unpack it, and import that.",
    b"\xd0\xcf\x11\xe0": "This is an old Excel workbook: save it as CSV and import that.",
    b"\x1f\x8b": "This file is compressed with gzip: unpack it and import that.",
    b"%PDF": "This is a PDF: only CSV files can be imported.",
}
# Encodings worth a guess; every other has to be declared.
LATIN = ("cp1252", "cp1250")
GUESSES = ("cp1251", "cp1253", "shift_jis", "gb18030", "big5", "euc_kr")


@dataclass(frozen=True, slots=True)
class Shape:
    """How to read a file. `encoding` "ascii" says that its head left that open: UTF-8, or else Windows-1252.

    `data_at` and `data_line` are where the first row behind the header begins: a byte, and a line counted from 1.
    """

    encoding: str
    delimiter: str
    newline: str
    header: tuple[str, ...]
    data_at: int
    data_line: int

    @property
    def width(self) -> int:
        """Bytes of a line end."""
        return WIDTHS.get(self.encoding, 1)

    @property
    def line_end(self) -> bytes:
        return self.newline.encode(self.encoding if self.encoding in WIDTHS else "ascii")

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Shape:
        return cls(**{**stored, "header": tuple(stored["header"])})  # type: ignore[arg-type]


def find_shape(head: bytes, encoding: str | None = None, delimiter: str | None = None) -> Shape:
    """The shape of the file that begins with `head` (its first HEAD bytes, or all of it); what is given is not guessed.

    Raises Invalid (pointer "file") where this is no CSV file with a header.
    """
    _refuse_others(head)
    mark, encoding = _find_encoding(head, _known(encoding) if encoding else None)
    body = head[len(mark) :]
    newline = "\r" if _encode("\r", encoding) in body and _encode("\n", encoding) not in body else "\n"
    text = _decode_head(body, encoding)
    if len(head) >= HEAD and "\n" not in text and "\r" not in text:
        raise Invalid.one("file", "The first line is longer than a megabyte: this is no CSV file with a header.")
    lines = io.StringIO(text.replace("\r", "\n") if newline == "\r" else text, newline="\n")
    delimiter = delimiter or _find_delimiter(lines)
    header, taken = _read_header(lines, delimiter)
    data_at = len(mark) + _bytes_of(taken, body, encoding, newline)
    return Shape(encoding, delimiter, newline, header, data_at, len(taken) + 1)


def _bytes_of(taken: Sequence[str], body: bytes, encoding: str, newline: str) -> int:
    if encoding in WIDTHS:
        return len("".join(taken).encode(encoding))
    # Counted by line ends: not every old encoding gives the same bytes back.
    parts = body.split(newline.encode(), len(taken))
    return len(body) - (len(parts[-1]) if len(parts) > len(taken) else 0)


def _refuse_others(head: bytes) -> None:
    if not head.strip():
        raise Invalid.one("file", "The file is empty.")
    for magic, message in MAGIC.items():
        if head.startswith(magic):
            raise Invalid.one("file", message)


def _known(encoding: str) -> str:
    try:
        name = lookup(encoding.strip()).name
    except LookupError:
        raise Invalid.one("encoding", f"There is no encoding called {encoding!r}.") from None
    return NAMES.get(name, name)


def _find_encoding(head: bytes, declared: str | None) -> tuple[bytes, str]:
    for mark, encoding in MARKS:
        if head.startswith(mark) and declared in (None, encoding):
            return mark, encoding
    if declared:
        return b"", declared
    return b"", _without_mark(head)


def _without_mark(head: bytes) -> str:
    sample = head[:4096]
    if sample.count(0) > len(sample) // 4:  # every second byte of Latin text in UTF-16 is 0
        return "utf-16-le" if sample[1::2].count(0) > sample[0::2].count(0) else "utf-16-be"
    if head.isascii():
        return "ascii"
    telling = [line for line in head.splitlines() if not line.isascii()]
    right = sum(map(_is_utf8, telling))
    return "utf-8" if right * 2 > len(telling) else _guess(telling)  # a few wrong bytes cost their rows


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _guess(telling: Sequence[bytes]) -> str:
    sample = b"\n".join(telling)[: 1 << 16]
    best = from_bytes(sample, cp_isolation=[*LATIN, *GUESSES]).best()
    if best is not None and best.encoding in GUESSES:
        return best.encoding
    # It takes one Latin alphabet for the other. What is a letter in one is often a sign in the other: "£ódŸ" is Łódź.
    return min(LATIN, key=lambda encoding: sum(_is_sign(letter) for letter in sample.decode(encoding, "replace")))


def _is_sign(letter: str) -> bool:
    return not letter.isascii() and not letter.isalpha()


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("utf-8" if encoding == "ascii" else encoding)


def _decode_head(body: bytes, encoding: str) -> str:
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        # A letter cut in two at the end, or a wrong byte in some row: that costs its row, not the file.
        text = body[: error.start].decode(encoding)
        if "\n" not in text and "\r" not in text:
            raise Invalid.one("file", f"The first line is not written in {encoding}.") from None
        return text


def _find_delimiter(lines: io.StringIO) -> str:
    first = next((line for line in lines if line.strip()), "")
    lines.seek(0)
    outside = "".join(first.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def _read_header(lines: Iterable[str], delimiter: str) -> tuple[tuple[str, ...], list[str]]:
    """The header's cells, and the lines up to the first row behind it."""
    taken: list[str] = []

    def tapped() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    try:
        cells = next((row for row in csv.reader(tapped(), delimiter=delimiter, strict=True) if any(row)), None)
    except csv.Error:
        raise Invalid.one("file", "The first line is not a header: its quotation marks do not match.") from None
    if cells is None:
        raise Invalid.one("file", "The file has no header: its first line must name the columns.")
    if len(cells) > MOST_COLUMNS:
        raise Invalid.one("file", f"The file has {len(cells):,} columns; at most {MOST_COLUMNS} can be imported.")
    return tuple(cell.strip() for cell in cells), taken
