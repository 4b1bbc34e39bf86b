"""Reading CSV: whatever the encoding, the delimiter and the faults, rows keep their lines and memory stays small."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.flows.csv_shape import HEAD, Shape, find_shape
from app.flows.read_csv import LONGEST_LINE, Position, Reject, read_blocks

Row = tuple[int, list[str]]


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data: bytes, size: int = 1 << 20, shape: Shape | None = None) -> tuple[list[Row], list[Reject]]:
    """The rows behind the header with their lines, and the rejects; `data` comes in pieces of `size` bytes."""
    shape = shape or find_shape(data[:HEAD])
    rows: list[Row] = []
    rejects: list[Reject] = []
    start = Position(shape.data_at, shape.data_line)
    for block in read_blocks(cut(data[start.bytes :], size), shape, start):
        rows += zip(block.lines, block.records, strict=True)
        rejects += block.rejects
    return rows, rejects


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-16-le", "utf-16-le"),
        ("utf-32", "utf-32-le"),
        ("cp1252", "cp1252"),
    ],
)
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_an_encoding_is_found_and_read_in_any_pieces(encoding: str, found: str, size: int) -> None:
    words = ["José", "Müller", "François", "Zoë", "Straße", "señor", "Ålesund", "naïve"]
    text = "email,name\n" + "".join(f"a{n}@x.de,{word}\n" for n, word in enumerate(words))
    data = text.encode(encoding)
    assert find_shape(data).encoding == found
    rows, rejects = read(data, size)
    assert rows == [(n + 2, [f"a{n}@x.de", word]) for n, word in enumerate(words)]
    assert rejects == []


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1250", "Łódź Kraków Gdańsk Příbram Šumava Żaneta"),
        ("cp1251", "Москва Иван Ольга"),
        ("cp1253", "Αθήνα Γιώργος"),
        ("shift_jis", "東京 大阪府 山田太郎"),
        ("gb18030", "北京 上海市 王小明"),
        ("euc_kr", "서울특별시 김철수"),
    ],
)
def test_other_alphabets_are_guessed(encoding: str, words: str) -> None:
    text = "email,name\n" + "".join(f"a@x.de,{word}\n" for word in words.split())
    rows, _ = read(text.encode(encoding))
    assert " ".join(cells[1] for _, cells in rows) == words


def test_a_file_that_is_ascii_at_first_may_go_on_in_utf8_or_windows_1252() -> None:
    head = b"email,name\n" + b"a@x.de,Anna\n" * 90_000
    assert len(head) > HEAD
    rows, rejects = read(head + "b@x.de,Zoë\n".encode() + "c@x.de,Zoë\n".encode("cp1252"))
    assert [cells for _, cells in rows[-2:]] == [["b@x.de", "Zoë"], ["c@x.de", "Zoë"]]
    assert rejects == []


def test_a_byte_that_is_no_utf8_costs_its_row_alone() -> None:
    data = "email,name\na@x.de,Zoë\n".encode() + b"b@x.de,Zo\xeb\n" + "c@x.de,José\n".encode()
    rows, rejects = read(data)
    assert [line for line, _ in rows] == [2, 4]
    assert [(reject.line, reject.reason) for reject in rejects] == [(3, "Byte 10 of the line (0xeb) is no utf-8.")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_delimiter_and_line_ends_are_found(delimiter: str, newline: str) -> None:
    text = newline.join([delimiter.join(["email", '"first, name"']), delimiter.join(["a@x.de", "Anna"]), ""])
    rows, rejects = read(text.encode())
    assert (rows, rejects) == ([(2, ["a@x.de", "Anna"])], [])


def test_lf_and_crlf_may_be_mixed_and_a_lone_cr_costs_its_row() -> None:
    rows, rejects = read(b"email,name\r\na@x.de,Anna\nb@x.de,Ben\r\nc@x.de,Car\rla\nd@x.de,David")
    assert rows == [(2, ["a@x.de", "Anna"]), (3, ["b@x.de", "Ben"]), (5, ["d@x.de", "David"])]
    assert [reject.line for reject in rejects] == [4]


@pytest.mark.parametrize("size", [5, 16, 1 << 20])
def test_a_quoted_cell_may_run_over_lines_and_lines_are_counted_through_it(size: int) -> None:
    data = b'email,note\na@x.de,"one\ntwo, ""three"""\n\nb@x.de,four\n'
    assert read(data, size) == ([(2, ["a@x.de", 'one\ntwo, "three"']), (5, ["b@x.de", "four"])], [])


