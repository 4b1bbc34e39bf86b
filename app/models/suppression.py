"""Suppressions: addresses never to be mailed again, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, FetchedValue
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Statements

SQL = Statements("suppression")
REASONS = ("unsubscribed", "complained", "bounced", "manual")
# What a suppression makes of the lead who has the address; by hand leaves the status alone.
STATUS = {"unsubscribed": "unsubscribed", "complained": "unsubscribed", "bounced": "invalid"}


class Suppression(Base):
    """An address that is not mailed. `source` says where that was learnt: a campaign, a provider, a person."""

    __tablename__ = "suppression"

    organisation_id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    source: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())


@dataclass(frozen=True, slots=True)
class Row:
    """A suppression as lists show it."""

    email: str
    reason: str
    source: str
    created_at: datetime


def suppress(conn: Connection, organisation_id: int, emails: Iterable[str], reason: str, source: str = "") -> int:
    """Suppresses addresses (in the form that `app.addresses` gives) and closes their leads; returns how many were new.

    An address that is suppressed already keeps its first reason. Doing it again changes nothing.
    """
    wanted = sorted(set(emails))  # in one order, or two of these would wait for each other
    values = {"organisation_id": organisation_id, "emails": wanted}
    new = conn.execute(SQL.insert_suppressions, values | {"reason": reason, "source": source}).rowcount
    if reason in STATUS:
        conn.execute(SQL.close_leads, values | {"status": STATUS[reason]})
    return new


def find(conn: Connection, organisation_id: int, email: str) -> Row | None:
    """The suppression of one address, if it is suppressed."""
    row = conn.execute(SQL.find, {"organisation_id": organisation_id, "email": email}).one_or_none()
    return None if row is None else Row(**row._mapping)


def is_suppressed(conn: Connection, organisation_id: int, email: str) -> bool:
    return find(conn, organisation_id, email) is not None


def find_page(conn: Connection, organisation_id: int, search: str, after: str, limit: int) -> list[Row]:
    """Suppressions by address, at most `limit`, behind the address `after` ("": from the first); `search`: a prefix."""
    prefix = search.strip().lower().replace("\0", "")
    values = {"organisation_id": organisation_id, "prefix": prefix, "high": prefix + "\U0010ffff"}
    rows = conn.execute(SQL.find_page, values | {"after": after, "limit": limit})
    return [Row(**row._mapping) for row in rows]
