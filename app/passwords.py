"""Password hashing (argon2id), a few at a time: each costs 64 MiB and a sixth of a second, and must not pile up."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from app.errors import Fault, Invalid, Unavailable

SHORTEST = 10
LONGEST = 256  # characters; argon2 would digest megabytes
PATIENCE = 8.0  # seconds to wait for one's turn
_hasher = PasswordHasher()
_turns = threading.BoundedSemaphore(2)


def hash_password(password: str) -> str:
    """The hash to keep. Raises Unavailable when too many are being hashed already."""
    with _turn():
        return _hasher.hash(password)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether it is the password; as slow for None (nobody has that address), so that time tells nothing."""
    with _turn():
        try:
            _hasher.verify(password_hash or _nobodys_hash(), password[: LONGEST + 1])
        except (VerifyMismatchError, InvalidHashError):
            return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def check_password(password: str, *, pointer: str = "password") -> None:
    """Raises Invalid unless the password is one that we take: length is what counts (NIST SP 800-63B §3.1.1)."""
    if len(password) < SHORTEST:
        raise Invalid([Fault(pointer, f"Please choose at least {SHORTEST} characters.")])
    if len(password) > LONGEST:
        raise Invalid([Fault(pointer, f"Please choose at most {LONGEST} characters.")])
    if len(set(password)) < 4:
        raise Invalid([Fault(pointer, "Please choose one that is harder to guess.")])


@cache
def _nobodys_hash() -> str:
    return _hasher.hash(secrets.token_hex())


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=PATIENCE):
        raise Unavailable("Too many people are logging in right now. Please try again in a moment.")
    try:
        yield
    finally:
        _turns.release()
