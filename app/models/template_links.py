"""Links that can be tracked: found and numbered when content is compiled, put through us when it is sent so.

Compiled content keeps each address as it was written, and beside it where it stands. So what is not tracked is what was
written, to the byte; what is tracked has, in each place, the lead's own beginning (a slot) and the link's number.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import unescape
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from app.mail import Parts
from app.models.template_html import find_targets
from app.models.template_slots import BlockSlot, Slot
from app.models.template_source import Source

if TYPE_CHECKING:
    from app.models.template import Compiled

LONGEST_ADDRESS: Final = 2_000
MOST_LINKS: Final = 30_000  # a smallint numbers them
# In a block's text, which is remembered for all leads alike, this stands for the lead's own beginning: nobody's letter.
BEGINNING: Final = "\ue010"
PIXEL: Final = '<img src="', '" width="1" height="1" alt="" style="display:block;width:1px;height:1px;border:0">'
# Nobody can see it, read it out or come to it by the keyboard: who follows it follows everything.
HONEYPOT: Final = '<a href="', '/0" style="display:none" tabindex="-1" aria-hidden="true"></a>'

_WRITTEN = re.compile(r"https?://[^\s<>\"'{}|\\^`\ue000-\uf8ff]+", re.IGNORECASE)
_ENDS_SENTENCE = ".,;:!?)]*_"
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
_GAPS = re.compile(r"[\t\r\n]")


class Target(NamedTuple):
    """An address in a part's source: where it begins and ends, and what it means."""

    start: int
    end: int
    url: str


class LinkSpot(NamedTuple):
    """An address in compiled content: in which piece (of static text, or in which block), from where to where."""

    piece: int
    start: int
    end: int
    link: int


@dataclass(frozen=True, slots=True)
class Links:
    """A content's links: `urls` by number from 1, and where they stand."""

    urls: tuple[str, ...] = ()
    html: tuple[LinkSpot, ...] = ()
    text: tuple[LinkSpot, ...] = ()
    blocks: tuple[LinkSpot, ...] = ()

    @property
    def places(self) -> tuple[tuple[LinkSpot, ...], ...]:
        """Where they stand: in the HTML, in the text, in blocks."""
        return self.html, self.text, self.blocks

    def to_json(self) -> dict[str, object]:
        spots = {"html": self.html, "text": self.text, "blocks": self.blocks}
        return {"urls": list(self.urls), **{name: [list(each) for each in found] for name, found in spots.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Sequence[Sequence[int]]] | None) -> Links:
        """What `to_json` gave; none for content that was compiled before there were any."""
        if not data:
            return cls()
        html, text, blocks = (tuple(LinkSpot(*each) for each in data[name]) for name in ("html", "text", "blocks"))
        return cls(tuple(map(str, data["urls"])), html, text, blocks)


NO_LINKS: Final = Links()


def find_in_html(source: Source) -> list[Target]:
    """Addresses of links, in order, but for those with a merge field in them."""
    found = ((start, end, unescape(source.text[start:end])) for start, end in find_targets(source))
    return [Target(start, end, url) for start, end, raw in found if (url := _trackable(raw))]


def find_in_text(source: Source) -> list[Target]:
    """Addresses written out in the text part, in order, but for those with a merge field in or next to them."""
    found = []
    marks = iter(source.marks)
    mark = next(marks, None)
    for each in _WRITTEN.finditer(source.text):
        while mark is not None and mark.end <= each.start():
            mark = next(marks, None)
        if mark is not None and mark.start <= each.end():
            continue
        raw = each[0].rstrip(_ENDS_SENTENCE)
        if url := _trackable(raw):
            found.append(Target(each.start(), each.start() + len(raw), url))
    return found


def _trackable(raw: str) -> str | None:
    """The address as it is redirected to; None for what is no web address. As browsers read it: without line breaks."""
    url = _GAPS.sub("", raw).strip()
    if not url.lower().startswith(("http://", "https://")) or len(url) > LONGEST_ADDRESS or not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("ascii" if parts.netloc.isascii() else "idna")
    except ValueError:  # also where the host's name is none in any alphabet
        return None
    return url if parts.hostname and "\\" not in parts.netloc else None


