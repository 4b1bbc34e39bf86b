"""Slots: what changes from lead to lead in a template, cut out of it and numbered.

Most are a field with a filter or two: these cost a dictionary's lookup and an escape, and no Liquid when sending. What
is left, blocks with conditions or loops, is rendered by Liquid, each by itself.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

from liquid.ast import Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import Filter, FilteredExpression, Path, StringLiteral
from liquid.builtin.expressions.primitive import FalseLiteral, FloatLiteral, IntegerLiteral, TrueLiteral
from liquid.builtin.tags.comment_tag import CommentNode

from app.errors import Unrenderable
from app.mail import Parts
from app.models.template_data import OWN_PLACES, find_in
from app.models.template_filters import FILTERS, LONGEST, Scalar, text_of
from app.models.template_html import Spot
from app.models.template_liquid import (
    PLACES,
    PlacedNode,
    escape_url,
    expressions,
    parse,
    path_of,
    render,
    walk,
)
from app.models.template_source import Source, read

MOST_REMEMBERED: Final = 2_000_000  # characters that one block keeps: of rendered texts, and of the values read
ENTRY: Final = 200  # what an entry costs beside its text

_LITERALS = (StringLiteral, IntegerLiteral, FloatLiteral, TrueLiteral, FalseLiteral)


class Addressee(Protocol):
    """What content may know of a lead. `attributes` are JSON scalars; one that the lead lacks has no key."""

    @property
    def id(self) -> int: ...
    @property
    def email(self) -> str: ...
    @property
    def time_zone(self) -> str | None: ...
    @property
    def attributes(self) -> Mapping[str, object]: ...
    @property
    def untracked(self) -> bool: ...


class LeadView(NamedTuple):
    """A lead to write to, where nothing else is known of it."""

    id: int
    email: str
    time_zone: str | None
    attributes: Mapping[str, object]
    untracked: bool = False


def as_mapping(lead: Addressee) -> Mapping[str, object]:
    """A lead as blocks see it."""
    return {**lead.attributes, "email": lead.email, "time_zone": lead.time_zone}


@dataclass(frozen=True, slots=True)
class FieldSlot:
    """`{{ path | filter: literal … }}`, written to one kind of place."""

    path: str
    filters: tuple[tuple[str, tuple[Scalar, ...]], ...]
    place: str


@dataclass(frozen=True, slots=True)
class BlockSlot:
    """Anything else: its own Liquid, and the places of the merge fields in it where they are not the part's."""

    liquid: str
    place: str
    urls: tuple[int, ...] = ()


Slot = FieldSlot | BlockSlot
Fill = Callable[[Addressee, str], str]


class Found(NamedTuple):
    """A link's address in a piece of static text, or in a block's Liquid."""

    piece: int
    start: int
    end: int
    url: str


class Cutter:
    """Cuts parts into static text and slots. Equal slots are one, whichever part they are in."""

    def __init__(self) -> None:
        self.numbers: dict[Slot, int] = {}
        self.in_text: dict[str, list[Found]] = {}
        self.in_blocks: list[Found] = []

    def cut(
        self,
        source: Source,
        nodes: Sequence[Node],
        place: str,
        spots: Mapping[int, Spot],
        targets: Sequence[tuple[int, int, str]] = (),
    ) -> Parts:
        """One part. `spots` tells which merge fields begin an address, `targets` are the addresses of its links.

        Where those stand in the pieces is kept: `in_text` by part, `in_blocks` by slot.
        """
        static, slots = [""], []
        found = self.in_text.setdefault(place, [])
        for at, node in enumerate(nodes):
            after = _start(source, nodes[at + 1]) if at + 1 < len(nodes) else len(source.text)
            if isinstance(node, ContentNode):
                found += _targets_in(source, node, after, len(static) - 1, len(static[-1]), targets)
                static[-1] += node.text
            elif not isinstance(node, CommentNode):
                slot = _field_slot(node, place, spots) or _block_slot(source, node, after, place, spots)
                known = slot in self.numbers
                slots.append(self.numbers.setdefault(slot, len(self.numbers)))
                if isinstance(slot, BlockSlot) and not known:
                    begins = _start(source, node)
                    ends = begins + len(slot.liquid)
                    self.in_blocks += [
                        Found(slots[-1], start - begins, end - begins, url)
                        for start, end, url in _between(targets, begins, ends)
                    ]
                static.append("")
        return Parts(tuple(static), tuple(slots))


