"""The text part, made from the HTML where none was written: the same merge fields and conditions, unescaped.

The HTML's Liquid is replaced by markers that the conversion takes for words, and put back afterwards. Layout tables are
read cell by cell: drawn as tables their text would be padded and, worse, moved away from the condition it stands in.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from inscriptis import get_text
from inscriptis.css_profiles import STRICT_CSS_PROFILE
from inscriptis.html_properties import Display
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_element import HtmlElement
from inscriptis.model.tag import CustomHtmlTagHandlerMapping

from app.errors import Invalid
from app.models.template_source import Mark, Source

_BLOCKS: Final = (
    "table",
    "thead",
    "tbody",
    "tfoot",
    "tr",
    "td",
    "th",
    "caption",
    "center",
    "section",
    "form",
    "dl",
    "hr",
)
# Private-use characters: letters to the conversion, and nobody's text. Tags write nothing: theirs is another one.
_MARKER = re.compile("[\ue000\ue002](\\d{1,5})\ue001")
_MARKERS = dict.fromkeys((0xE000, 0xE001, 0xE002))
_TAGS_ALONE = re.compile("^[ \t]*((?:\ue002\\d+\ue001[ \t]*)+)\n+", re.MULTILINE)
_ADDRESS = re.compile(r" <([^\s<>]+)>")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_GAPS = re.compile(r"\n{3,}")


def make_text(source: Source) -> str:
    """The text part's own source. Raises Invalid (at `text`) where none can be made."""
    marked, place = [], 0
    for number, mark in enumerate(source.marks):
        marked += [source.text[place : mark.start].translate(_MARKERS), _marker(mark, number)]
        place = mark.end
    marked.append(source.text[place:].translate(_MARKERS))
    try:
        text = get_text("".join(marked), _config())
    except Exception as error:  # whatever the conversion stumbles over, an email can be sent: with a text of one's own
        raise Invalid.one("text", "No text part could be made from this HTML: write one.") from error
    tidy = _GAPS.sub("\n\n", _TRAILING.sub("", _ADDRESS.sub(_unless_said, text))).strip() + "\n"
    tidy = _TAGS_ALONE.sub(r"\1", tidy)  # a condition that is not met leaves no empty line
    return _MARKER.sub(lambda found: _liquid(source, int(found[1])), tidy)


def _marker(mark: Mark, number: int) -> str:
    if mark.kind == "comment":
        return ""
    return f"\ue002{number}\ue001" if mark.kind == "tag" else f"\ue000{number}\ue001"


def _unless_said(found: re.Match[str]) -> str:
    """A link's address, but where the link's text is the address already."""
    begins = found.start() - len(found[1])
    said = (
        begins >= 0 and found.string.startswith(found[1], begins) and found.string[begins - 1 : begins] in ("", *" \n")
    )
    return "" if said else found[0]


def _liquid(source: Source, number: int) -> str:
    if number >= len(source.marks):  # written into the HTML as entities: nobody's marker
        return ""
    mark = source.marks[number]
    return source.text[mark.start : mark.end]


def _open_link(state: Any, attributes: Any) -> None:
    state.link_target = attributes.get("href", "").strip()


def _close_link(state: Any) -> None:
    target = state.link_target
    if target and not target.startswith("#"):
        state.tags[-1].write(f" <{target.removeprefix('mailto:')}>")
    state.link_target = ""


def _hide(style: str, element: HtmlElement) -> None:
    """Of all styles only this one matters: a margin of 99999em would be that many lines."""
    if _HIDDEN.search(style):
        element.display = Display.none


@cache
def _config() -> ParserConfig:
    as_block = {tag: HtmlElement(display=Display.block) for tag in _BLOCKS}
    handlers = CustomHtmlTagHandlerMapping(
        start_tag_mapping={"a": _open_link} | dict.fromkeys(("table", "tr", "td", "th")),
        end_tag_mapping={"a": _close_link} | dict.fromkeys(("table", "td", "th")),
    )
    config = ParserConfig(css={**STRICT_CSS_PROFILE, **as_block}, custom_html_tag_handler_mapping=handlers)
    config.attribute_handler.attribute_mapping = {"style": _hide}
    return config
