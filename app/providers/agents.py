"""Who opened or clicked, as a provider tells it: texts out of parts of a body that may be anything."""

from __future__ import annotations


def said(part: object, name: str) -> str:
    """The text of that name in a part; "" where there is none, or the part is no object."""
    found = part.get(name) if isinstance(part, dict) else None
    return found[:500] if isinstance(found, str) else ""
