"""Accounts at providers: what pools that speak with the same one may send together.

The provider counts what comes under one account, whichever of our pools it went through. So where each of them has a
limit for all of its emails they share the highest, a second and a day each on its own; and each keeps its own as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from app.db import Statements

SQL = Statements("account")


@dataclass(frozen=True, slots=True)
class Untold:
    """A pool of which nobody has told yet which account it speaks with; `url` is encrypted."""

    pool_id: int
    organisation_id: int
    url: bytes


@dataclass(frozen=True, slots=True)
class Sharing:
    """The names of other pools that speak with a pool's account, and what holds for all of them together; None: no such
    limit.
    """

    pools: list[str]
    per_second: float | None
    per_day: int | None


def hold(conn: Connection, organisation_id: int) -> None:
    """Keep others from changing an organisation's pools, their limits, and who uses them for what; until the commit.

    It comes first in a transaction.
    """
    conn.execute(SQL.hold, {"organisation_id": organisation_id})


def share(conn: Connection, organisation_id: int) -> None:
    """Reckon anew which pools of an organisation share an account, and what holds for them; in effect with the commit.

    Whoever has changed a pool, or its limits, does this at the end; what is held until then is not another's.
    """
    values = {"organisation_id": organisation_id}
    for each in (SQL.drop, SQL.put, SQL.assign):
        conn.execute(each, values)


def find_untold(conn: Connection) -> list[Untold]:
    """Pools that are older than this column, or were added by a process that is."""
    return [Untold(*row) for row in conn.execute(SQL.find_untold)]


def tell(conn: Connection, untold: Untold, digest: bytes) -> None:
    """Keep which account a pool speaks with; b"": it has none."""
    conn.execute(SQL.tell, {"pool_id": untold.pool_id, "url": untold.url, "account": digest})


def find_sharing(conn: Connection, pool_id: int) -> Sharing | None:
    """Who shares a pool's account; None where nobody does."""
    rows = conn.execute(SQL.find_sharing, {"pool_id": pool_id}).all()
    return Sharing([row.name for row in rows], rows[0].per_second, rows[0].per_day) if rows else None


def find_slots(conn: Connection, pool_id: int) -> list[tuple[float, int]]:
    """As `limit.find_slots`, of all pools that share a pool's account."""
    return [(row.slot, int(row.spent)) for row in conn.execute(SQL.find_slots, {"pool_id": pool_id})]