class Numbering:
    """Gives links their numbers: one an address, however often it is linked to, in the order of the email."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(self._numbers)

    def spots(self, places: Iterable[tuple[int, int, int, str]]) -> tuple[LinkSpot, ...]:
        """From (piece, start, end, URL), in order; beyond MOST_LINKS addresses the rest is left as it is."""
        return tuple(
            LinkSpot(piece, start, end, self._numbers.setdefault(url, len(self._numbers) + 1))
            for piece, start, end, url in places
            if url in self._numbers or len(self._numbers) < MOST_LINKS
        )


def number_together(contents: Sequence[Links]) -> tuple[list[Links], list[int]]:
    """The links of a campaign's contents, numbered as one: an address is the same link wherever it stands.

    All of them name the addresses of all; beside them, in which contents each address stands: one bit a content.
    """
    if len(contents) == 1:
        return list(contents), [1] * len(contents[0].urls)
    numbering = Numbering()
    spots = [
        [numbering.spots((*spot[:3], each.urls[spot.link - 1]) for spot in part) for part in each.places]
        for each in contents
    ]
    urls = numbering.urls
    standing = [0] * len(urls)
    for place, parts in enumerate(spots):
        for link in {spot.link for part in parts for spot in part}:
            standing[link - 1] |= 1 << place
    return [Links(urls, *parts) for parts in spots], standing


@dataclass(frozen=True, slots=True)
class Tracked:
    """Content whose links and pixel go through us. Its own slots come behind all others, in this order.

    `marked` are the numbers of the slots in which BEGINNING stands for the lead's link address.
    """

    compiled: Compiled
    clicks: bool
    opens: bool
    marked: tuple[int, ...]

    def complete(
        self, values: Callable[..., list[str]], token: Callable[[int], str], base: str
    ) -> Callable[..., list[str]]:
        """(lead, unsubscribe URL) -> all slots' values, from what gives those of the content's own slots.

        `token`: a lead's; `base`: what addresses of ours begin with.
        """
        clicks, opens, marked = self.clicks, self.opens, self.marked
        to_link, to_pixel, nobody = f"{base}/t/", f"{base}/o/", token(0)

        def completed(lead: object, url: str) -> list[str]:
            filled = values(lead, url)
            own = nobody if lead.untracked else token(lead.id)  # type: ignore[attr-defined]
            if clicks:
                link = to_link + own
                for number in marked:
                    filled[number] = filled[number].replace(BEGINNING, link)
                filled.append(link)
            if opens:
                filled.append(f"{to_pixel}{own}.gif")
            return filled

        return completed


def track(compiled: Compiled, *, clicks: bool, opens: bool) -> Tracked | None:
    """The content with its links led through us, and a pixel; None where nothing of it is tracked.

    The lead's beginning of links is one slot, `…/t/TOKEN`, the pixel's address another.
    """
    clicks = clicks and bool(compiled.links.urls)
    if not clicks and not opens:
        return None
    first = len(compiled.slots)
    html, text, slots = compiled.html, compiled.text, compiled.slots
    marked: tuple[int, ...] = ()
    if clicks:
        html = _lead_through(html, compiled.links.html, first)
        text = _lead_through(text, compiled.links.text, first)
        html = _before_body_ends(html, HONEYPOT, first)
        slots, marked = _lead_blocks_through(compiled.slots, compiled.links.blocks)
    if opens:
        html = _before_body_ends(html, PIXEL, first + clicks)
    return Tracked(replace(compiled, html=html, text=text, slots=slots), clicks, opens, marked)


def _lead_through(parts: Parts, spots: Sequence[LinkSpot], slot: int) -> Parts:
    static: list[str] = []
    slots: list[int] = []
    by_piece: defaultdict[int, list[LinkSpot]] = defaultdict(list)
    for spot in spots:
        by_piece[spot.piece].append(spot)
    for number, piece in enumerate(parts.static):
        written, place = "", 0
        for spot in by_piece[number]:
            static.append(written + piece[place : spot.start])
            slots.append(slot)
            written, place = f"/{spot.link}", spot.end
        static.append(written + piece[place:])
        slots += parts.slots[number : number + 1]
    return Parts(tuple(static), tuple(slots))


def _lead_blocks_through(slots: Sequence[Slot], spots: Sequence[LinkSpot]) -> tuple[tuple[Slot, ...], tuple[int, ...]]:
    changed = list(slots)
    for spot in sorted(spots, reverse=True):  # from the end, so that what comes before stays where it is
        slot = changed[spot.piece]
        assert isinstance(slot, BlockSlot)
        led = f"{BEGINNING}/{spot.link}"
        moved = len(led) - (spot.end - spot.start)
        changed[spot.piece] = replace(
            slot,
            liquid=slot.liquid[: spot.start] + led + slot.liquid[spot.end :],
            urls=tuple(at + moved if at > spot.start else at for at in slot.urls),
        )
    return tuple(changed), tuple(sorted({spot.piece for spot in spots}))


def _before_body_ends(parts: Parts, around: tuple[str, str], slot: int) -> Parts:
    """The parts with a slot in some HTML right before the last </body>, or at the end where there is none."""
    ends = [(number, found.start()) for number, piece in enumerate(parts.static) for found in _BODY_END.finditer(piece)]
    number, at = ends[-1] if ends else (len(parts.static) - 1, len(parts.static[-1]))
    piece = parts.static[number]
    static = (*parts.static[:number], piece[:at] + around[0], around[1] + piece[at:], *parts.static[number + 1 :])
    return Parts(static, (*parts.slots[:number], slot, *parts.slots[number:]))
