"""Senders: From identities; lists of them, and of the provider accounts that they send through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Statements

SQL = Statements("sender")


class Sender(Base):
    """A From identity and the pool that it sends through; the second one carries what the first cannot.

    Messages go through the transactional one, where it names one. The rules of its standing may have moved it.
    """

    __tablename__ = "sender"

    id: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[int]
    pool_id: Mapped[int]
    second_pool_id: Mapped[int | None]
    transactional_pool_id: Mapped[int | None]
    name: Mapped[str]
    address: Mapped[str]
    reply_to: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


@dataclass(frozen=True, slots=True)
class SenderLine:
    """A sender as lists show it; `campaigns` counts those that it is chosen in.

    `state` is its standing's (app/models/standing.py); `carried_by`: the pool that it was moved to because of that.
    """

    id: int
    name: str
    address: str
    reply_to: str | None
    created_at: datetime
    pool_id: int
    pool: str
    pool_state: str
    second_pool_id: int | None
    second_pool: str | None
    transactional_pool_id: int | None
    transactional_pool: str | None
    state: str
    carried_by: str | None
    campaigns: int


@dataclass(frozen=True, slots=True)
class PoolLine:
    """A pool as lists show it: its address without credentials. `reason` says why it is paused.

    `breaker`: sends; stopped until a person acts; waits until `resume_at`, after `tries` in a row that found its
    provider down; due to be tried with one batch; probing with one. `check_said`: what the provider answered when a
    person last had it asked about the account. `senders` counts those whose first or second pool it is.
    """

    id: int
    name: str
    provider: str
    shown_url: str
    batch: int
    state: str
    reason: str | None
    resume_at: datetime | None
    tries: int
    breaker: str
    created_at: datetime
    checked_at: datetime | None
    check_said: str | None
    check_good: bool | None
    senders: int
    purpose: str


def find_named(session: Session, organisation_id: int, address: str, name: str) -> Sender | None:
    """The sender with that address and name, whatever their case."""
    return session.scalars(
        select(Sender).where(
            Sender.organisation_id == organisation_id,
            func.lower(Sender.address) == address.lower(),
            func.lower(Sender.name) == name.lower(),
        )
    ).first()


def list_senders(conn: Connection, organisation_id: int) -> list[SenderLine]:
    """All senders, by name."""
    rows = conn.execute(SQL.list_senders, {"organisation_id": organisation_id})
    return [SenderLine(**row._mapping) for row in rows]


def list_pools(conn: Connection, organisation_id: int) -> list[PoolLine]:
    """All pools, by name."""
    rows = conn.execute(SQL.list_pools, {"organisation_id": organisation_id})
    return [PoolLine(**row._mapping) for row in rows]


@dataclass(frozen=True, slots=True)
class Way:
    """The pool that carries a sender now, the domain that it sends from, and its state."""

    organisation_id: int
    pool_id: int
    domain: str
    state: str


def find_way(conn: Connection, sender_id: int, *, transactional: bool = False) -> Way | None:
    """Which way a sender's emails go: campaigns, or where `transactional` messages; None: there is no such sender."""
    row = conn.execute(SQL.find_way, {"sender_id": sender_id, "transactional": transactional}).first()
    return None if row is None else Way(*row)


def sends_messages(conn: Connection, sender_id: int) -> bool:
    """Whether programs have asked for messages from it that are there for transactions."""
    return bool(conn.execute(SQL.sends_messages, {"sender_id": sender_id}).scalar_one())


def delete(conn: Connection, organisation_id: int, sender_id: int) -> bool:
    """Take a sender away; False where a campaign is from it."""
    values = {"organisation_id": organisation_id, "sender_id": sender_id}
    return conn.execute(SQL.delete, values).first() is not None
