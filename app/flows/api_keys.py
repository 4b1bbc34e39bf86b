"""Keys of programs: made (the secret is shown once), read at the door, revoked."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import Fault, Invalid, NotFound
from app.models import api_key
from app.models.api_key import SCOPES, ApiKey
from app.runtime import Runtime

PREFIX: Final = "mill_"  # so that a secret that lies around is known for what it is
SHOWN: Final = len(PREFIX) + 5
LONGEST_NAME: Final = 80
PER_MINUTE: Final = 6_000  # requests; a batch of a thousand messages is one
MOST_PER_MINUTE: Final = 1_000_000
KNOWN_FOR: Final = 1.0  # seconds in which a process does not read a key again
MOST_KNOWN: Final = 10_000  # keys in one process


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, and its secret: known to nobody afterwards."""

    id: int
    secret: str


def create(
    runtime: Runtime,
    organisation_id: int,
    user_id: int,
    name: str,
    scopes: Sequence[str],
    per_minute: int = PER_MINUTE,
) -> Made:
    """A key that may do what `scopes` say, so many requests a minute.

    Raises Invalid naming "name", "scopes" or "per_minute".
    """
    name = name.strip()
    if faults := _faults(name, scopes, per_minute):
        raise Invalid(faults)
    secret = PREFIX + secrets.token_urlsafe(32)
    ordered = [scope for scope in SCOPES if scope in scopes]
    with runtime.db.begin() as conn:
        made = api_key.add(
            conn,
            organisation_id,
            user_id,
            name=name,
            secret_hash=_hash(secret),
            shown=secret[:SHOWN],
            scopes=ordered,
            per_minute=per_minute,
        )
    return Made(made, secret)


class Known:
    """Keys as a process knows them: each was read within the last KNOWN_FOR seconds."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[float, ApiKey]] = {}

    def read(self, runtime: Runtime, secret: str) -> ApiKey | None:
        """The key with this secret, noted as used; None where there is none, or it was revoked."""
        if not secret.startswith(PREFIX):
            return None
        now, name = time.monotonic(), _hash(secret)
        read_at, known = self._known.get(name, (-KNOWN_FOR, None))
        if known is not None and now < read_at + KNOWN_FOR:
            return known
        found = _read(runtime, name)
        if found is None:
            self._known.pop(name, None)
        else:
            if len(self._known) >= MOST_KNOWN:
                self._known = {}
            self._known[name] = (now, found)  # from before it was read on: whoever revokes it waits as long
        return found


def _read(runtime: Runtime, secret_hash: bytes) -> ApiKey | None:
    with runtime.db.each() as conn:
        found = api_key.find(conn, secret_hash)
        if found is not None and found.is_stale:
            api_key.touch(conn, found.id)
    return found


def revoke(runtime: Runtime, organisation_id: int | None, key_id: int, user_id: int | None = None) -> str:
    """End a key for good; its name. Twice is once. Raises NotFound.

    Returns when no process knows it any more: from then on it is answered nothing.
    """
    with runtime.db.begin() as conn:
        name = api_key.revoke(conn, organisation_id, key_id, user_id)
    if name is None:
        raise NotFound("There is no such key.")
    time.sleep(KNOWN_FOR)
    return name


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _faults(name: str, scopes: Sequence[str], per_minute: int) -> list[Fault]:
    faults = []
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        faults.append(Fault("name", f"Give the key a name of one line, {LONGEST_NAME} characters at most."))
    strange = sorted(set(scopes) - set(SCOPES))
    if strange:
        faults.append(Fault("scopes", f"There is no scope “{strange[0][:40]}”; there are {', '.join(SCOPES)}."))
    elif not scopes:
        faults.append(Fault("scopes", "Choose at least one thing that the key may do."))
    if not 1 <= per_minute <= MOST_PER_MINUTE:
        faults.append(Fault("per_minute", f"Choose a number from 1 to {MOST_PER_MINUTE:,}."))
    return faults
