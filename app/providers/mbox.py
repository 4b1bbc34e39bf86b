"""Mail in a stream: one message, or many as an mbox (RFC 4155); read once, in a bounded piece of memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

TOOK: Final = 256 * 1024  # bytes of a message that are kept; the rest is read and dropped
PIECE: Final = 64 * 1024

_FROM: Final = re.compile(rb"From .{0,500}\d\d:\d\d.{0,50}\d{4}\r?\n?\Z")


def messages(stream: BinaryIO) -> Iterator[bytes]:
    """The messages of a stream, each at most `TOOK` bytes of it. One that begins with no From line is one message."""
    message, is_mbox, blank, fresh = bytearray(), False, True, True
    begun = False
    while piece := stream.readline(PIECE):
        if fresh and blank and (is_mbox or not begun) and _FROM.match(piece):
            if message:
                yield bytes(message)
            message.clear()
            is_mbox = True
        elif len(message) < TOOK:
            message += piece[: TOOK - len(message)]
        begun = True
        blank = fresh and piece in (b"\n", b"\r\n")
        fresh = piece.endswith(b"\n")
    if message.strip():
        yield bytes(message)