@pytest.mark.parametrize("size", [9, 1 << 20])
def test_a_quote_that_is_never_closed_costs_its_line_not_the_file(size: int) -> None:
    lines = [b"email,name", b'a@x.de,"Anna', *(b"b%d@x.de,Ben" % n for n in range(30))]
    rows, rejects = read(b"\n".join(lines) + b"\n", size)
    assert [line for line, _ in rows] == list(range(3, 33))
    assert [(reject.line, reject.reason) for reject in rejects] == [
        (2, "A quotation mark is opened here and never closed.")
    ]


def test_two_lone_quotes_cost_two_lines() -> None:
    data = b'email,name\na@x.de,"Anna\nb@x.de,Ben\nc@x.de,"Carla\nd@x.de,David\n'
    rows, rejects = read(data)
    assert [line for line, _ in rows] == [3, 5]
    assert [reject.line for reject in rejects] == [2, 4]


def test_a_quote_that_is_never_closed_does_not_swallow_megabytes() -> None:
    data = b'email,name\na@x.de,"Anna\n' + b"b@x.de,Ben\n" * 300_000
    rows, rejects = read(data)
    assert (len(rows), [reject.line for reject in rejects]) == (300_000, [2])


def test_a_nul_costs_its_row() -> None:
    rows, rejects = read(b"email,name\na@x.de,An\0na\nb@x.de,Ben\n")
    assert rows == [(3, ["b@x.de", "Ben"])]
    assert (rejects[0].line, rejects[0].cells) == (2, ["a@x.de", "Anna"])


def test_a_line_of_500_mb_is_passed_over_in_constant_memory() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"a@x.de,Anna\nb@x.de,"
        for _ in range(500):
            yield b"x" * (1 << 20)
        yield b"\nc@x.de,Carla\n"

    shape = find_shape(b"email,name\n")
    tracemalloc.start()
    blocks = list(read_blocks(chunks(), shape, Position(11, 2)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * LONGEST_LINE
    assert [row for block in blocks for row in zip(block.lines, block.records, strict=True)] == [
        (2, ["a@x.de", "Anna"]),
        (4, ["c@x.de", "Carla"]),
    ]
    assert [(reject.line, reject.reason) for block in blocks for reject in block.rejects] == [
        (3, "The line is longer than a megabyte.")
    ]
    assert blocks[-1].end == Position(11 + 19 + (500 << 20) + 14, 5)


CELLS = st.text('ab,;"\n\r éß€\U0001f600', max_size=8)


@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=12), st.integers(1, 40), st.sampled_from(["\n", "\r\n"])
)
@settings(max_examples=300, deadline=None)
def test_what_the_csv_module_writes_is_read_in_any_pieces_from_any_checkpoint(
    cells: list[list[str]], size: int, newline: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([["email", "name"], *cells])
    data = out.getvalue().encode()
    shape = find_shape(data, "utf-8", ",")
    start = Position(shape.data_at, shape.data_line)
    if shape.newline == "\r":
        return  # cells with a lone CR in a file without any LF
    blocks = list(read_blocks(cut(data[start.bytes :], size), shape, start))
    assert [record for block in blocks for record in block.records] == cells
    for block in blocks:  # a takeover begins where any block ended
        later = [r for b in read_blocks(cut(data[block.end.bytes :], size), shape, block.end) for r in b.records]
        assert later == cells[len(cells) - len(later) :]
    assert not blocks or blocks[-1].end.bytes == len(data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is empty."),
        (b" \n\n", "The file is empty."),
        (b"PK\x03\x04rest", "This is an Excel workbook or a ZIP archive"),
        (b"\x1f\x8brest", "compressed with gzip"),
        (b"%PDF-1.7", "only CSV"),
        (b'"email,name\na@x.de,b', "quotation marks"),
        (b"x" * HEAD, "longer than a megabyte"),
        (b",".join([b"c"] * 10_000) + b"\n", "10,000 columns"),
        (b"em\xffail,n\xc3\xa4me\n", "not written in utf-8"),
    ],
)
def test_what_is_no_csv_file_is_refused_with_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        find_shape(data, "utf-8")


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(Invalid, match="There is no encoding called 'klingon'"):
        find_shape(b"email\n", "klingon")
