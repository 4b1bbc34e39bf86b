"""Where in the HTML each merge field stands, and so how its value must be escaped, or why it cannot stand there.

Escaping `<`, `>`, `&` and quotes is right in text and inside quoted attributes. It is not enough where a value would
be code (scripts, `onclick`, styles), part of the markup itself, or decide where a link leads. So the source is read
once as HTML, tag by tag. Branches are read from the same point, and must leave the HTML at the same point, or nothing
could be said of what follows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from html import unescape
from typing import Final, NamedTuple

from app.errors import Fault
from app.models.template_source import BLOCKS, BRANCHES, Mark, Source


class At(Enum):
    """Where the reader is."""

    TEXT = auto()
    TAG = auto()
    EQUALS = auto()
    BARE = auto()
    DOUBLE = auto()
    SINGLE = auto()
    COMMENT = auto()
    CODE = auto()
    DECLARATION = auto()


class Link(Enum):
    """What is known of an address that is being read: its scheme decides whether it is safe."""

    BEGINS = auto()
    UNSURE = auto()
    SAFE = auto()


class Point(NamedTuple):  # made anew for every attribute: a frozen dataclass takes four times as long
    """A point in the HTML: the open tag, the attribute whose value is read, an address's first characters."""

    at: At = At.TEXT
    tag: str = ""
    closing: bool = False
    attribute: str = ""
    link: Link = Link.SAFE
    head: str = ""


@dataclass(frozen=True, slots=True)
class Spot:
    """A merge field's place. `url`: its value decides where a link leads; `visible`: a reader can see or follow it;
    `style`: it is inside a style attribute."""

    url: bool = False
    visible: bool = False
    style: bool = False


ADDRESSES: Final = frozenset(
    ("href", "src", "action", "formaction", "background", "poster", "cite", "data", "srcset", "longdesc", "xlink:href")
)
LINKS: Final = frozenset(("a", "area"))  # whose address is followed by a reader
SAFE_SCHEME: Final = re.compile(r"\s*(https?|mailto|tel|sms):", re.IGNORECASE)

_CODE_SCHEME = re.compile(r"\s*(javascript|vbscript|data\s*:\s*text)\s*[:/]", re.IGNORECASE)
_SCHEME_IS_OVER = re.compile(r"[:/?#]")
_OPENING = re.compile(r"<(?:(!--)|([!?])|(/?)([A-Za-z][^\s/>]*))")
_IN_TAG = re.compile(r"[\s/]+|(>)|([^\s=>/\"']+)\s*(=\s*)?|.", re.DOTALL)
_BARE_END = re.compile(r"[\s>]")
_QUOTES = {At.DOUBLE: '"', At.SINGLE: "'"}
_REFUSED = {
    At.TAG: "A merge field can stand in text and in a quoted value, not among a tag's attributes.",
    At.EQUALS: 'Put quotes around the value: ="{{ … }}".',
    At.BARE: 'Put quotes around the value: ="{{ … }}".',
    At.CODE: "A merge field cannot stand in a script or a style sheet.",
}


@dataclass(slots=True)
class _Block:
    """An open block: where its branches begin, and where those before this one ended."""

    mark: Mark
    begins: Point
    reading: bool  # between `case` and its first `when` nothing is shown
    ends: list[Point] = field(default_factory=list)
    has_else: bool = False


def find_spots(source: Source) -> tuple[Mapping[int, Spot], list[Fault]]:
    """The spot of every merge field, by where it starts, and what stands in the way."""
    reader = _read(source)
    return reader.spots, reader.faults


def find_targets(source: Source) -> list[tuple[int, int]]:
    """Where the addresses that links lead to begin and end, in order: those with a merge field in them are left out."""
    return _read(source).targets


def _read(source: Source) -> _Reader:
    reader = _Reader(source)
    place = 0
    for mark in source.marks:
        reader.read(place, mark.start)
        reader.meet(mark)
        place = mark.end
    reader.read(place, len(source.text))
    return reader


