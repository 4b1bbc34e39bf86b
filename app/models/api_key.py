"""Keys of programs: what each may do, how often, and when it was last used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from app.db import Statements

SQL = Statements("api_key")

# What a key may be given, and what that opens; the order of the page.
SCOPES: Final = {
    "messages:send": "send messages, and call back those that wait",
    "messages:read": "read messages and what became of them",
    "templates:read": "read message templates",
    "templates:write": "write message templates",
    "campaigns:read": "read campaigns and their progress",
    "campaigns:write": "write drafts",
    "campaigns:send": "launch, pause, resume and cancel campaigns",
    "leads:read": "read leads",
    "leads:write": "add, change and erase leads",
    "segments:read": "read segments, and count who is in them",
    "segments:write": "write segments",
    "suppressions:read": "read suppressions",
    "suppressions:write": "add suppressions and take them back",
    "reports:read": "read reports",
    "webhooks:read": "read endpoints and what was posted to them",
    "webhooks:write": "add, change and remove endpoints",
    "senders:read": "read senders",
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is good. `user_id`: who made it, and owns what is made with it. `is_stale`: note that it is used."""

    id: int
    organisation_id: int
    user_id: int
    name: str
    scopes: Sequence[str]
    per_minute: int
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A key as lists show it; `shown` is how its secret begins, `made_by` and `revoked_by` are names."""

    id: int
    organisation_id: int
    name: str
    shown: str
    scopes: Sequence[str]
    per_minute: int
    made_by: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None


def add(
    conn: Connection,
    organisation_id: int,
    user_id: int,
    *,
    name: str,
    secret_hash: bytes,
    shown: str,
    scopes: Sequence[str],
    per_minute: int,
) -> int:
    """A new key's number."""
    values = {"organisation_id": organisation_id, "user_id": user_id, "name": name, "hash": secret_hash}
    values |= {"shown": shown, "scopes": list(scopes), "per_minute": per_minute}
    return int(conn.execute(SQL.add, values).scalar_one())


def find(conn: Connection, secret_hash: bytes) -> ApiKey | None:
    """The key whose secret hashes to this; None where there is none, or it was revoked."""
    row = conn.execute(SQL.find, {"hash": secret_hash}).one_or_none()
    return None if row is None else ApiKey(**row._mapping)


def touch(conn: Connection, key_id: int) -> None:
    """Note that it is used now, unless somebody else is about to."""
    conn.execute(SQL.touch, {"id": key_id})


def find_lines(conn: Connection, organisation_id: int | None) -> list[Line]:
    """An organisation's keys, or (None) all: those that are good first, the newest first."""
    return [Line(**row._mapping) for row in conn.execute(SQL.find_lines, {"organisation_id": organisation_id})]


def revoke(conn: Connection, organisation_id: int | None, key_id: int, user_id: int | None) -> str | None:
    """End a key for good, one of any organisation where None is given; its name, None where there is none such."""
    values = {"organisation_id": organisation_id, "id": key_id, "user_id": user_id}
    name: str | None = conn.execute(SQL.revoke, values).scalar_one_or_none()
    return name
