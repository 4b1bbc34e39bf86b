"""Which of many clocks works: the one that holds this lease."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection

from app.db import Statements

SQL = Statements("clock_lease")


def hold(conn: Connection, owner: UUID, seconds: float) -> int | None:
    """Take the lease, or renew it; the number of its owners so far, None while it is another's."""
    fence = conn.execute(SQL.hold, {"owner": owner, "seconds": seconds}).scalar()
    return None if fence is None else int(fence)


def let_go(conn: Connection, owner: UUID) -> None:
    """End the lease, where it is this one's, so that another need not wait until it runs out."""
    conn.execute(SQL.let_go, {"owner": owner})


def find_owner(conn: Connection) -> UUID | None:
    """The process that works; None while none does."""
    owner: UUID | None = conn.execute(SQL.find_owner).scalar()
    return owner