def _targets_in(
    source: Source, node: ContentNode, after: int, piece: int, offset: int, targets: Sequence[tuple[int, int, str]]
) -> list[Found]:
    """Those in a static text, which may be shorter than its source by the white space that a tag strips."""
    begins = source.lexed.find(node.text, _start(source, node), after) if targets and node.text else -1
    if begins < 0:
        return []
    moved, ends = offset - begins, begins + len(node.text)
    return [Found(piece, start + moved, end + moved, url) for start, end, url in _between(targets, begins, ends)]


def _between(targets: Sequence[tuple[int, int, str]], begins: int, ends: int) -> list[tuple[int, int, str]]:
    """Those that lie wholly between the two: they come in order, and there may be thousands."""
    first = bisect_left(targets, begins, key=lambda target: target[0])
    last = bisect_left(targets, ends, key=lambda target: target[0])
    return [target for target in targets[first:last] if target[1] <= ends]


def is_field(node: PlacedNode, path: str) -> bool:
    """Whether a merge field begins with this path."""
    return isinstance(node.expression, FilteredExpression) and path_of(node.expression.left) == path


def _field_slot(node: Node, place: str, spots: Mapping[int, Spot]) -> FieldSlot | None:
    if not isinstance(node, PlacedNode) or not isinstance(node.expression, FilteredExpression):
        return None
    path = path_of(node.expression.left)
    filters = [_filter(each) for each in node.expression.filters or ()]
    if path is None or None in filters:
        return None
    spot = spots.get(node.token.start_index)
    if spot is not None and spot.url and path != "unsubscribe_url":
        place = "url"
    return FieldSlot(path, tuple(each for each in filters if each is not None), place)


def _filter(given: Filter) -> tuple[str, tuple[Scalar, ...]] | None:
    values = [each.value for each in given.args]
    if not all(isinstance(value, _LITERALS) for value in values):
        return None
    return given.name, tuple(value.value for value in values if isinstance(value, _LITERALS))


def _block_slot(source: Source, node: Node, after: int, place: str, spots: Mapping[int, Spot]) -> BlockSlot:
    start = _start(source, node)
    end = source.lexed.rindex("}", start, after) + 1  # white space that the next tag strips is not the block's
    urls = tuple(sorted(at - start for at, spot in spots.items() if start <= at < end and spot.url))
    return BlockSlot(source.lexed[start:end], place, urls)


def _start(source: Source, node: Node) -> int:
    """Where a node begins in the source: a tag's token begins at its name, anything else at its first character."""
    at = node.token.start_index
    return (
        at if source.lexed.startswith("{{", at) or isinstance(node, ContentNode) else source.lexed.rindex("{%", 0, at)
    )


def field_fill(slot: FieldSlot, shared: Mapping[str, str]) -> Fill:
    """(lead, unsubscribe URL) -> the slot's string. `shared` holds what is the same for every lead, by path; under
    `unsubscribe_url` it has what every such address begins with."""
    if slot.place in OWN_PLACES:
        take_own = OWN_PLACES[slot.place]
        return lambda lead, url: take_own(lead.attributes)
    write, filters = PLACES[slot.place], [(FILTERS[name].apply, given) for name, given in slot.filters]
    if slot.path == "unsubscribe_url":
        # a token's letters need no escaping anywhere: where the beginning needs none either, nothing is to be done
        plain = not filters and write(shared[slot.path]) == shared[slot.path]
        return _url if plain else lambda lead, url: write(_filtered(url, filters))
    if slot.path in shared:
        shown = write(_filtered(shared[slot.path], filters))
        return lambda lead, url: shown
    name = slot.path.partition(".")[2]
    take = _COLUMNS.get(slot.path) or (find_in(name) if "." in name else None)
    match slot.filters:
        case () if take is None:
            return _attribute(name, write)
        case (("default", (instead,)),) if take is None:
            return _attribute_or(name, text_of(instead), write)
    take = take or (lambda lead: lead.attributes.get(name))
    return lambda lead, url: write(_filtered(take(lead), filters))


