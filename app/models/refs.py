"""Provider ids of a call's emails, packed: kept for whoever must ask the provider, and a fifth of what an email logs.

The first byte tells how the rest is to be read: `u` UUIDs of 16 bytes each, `t` lines of text, `z` such lines deflated.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from uuid import UUID

_DASHES = (8, 13, 18, 23)  # of a UUID as it is written, 36 characters and the line's end


def pack(refs: Sequence[str]) -> bytes | None:
    """Refs without line breaks, in order, as bytes; None where there are none. `unpack` gives them back."""
    text = "\n".join(refs).encode()
    if not text:
        return None
    if _are_uuids(text, len(refs)):
        try:
            return b"u" + bytes.fromhex(text.replace(b"-", b"").decode())
        except ValueError:  # they only look like it
            pass
    small = zlib.compress(text, 1)
    return b"z" + small if len(small) < len(text) else b"t" + text


def unpack(packed: bytes | None) -> list[str]:
    """What `pack` was given."""
    if packed is None:
        return []
    kind, rest = packed[:1], packed[1:]
    if kind == b"u":
        return [str(UUID(bytes=rest[first : first + 16])) for first in range(0, len(rest), 16)]
    return (zlib.decompress(rest) if kind == b"z" else rest).decode().split("\n")


def _are_uuids(text: bytes, count: int) -> bool:
    """Whether lines have the length, the dashes and the small letters of UUIDs; their digits are not looked at."""
    if len(text) != 37 * count - 1 or text.count(b"-") != 4 * count or text != text.lower():
        return False
    return all(text[place::37] == b"-" * count for place in _DASHES) and text[36::37] == b"\n" * (count - 1)
