"""What a message brings for its template, which nobody has declared; and the content of those that bring their own.

Anything may stand under `data`: a field that a message lacks is empty, lists can be gone through. The compiled content
of messages without a template has three slots, which their subject, HTML and text fill as they are.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from app.models.template_liquid import clean_line, clean_text

DATA: Final = "data"
_SMALL: Final = {number: number + 32 for number in range(ord("A"), ord("Z") + 1)}  # as many characters, unlike lower()
_NOT_READ: Final = ("style", "script", "title", "template")  # elements whose text nobody sees
_BREAKS: Final = ("br", "/p", "/div", "/tr", "/li", "/table", "/h1", "/h2", "/h3", "/h4", "hr", "/blockquote")


def is_data(path: str, known: Collection[str]) -> bool:
    """Whether a path leads into what messages bring: from `data`, or from a name that a loop or an assign gave it."""
    root, _, rest = path.partition(".")
    return DATA in known and bool(rest) and root in known and root not in ("to", "unsubscribe_url", "forloop")


def find_in(path: str) -> Callable[[Any], object]:
    """A function that gives a lead's, or a message's, value at a path below its attributes, None for none."""
    names = path.split(".")

    def find(lead: Any) -> object:
        value = lead.attributes
        for name in names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return find


def plain_text(written: str) -> str:
    """The text of an HTML email for who sees no HTML. In one pass: no HTML, however broken, takes longer."""
    pieces: list[str] = []
    lowered, place = written.translate(_SMALL), 0
    while (start := written.find("<", place)) >= 0:
        pieces.append(written[place:start])
        end = written.find("-->", start) if written.startswith("<!--", start) else written.find(">", start)
        if end < 0:
            break
        name = lowered[start + 1 : min(end, start + 16)].split()[0:1]
        tag = name[0].rstrip("/") if name else ""
        if tag in _BREAKS:
            pieces.append("\n")
        place = end + 1
        if tag in _NOT_READ and (closing := lowered.find(f"</{tag}", place)) >= 0:
            place = closing
        elif tag in _NOT_READ:
            break
    else:
        pieces.append(written[place:])
    lines = (" ".join(line.split()) for line in html.unescape("".join(pieces)).splitlines())
    return clean_text("\n".join(line for line in lines if line) + "\n")


def _own_subject(brought: Mapping[str, Any]) -> str:
    return clean_line(brought["subject"])


def _own_html(brought: Mapping[str, Any]) -> str:
    written: str = brought["html"]
    if written:
        return written
    return f'<div style="white-space: pre-wrap">{html.escape(brought["text"])}</div>'


def _own_text(brought: Mapping[str, Any]) -> str:
    return clean_text(brought["text"]) if brought["text"] else plain_text(brought["html"])


# Places that nothing is written to but what a message brought for them.
OWN_PLACES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "own_subject": _own_subject,
    "own_html": _own_html,
    "own_text": _own_text,
}
# As content.compiled keeps it.
OWN_CONTENT: Final[Mapping[str, Any]] = {
    "parts": {name: [["", ""], [slot]] for slot, name in enumerate(("subject", "html", "text"))},
    "slots": [{"path": f"data.{name}", "filters": [], "place": f"own_{name}"} for name in ("subject", "html", "text")],
    "unsubscribe": False,
    "links": None,
}