def _url(lead: Addressee, url: str) -> str:
    return url


# A lead's own columns; anything else is an attribute.
_COLUMNS: Final[Mapping[str, Callable[[Addressee], object]]] = {
    "lead.email": lambda lead: lead.email,
    "lead.time_zone": lambda lead: lead.time_zone,
    "to": lambda lead: lead.email,
}


# The two that a send is made of, written out for speed: every call in them costs a tenth of the whole. Letters and
# digits are right in every place but at an address's beginning, where `write` has the last word.
def _attribute(name: str, write: Callable[[str], str]) -> Fill:
    anywhere = write is not escape_url

    def fill(lead: Addressee, url: str) -> str:
        value = lead.attributes.get(name)
        if value.__class__ is str:
            text: str = value
            return text if anywhere and text.isalnum() and len(text) <= LONGEST else write(_short(text))
        return write(text_of(value))

    return fill


def _attribute_or(name: str, instead: str, write: Callable[[str], str]) -> Fill:
    anywhere, missing = write is not escape_url, write(instead)

    def fill(lead: Addressee, url: str) -> str:
        value = lead.attributes.get(name)
        if value.__class__ is str and value:
            text: str = value
            return text if anywhere and text.isalnum() and len(text) <= LONGEST else write(_short(text))
        return missing if value is None or value is False or value == "" else write(text_of(value))

    return fill


def _filtered(value: object, filters: Sequence[tuple[Callable[..., Scalar], tuple[Scalar, ...]]]) -> str:
    for apply, given in filters:
        value = apply(value, *given)
    return _short(text_of(value))


def _short(value: str) -> str:
    if len(value) > LONGEST:
        raise Unrenderable(f"a field is longer than {LONGEST:,} characters")
    return value


@lru_cache(512)
def _nodes(slot: BlockSlot) -> list[Node]:
    source = read("", slot.liquid, len(slot.liquid))
    nodes = parse(source)
    for node in walk(nodes):
        if isinstance(node, PlacedNode):
            node.place = "url" if node.token.start_index in slot.urls else slot.place
    return nodes


def block_fill(slot: BlockSlot) -> Callable[[Mapping[str, Any]], str]:
    """values -> the block's text, escaped. It raises Unrenderable where this lead's values break a limit.

    Most blocks read a field or two with few values (`lead.plan == "pro"`): what was rendered for the same values is
    remembered, which costs a twentieth of rendering it again.
    """
    nodes = _nodes(slot)
    reads = _lead_fields(slot, nodes)
    if reads is None:
        return lambda values: render(nodes, values)
    known: dict[tuple[object, ...], str] = {}
    room = MOST_REMEMBERED

    def fill(values: Mapping[str, Any]) -> str:
        nonlocal room
        lead = values["lead"]
        read = [lead.get(name) for name in reads]
        # with their types: 1, 1.0 and true are equal, and written differently
        key = tuple([(value.__class__, value) for value in read])
        try:
            text = known.get(key)
        except TypeError:  # a list or an object, which no attribute should be: it is rendered, and not remembered
            return render(nodes, values)
        if text is None:
            text = render(nodes, values)
            size = ENTRY + len(text) + sum(len(value) for value in read if isinstance(value, str))
            if size <= room:
                room -= size
                known[key] = text
        return text

    return fill


def _lead_fields(slot: BlockSlot, nodes: list[Node]) -> tuple[str, ...] | None:
    """The fields of a lead that a block reads; None where its text may differ for two leads that share them."""
    if re.search(r"\b(now|today)\b", slot.liquid):
        return None  # the time is read too
    fields = set()
    for node in walk(nodes):
        for expression in expressions(node):
            if isinstance(expression, Path):
                root, _, field = (path_of(expression) or "").partition(".")
                if root in ("", "unsubscribe_url", "data", "to") or (root == "lead" and field in ("", "email")):
                    return None  # an index, or something that no two leads share
                if root == "lead":
                    fields.add(field)
    return tuple(sorted(fields))
