"""Where a template's Liquid stands in its source, found in one pass that no source can make slow.

python-liquid's own lexer looks for the end of every `{{` and `{% raw %}` again from each of them: half a megabyte of
openings would take it minutes. So what is not closed, too long or too much is refused here, before it sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from app.errors import Fault, Invalid

MOST_MARKS: Final = 1_000  # merge fields and tags of one part
LONGEST_MARK: Final = 1_000  # characters; its expression's lexer is quadratic in them

BLOCKS: Final = ("if", "unless", "case", "for")
BRANCHES: Final[Mapping[str, tuple[str, ...]]] = {
    "else": ("if", "unless", "case"),
    "elsif": ("if", "unless"),
    "when": ("case",),
}

_ENDS = {f"end{name}": (name,) for name in BLOCKS}
_OPENING = re.compile(r"\{\{|\{%")
_NAME = re.compile(r"-?\s*(#|\w*)")
_COMMENTS = re.compile(r"\{%-?\s*(comment|endcomment)\b[^%]*%\}")
_BARE = re.compile(r"-?\s*(raw|doc)\s*-?")
_ENDRAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")
# What no text has a use for; NUL is refused by PostgreSQL too.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Mark:
    """One piece of Liquid: a merge field, a tag, or a whole comment or raw block. `name` is the tag's."""

    kind: Literal["field", "tag", "comment", "raw"]
    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """A part as it was written, and its Liquid in order. In `lexed` comments are blank, and every place is the same."""

    pointer: str
    text: str
    lexed: str
    marks: tuple[Mark, ...]

    def line(self, place: int) -> int:
        """The line of a place, from 1."""
        return self.text.count("\n", 0, max(place, 0)) + 1

    def fault(self, place: int, message: str) -> Fault:
        """What is wrong at a place, with its line."""
        return Fault(self.pointer, f"Line {self.line(place)}: {message}")


def read(pointer: str, text: str, longest: int) -> Source:
    """Find a part's Liquid. Raises Invalid for what is too long or never closed, naming the line."""
    if len(text) > longest:
        raise Invalid.one(pointer, f"This is {len(text):,} characters long; {longest:,} is the most.")
    bare = Source(pointer, text, text, ())
    if odd := _CONTROL.search(text):
        raise Invalid([bare.fault(odd.start(), f"The character U+{ord(odd[0]):04X} cannot be sent: remove it.")])
    marks = []
    for mark in _marks(bare):
        marks.append(mark)
        if len(marks) > MOST_MARKS:
            raise Invalid([bare.fault(mark.start, f"There are more than {MOST_MARKS:,} merge fields and tags.")])
    _check_nesting(bare, marks)
    return Source(pointer, text, _without_comments(text, marks), tuple(marks))


def _check_nesting(source: Source, marks: list[Mark]) -> None:
    """Every block is closed by its own end, and every else stands in one. Raises Invalid at the first that is not."""
    blocks: list[Mark] = []
    for mark in marks:
        if mark.kind == "tag" and mark.name in BLOCKS:
            blocks.append(mark)
        elif mark.kind == "tag" and (mark.name in BRANCHES or mark.name in _ENDS):
            inner = blocks[-1] if blocks else None
            if inner is None or inner.name not in (BRANCHES.get(mark.name) or _ENDS[mark.name]):
                where = f"the {inner.name} of line {source.line(inner.start)} is open" if inner else "no block is open"
                raise Invalid([source.fault(mark.start, f"This {mark.name} cannot stand here: {where}.")])
            if mark.name in _ENDS:
                blocks.pop()
    if blocks:
        mark = blocks[-1]
        raise Invalid([source.fault(mark.start, f"This {mark.name} is never closed: end{mark.name} is missing.")])


def _marks(source: Source) -> Iterator[Mark]:
    text, place = source.text, 0
    while opening := _OPENING.search(text, place):
        start = opening.start()
        mark = _field(source, start) if opening[0] == "{{" else _tag(source, start)
        yield mark
        place = mark.end


def _field(source: Source, start: int) -> Mark:
    end = source.text.find("}}", start + 2)
    if end < 0:
        raise Invalid([source.fault(start, "This {{ is never closed: }} is missing.")])
    if end - start > LONGEST_MARK:
        raise Invalid([source.fault(start, f"This merge field is longer than {LONGEST_MARK:,} characters.")])
    return Mark("field", "", start, end + 2)


def _tag(source: Source, start: int) -> Mark:
    text = source.text
    end = text.find("%}", start + 2)
    if end < 0:
        raise Invalid([source.fault(start, "This {% is never closed: %} is missing.")])
    if end - start > LONGEST_MARK:
        raise Invalid([source.fault(start, f"This tag is longer than {LONGEST_MARK:,} characters.")])
    found = _NAME.match(text, start + 2, end)
    name = found[1] if found else ""
    if name == "comment":
        return Mark("comment", name, start, _end_of_comment(source, start, end + 2))
    if bare := _BARE.fullmatch(text, start + 2, end):
        closing = _ENDRAW.search(text, end) if bare[1] == "raw" else None
        if closing is None:
            raise Invalid([source.fault(start, f"There is no end{bare[1]} for this {bare[1]}.")])
        return Mark("raw", name, start, closing.end())
    return Mark("tag", name, start, end + 2)


def _end_of_comment(source: Source, start: int, place: int) -> int:
    depth = 1
    for found in _COMMENTS.finditer(source.text, place):
        depth += 1 if found[1] == "comment" else -1
        if depth == 0:
            return found.end()
    raise Invalid([source.fault(start, "There is no endcomment for this comment.")])


def _without_comments(text: str, marks: list[Mark]) -> str:
    """The same text with the insides of comments blank: openings in there would be looked into after all."""
    pieces, place = [], 0
    for mark in marks:
        if mark.kind == "comment":
            inside = text.index("%}", mark.start) + 2, text.rindex("{%", mark.start, mark.end)
            pieces += [text[place : inside[0]], " " * (inside[1] - inside[0])]
            place = inside[1]
    return "".join([*pieces, text[place:]])
