"""Freezing a call: everything that its bytes are made of, kept while it may be made again under its key.

Addresses and slot values as they were, the sender, and which content and account they belong to. A repeat that would be
other bytes, or go to another account, is none.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import orjson

from app.mail import Letter
from app.models.campaign import Sending

MARGIN: Final = 60.0  # seconds before a key's end from which it is not relied upon: clocks differ


@dataclass(frozen=True, slots=True)
class Frozen:
    """A call as it was made; `account` is a digest of the pool's URL."""

    account: str
    version: int
    from_name: str
    from_address: str
    reply_to: str | None
    letters: list[Letter]


def freeze(sending: Sending, letters: Sequence[Letter], batch: int) -> list[bytes]:
    """One piece for every `batch` letters, in order: a few kilobytes of compressed JSON for fifty."""
    head = [account_of(sending.pool_url), sending.version, sending.from_name, sending.from_address, sending.reply_to]
    return [
        zlib.compress(orjson.dumps([*head, [tuple(letter) for letter in letters[first : first + batch]]]), 1)
        for first in range(0, len(letters), batch)
    ]


def thaw(piece: bytes) -> Frozen:
    """What `freeze` kept."""
    account, version, name, address, reply_to, letters = orjson.loads(zlib.decompress(piece))
    return Frozen(account, version, name, address, reply_to, [Letter._make(each) for each in letters])


def account_of(url: bytes) -> str:
    """What tells one account from another without naming it. `url` is a pool's, encrypted: written anew, it differs."""
    return blake2b(url, digest_size=12).hexdigest()
