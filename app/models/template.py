"""Templates: what a marketer writes, compiled when it is saved into static text and numbered slots.

A send then fills slots. Everything that can be wrong is found here, at save; what is left for a send is one lead whose
values break a limit, and it alone is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from liquid.ast import Node

from app.errors import Fault, Invalid, Unrenderable
from app.mail import Content, Parts
from app.models.field import Fields
from app.models.template_check import KNOWN_OF_MESSAGES, MOST_FAULTS, check, known_paths
from app.models.template_data import DATA
from app.models.template_filters import LONGEST
from app.models.template_html import Spot, find_spots
from app.models.template_links import NO_LINKS, Links, Numbering, Target, find_in_html, find_in_text
from app.models.template_liquid import PlacedNode, parse
from app.models.template_slots import (
    Addressee,
    BlockSlot,
    Cutter,
    FieldSlot,
    LeadView,
    Slot,
    as_mapping,
    block_fill,
    field_fill,
    is_field,
)
from app.models.template_source import Source, read
from app.models.template_text import make_text

__all__ = ["Addressee", "Compiled", "LeadView", "Shared", "compile_content", "has_unsubscribe_link", "preview"]

LONGEST_SUBJECT: Final = 500  # characters; most inboxes show fewer than a hundred
LONGEST_BODY: Final = 500_000
MOST_TAGS: Final = 20_000  # of HTML; a big email has three thousand
LARGEST_EMAIL: Final = 2_000_000  # characters, filled; Gmail clips what is above 102 kB


@dataclass(frozen=True, slots=True)
class Shared:
    """What all leads of a campaign have in common. Unsubscribe addresses begin with `unsubscribe_base`."""

    campaign: str = ""
    sender: str = ""
    unsubscribe_base: str = ""

    @property
    def by_path(self) -> Mapping[str, str]:
        """Their values by the paths that templates use."""
        return {
            "campaign.name": self.campaign,
            "sender.name": self.sender,
            "unsubscribe_url": self.unsubscribe_base,
        }

    def scope(self, lead: Addressee, unsubscribe_url: str) -> Mapping[str, object]:
        """What a block may name."""
        return {
            "lead": as_mapping(lead),
            DATA: lead.attributes,
            "to": lead.email,
            "unsubscribe_url": unsubscribe_url,
            "campaign": {"name": self.campaign},
            "sender": {"name": self.sender},
        }


@dataclass(frozen=True, slots=True)
class Compiled:
    """Content, ready to be filled. Of the `slots`, fields come first, then blocks.

    `unsubscribe` says whether the HTML shows every lead the unsubscribe address. `links` is where those stand that can
    be tracked.
    """

    subject: Parts
    html: Parts
    text: Parts
    slots: tuple[Slot, ...]
    unsubscribe: bool
    links: Links = NO_LINKS

    def content(self, version: int) -> Content:
        """What a provider is given once a batch."""
        return Content(version, self.subject, self.html, self.text)

    def bind(self, shared: Shared) -> Callable[[Addressee, str], list[str]]:
        """(lead, unsubscribe URL) -> the slots' values, escaped for their places. The function raises Unrenderable."""
        fields = [field_fill(slot, shared.by_path) for slot in self.slots if isinstance(slot, FieldSlot)]
        blocks = [block_fill(slot) for slot in self.slots if isinstance(slot, BlockSlot)]
        most = self._most_written()

        def values(lead: Addressee, url: str) -> list[str]:
            filled = [fill(lead, url) for fill in fields]
            if blocks:
                scope = shared.scope(lead, url)
                filled += [fill(scope) for fill in blocks]
            if most is not None and sum(map(len, filled)) > most:
                raise Unrenderable(f"the email would be larger than {LARGEST_EMAIL:,} characters")
            return filled

        return values

    def values(self, lead: Addressee, unsubscribe_url: str, shared: Shared) -> list[str]:
        """One lead's values; `bind` is for many. Raises Unrenderable."""
        return self.bind(shared)(lead, unsubscribe_url)

    def _most_written(self) -> int | None:
        """How long all values together may be, so that the email stays below LARGEST_EMAIL however often each is used.

        None where it would stay below with every field at its longest, as it does but for blocks and huge templates.
        """
        # what tracking adds stands behind our own slots, is short, and has room beside
        used = [slot for slot in (*self.html.slots, *self.text.slots) if slot < len(self.slots)]
        room = LARGEST_EMAIL - sum(map(len, (*self.html.static, *self.text.static)))
        if not any(isinstance(slot, BlockSlot) for slot in self.slots) and len(used) * LONGEST <= room:
            return None
        return room // max(Counter(used).values(), default=1)

    def to_json(self) -> dict[str, Any]:
        """As the `content.compiled` column keeps it."""
        parts = {"subject": self.subject, "html": self.html, "text": self.text}
        return {
            "parts": {name: [list(part.static), list(part.slots)] for name, part in parts.items()},
            "slots": [_slot_to_json(slot) for slot in self.slots],
            "unsubscribe": self.unsubscribe,
            "links": self.links.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Compiled:
        """What `to_json` gave."""
        parts = {name: Parts(tuple(static), tuple(slots)) for name, (static, slots) in data["parts"].items()}
        slots = tuple(_slot_from_json(slot) for slot in data["slots"])
        links = Links.from_json(data.get("links"))
        return cls(parts["subject"], parts["html"], parts["text"], slots, bool(data["unsubscribe"]), links)


def compile_content(subject: str, html: str, text: str, fields: Fields | None) -> Compiled:
    """Content from its source; an empty `text` is made from the HTML.

    `fields` None: it is for messages, and may name whatever data they bring. Raises Invalid with a fault for all that
    is wrong, pointing to "subject", "html" or "text" and naming the line.
    """
    known = known_paths(fields) if fields is not None else KNOWN_OF_MESSAGES
    parts = [_Part("subject", LONGEST_SUBJECT, known), _Part("html", LONGEST_BODY, known)]
    faults = [*parts[0].compile(subject), *parts[1].compile(html)]
    parts.append(_Part("text", LONGEST_BODY, known))
    if text.strip():
        faults += parts[2].compile(text)
    elif not faults:
        faults += parts[2].make(parts[1])
    if faults:
        raise Invalid(faults)
    compiled = _cut(parts)
    _try_out(compiled, known)
    return compiled


class _Part:
    """One of the three on its way from source to slots."""

    def __init__(self, name: str, longest: int, known: Mapping[str, str]) -> None:
        self.name, self.longest, self.known = name, longest, known
        self.source = Source(name, "", "", ())
        self.nodes: list[Node] = []
        self.spots: Mapping[int, Spot] = {}

    def compile(self, written: str) -> list[Fault]:
        try:
            self.source = read(self.name, written, self.longest)
            faults = _REQUIRED.get(self.name, _nothing_required)(self.source)
            if faults and self.name == "html":  # empty, or too much to be looked at
                return faults
            self.nodes = parse(self.source)
        except Invalid as error:
            return list(error.faults)
        if self.name == "html":
            self.spots, misplaced = find_spots(self.source)
            faults += misplaced[:MOST_FAULTS]
        return faults + check(self.source, self.nodes, self.known, self.spots)

    def make(self, html: _Part) -> list[Fault]:
        """The text part from the HTML's; its own source is nobody's to mend, so its faults are one."""
        try:
            made = make_text(html.source)
            if html.shows_unsubscribe and "unsubscribe_url" not in made:
                made += "\nUnsubscribe: {{ unsubscribe_url }}\n"
            faults = self.compile(made)
        except Invalid as error:
            return list(error.faults)
        return [Fault("text", "No text part could be made from this HTML: write one.")] if faults else []

    @property
    def shows_unsubscribe(self) -> bool:
        """Whether every reader can see or follow the unsubscribe address: not where it hangs on a condition."""
        fields = (node for node in self.nodes if isinstance(node, PlacedNode) and is_field(node, "unsubscribe_url"))
        return any((spot := self.spots.get(node.token.start_index)) and spot.visible for node in fields)


def _subject_requires(source: Source) -> list[Fault]:
    if not source.text.strip():
        return [Fault("subject", "Write a subject.")]
    if re.search(r"[\r\n\x85\u2028\u2029]", source.text):
        return [Fault("subject", "The subject must be one line.")]
    return []


def _html_requires(source: Source) -> list[Fault]:
    if not source.text.strip():
        return [Fault("html", "Write what the email says.")]
    if source.text.count("<") > MOST_TAGS or source.text.count("=") > 2 * MOST_TAGS:
        return [Fault("html", f"There are more than {MOST_TAGS:,} tags, or twice as many attributes.")]
    return []


def _nothing_required(source: Source) -> list[Fault]:
    return []


def _no_targets(source: Source) -> list[Target]:
    return []


_REQUIRED: Final[Mapping[str, Callable[[Source], list[Fault]]]] = {"subject": _subject_requires, "html": _html_requires}


def _cut(parts: Sequence[_Part]) -> Compiled:
    cutter = Cutter()
    subject, html, text = (
        cutter.cut(part.source, part.nodes, part.name, part.spots, find(part.source))
        for part, find in zip(parts, (_no_targets, find_in_html, find_in_text), strict=True)
    )
    slots = sorted(cutter.numbers, key=lambda slot: isinstance(slot, BlockSlot))  # stable: only blocks move
    moved = {cutter.numbers[slot]: number for number, slot in enumerate(slots)}
    subject, html, text = (
        Parts(part.static, tuple(moved[number] for number in part.slots)) for part in (subject, html, text)
    )
    numbering = Numbering()
    spots = [numbering.spots(cutter.in_text[name]) for name in ("html", "text")]
    blocks = numbering.spots(each._replace(piece=moved[each.piece]) for each in cutter.in_blocks)
    links = Links(numbering.urls, spots[0], spots[1], blocks)
    return Compiled(subject, html, text, tuple(slots), parts[1].shows_unsubscribe, links)


def _try_out(compiled: Compiled, known: Mapping[str, str]) -> None:
    """Render for a lead of whom nothing is known, and for one of whom everything is. Raises Invalid."""
    samples = {path.removeprefix("lead."): _SAMPLES.get(kind, "") for path, kind in known.items()}
    shared = Shared("Campaign", "Sender", "https://example.com/")
    for attributes in ({}, samples):
        lead = LeadView(0, "ann@example.com", None, attributes)
        scope = shared.scope(lead, shared.unsubscribe_base)
        for slot in compiled.slots:
            try:
                if isinstance(slot, BlockSlot):
                    block_fill(slot)(scope)
                else:
                    field_fill(slot, shared.by_path)(lead, shared.unsubscribe_base)
            except Unrenderable as error:
                pointer = "html" if slot.place == "url" else slot.place
                raise Invalid.one(pointer, f"This cannot be rendered: {error}.") from error


_SAMPLES: Final[Mapping[str, Any]] = {
    "text": "https://example.com/",  # right in every place
    "number": 1,
    "boolean": True,
    "date": "2026-01-31",
}


def has_unsubscribe_link(compiled: Compiled) -> bool:
    """Whether the HTML shows every lead the unsubscribe address, in a link or written out."""
    return compiled.unsubscribe


def preview(
    compiled: Compiled, lead: Addressee, shared: Shared | None = None, unsubscribe_url: str = "#"
) -> tuple[str, str, str]:
    """Subject, HTML and text as this lead would get them. Raises Unrenderable."""
    values = compiled.values(lead, unsubscribe_url, shared or Shared())
    return compiled.subject.fill(values), compiled.html.fill(values), compiled.text.fill(values)


def _slot_to_json(slot: Slot) -> dict[str, Any]:
    if isinstance(slot, FieldSlot):
        return {"path": slot.path, "filters": [[name, *given] for name, given in slot.filters], "place": slot.place}
    return {"liquid": slot.liquid, "urls": list(slot.urls), "place": slot.place}


def _slot_from_json(data: Mapping[str, Any]) -> Slot:
    if "path" in data:
        return FieldSlot(data["path"], tuple((name, tuple(given)) for name, *given in data["filters"]), data["place"])
    return BlockSlot(data["liquid"], data["place"], tuple(data["urls"]))