class _Reader:
    """Goes through a part once, always knowing the point that it is at."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.spots: dict[int, Spot] = {}
        self.faults: list[Fault] = []
        self.targets: list[tuple[int, int]] = []
        self._value_began = -1  # where the value that is being read begins; -1: there is a merge field in it
        self._point = Point()
        self._blocks: list[_Block] = []

    def meet(self, mark: Mark) -> None:
        """Pass a piece of Liquid."""
        self._value_began = -1
        if mark.kind == "field":
            self._meet_field(mark)
        elif mark.kind == "tag":
            self._meet_tag(mark)
        elif mark.kind == "raw":
            text = self.source.text
            self.read(text.index("%}", mark.start) + 2, text.rindex("{%", 0, mark.end))

    def _meet_tag(self, mark: Mark) -> None:
        if mark.name in BLOCKS:
            self._blocks.append(_Block(mark, self._point, reading=mark.name != "case"))
        elif self._blocks and mark.name in BRANCHES:
            block = self._blocks[-1]
            block.has_else |= mark.name == "else"
            self._end_branch(block)
            self._point = block.begins
        elif self._blocks and mark.name == "end" + self._blocks[-1].mark.name:
            block = self._blocks.pop()
            self._end_branch(block)
            self._point = self._join(block)

    def _end_branch(self, block: _Block) -> None:
        if block.reading:
            block.ends.append(self._point)
        block.reading = True

    def _join(self, block: _Block) -> Point:
        ends = block.ends if block.has_else and block.mark.name != "for" else [*block.ends, block.begins]
        last = ends[-1]
        if len({end._replace(link=Link.SAFE, head="") for end in ends}) > 1:
            message = f"Each branch of this {block.mark.name} must open and close the same HTML tags and quotes."
            self._fault(block.mark, message)
        known = len({(end.link, end.head) for end in ends}) == 1
        return last if known else last._replace(link=Link.UNSURE, head="")

    def _meet_field(self, mark: Mark) -> None:
        point, text = self._point, self.source.text
        refused = _REFUSED.get(point.at)
        if point.at is At.TEXT and text[: mark.start].endswith(("<", "</"), max(mark.start - 2, 0)):
            refused = "A merge field cannot be a tag's name."
        elif point.attribute.startswith("on") or point.attribute == "srcdoc":
            refused = f"A merge field cannot stand in {point.attribute}: its value would be code."
        elif point.link is Link.UNSURE:
            refused = (
                "A merge field cannot be part of a link's beginning: write https:// and the domain right before it, "
                "or let one field hold the whole address."
            )
        if refused:
            self._fault(mark, refused)
        self.spots[mark.start] = Spot(
            url=point.link is Link.BEGINS,
            visible=point.at is At.TEXT or (point.attribute == "href" and point.tag == "a"),
            style=point.attribute == "style",
        )
        if (
            point.link is Link.BEGINS
        ):  # its value will be a whole address, or "#": what follows cannot change the scheme
            self._point = point._replace(link=Link.SAFE)

    def read(self, place: int, end: int) -> None:
        """Read HTML between two pieces of Liquid."""
        while place < end:
            place = _STEPS[self._point.at](self, place, end)

    def _read_text(self, place: int, end: int) -> int:
        found = _OPENING.search(self.source.text, place, end)
        if found is None:
            return end
        if found[1]:
            self._point = Point(At.COMMENT)
            return found.end() - 2  # <!--> is a comment too
        self._point = Point(At.DECLARATION) if found[2] else Point(At.TAG, found[4].lower(), closing=bool(found[3]))
        return found.end()

    def _read_tag(self, place: int, end: int) -> int:
        found = _IN_TAG.match(self.source.text, place, end)
        assert found is not None
        if found[1]:
            code = self._point.tag in ("script", "style") and not self._point.closing
            self._point = Point(At.CODE, self._point.tag) if code else Point()
        elif found[3]:
            name = found[2].lower()
            link = Link.BEGINS if name in ADDRESSES else Link.SAFE
            self._point = self._point._replace(at=At.EQUALS, attribute=name, link=link)
        return found.end()

    def _read_equals(self, place: int, end: int) -> int:
        letter = self.source.text[place]
        if letter.isspace():
            return place + 1
        if letter == ">":
            self._leave_value(-1)
            return place
        at = {'"': At.DOUBLE, "'": At.SINGLE}.get(letter, At.BARE)
        self._point = self._point._replace(at=at)
        self._value_began = place if at is At.BARE else place + 1
        return self._value_began

    def _read_quoted(self, place: int, end: int) -> int:
        stop = self.source.text.find(_QUOTES[self._point.at], place, end)
        self._read_value(place, end if stop < 0 else stop)
        if stop < 0:
            return end
        self._leave_value(stop)
        return stop + 1

    def _read_bare(self, place: int, end: int) -> int:
        found = _BARE_END.search(self.source.text, place, end)
        stop = found.start() if found else end
        self._read_value(place, stop)
        if found:
            self._leave_value(stop)
        return stop

    def _read_value(self, place: int, end: int) -> None:
        if self._point.link is Link.SAFE or place == end:
            return
        head = (self._point.head + unescape(self.source.text[place : min(end, place + 200)])).lstrip()
        if _CODE_SCHEME.match(head):
            self.faults.append(self.source.fault(place, "A link cannot begin with a scheme that runs code."))
        link = Link.SAFE if _SCHEME_IS_OVER.search(head) else Link.UNSURE if head else self._point.link
        self._point = self._point._replace(link=link, head="" if link is Link.SAFE else head[:200])

    def _leave_value(self, end: int) -> None:
        leads = self._point.attribute == "href" and self._point.tag in LINKS and not self._point.closing
        if leads and 0 <= self._value_began < end:
            self.targets.append((self._value_began, end))
        self._value_began = -1
        self._point = Point(At.TAG, self._point.tag, self._point.closing)

    def _read_comment(self, place: int, end: int) -> int:
        return self._read_until("-->", place, end)

    def _read_declaration(self, place: int, end: int) -> int:
        return self._read_until(">", place, end)

    def _read_until(self, closing: str, place: int, end: int) -> int:
        stop = self.source.text.find(closing, place, end)
        if stop < 0:
            return end
        self._point = Point()
        return stop + len(closing)

    def _read_code(self, place: int, end: int) -> int:
        found = re.compile(rf"</{self._point.tag}", re.IGNORECASE).search(self.source.text, place, end)
        if found is None:
            return end
        self._point = Point(At.TAG, self._point.tag, closing=True)
        return found.end()

    def _fault(self, mark: Mark, message: str) -> None:
        self.faults.append(self.source.fault(mark.start, message))


_STEPS: Final[Mapping[At, Callable[[_Reader, int, int], int]]] = {
    At.TEXT: _Reader._read_text,
    At.TAG: _Reader._read_tag,
    At.EQUALS: _Reader._read_equals,
    At.BARE: _Reader._read_bare,
    At.DOUBLE: _Reader._read_quoted,
    At.SINGLE: _Reader._read_quoted,
    At.COMMENT: _Reader._read_comment,
    At.CODE: _Reader._read_code,
    At.DECLARATION: _Reader._read_declaration,
}
