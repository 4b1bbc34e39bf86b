"""Answers to programs that were given under an Idempotency-Key: kept for a day, and given again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from app.db import Statements, fetch, run

SQL = Statements("api_answer")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: `location` is where the thing made is. `sealed`: the body is encrypted where it is kept."""

    status: int
    body: bytes
    location: str | None = None
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked for under a key of its own choice: digests of both, and of the two keys as a lock's place."""

    api_key_id: int
    key: bytes
    digest: bytes
    place: int


def try_lock(conn: Connection, request: Request) -> bool:
    """Take the key until the transaction ends; False where somebody holds it."""
    return bool(fetch(conn, SQL.try_lock, {"place": request.place})[0][0])


def find(conn: Connection, request: Request) -> tuple[bytes, Answer] | None:
    """(digest of the request, its answer) under this key within the last day."""
    rows = fetch(conn, SQL.find, {"api_key_id": request.api_key_id, "key": request.key})
    if not rows:
        return None
    digest, status, location, body, sealed = rows[0]
    return bytes(digest), Answer(status, bytes(body), location, sealed)


def keep(conn: Connection, request: Request, answer: Answer) -> None:
    """Keep an answer; the caller holds the lock."""
    values: dict[str, object] = {"api_key_id": request.api_key_id, "key": request.key, "request": request.digest}
    values |= {"status": answer.status, "location": answer.location, "body": answer.body, "sealed": answer.sealed}
    run(conn, SQL.keep, values)


def drop_old(conn: Connection, limit: int) -> int:
    """Drop up to `limit` that are older than a day; how many there were."""
    return conn.execute(SQL.drop_old, {"limit": limit}).rowcount
