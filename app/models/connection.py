"""Connections of a pool that are open, by whatever process: a row for each, which runs out where its process dies."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from app.db import Statements

SQL = Statements("connection")


class Granted(NamedTuple):
    """A connection that may be open; `messages`: the most that may go over it, None where its receiver has no limit."""

    id: UUID
    messages: int | None


def take(
    conn: Connection, connection_id: UUID, pool_id: int, receiver: str, most: int, seconds: float
) -> Granted | None:
    """Count one more connection for so long; None where `most` are open, or as many to the receiver as its limit says.

    Others that take one of this pool wait until the commit.
    """
    conn.execute(SQL.lock, {"pool_id": pool_id})
    conn.execute(SQL.drop_over, {"pool_id": pool_id})
    values = {"id": connection_id, "pool_id": pool_id, "receiver": receiver, "most": most, "seconds": seconds}
    row = conn.execute(SQL.take, values).one_or_none()
    return None if row is None else Granted(*row)


def renew(conn: Connection, connection_id: UUID, seconds: float) -> Granted | None:
    """Keep it for so long from now; None where its time was over, or fewer are allowed by now: it must be closed."""
    row = conn.execute(SQL.renew, {"id": connection_id, "seconds": seconds}).one_or_none()
    return None if row is None else Granted(*row)


def give_back(conn: Connection, connection_id: UUID) -> None:
    """It is closed."""
    conn.execute(SQL.give_back, {"id": connection_id})


def is_free(conn: Connection, pool_id: int, receiver: str, most: int) -> bool:
    """Whether one more could be taken."""
    values = {"pool_id": pool_id, "receiver": receiver, "most": most}
    return bool(conn.execute(SQL.is_free, values).scalar_one())


def count_open(conn: Connection, pool_id: int) -> dict[str, int]:
    """receiver -> connections that are open now; "" for emails to nobody that a limit names."""
    return {row.receiver: row.connections for row in conn.execute(SQL.count_open, {"pool_id": pool_id})}
