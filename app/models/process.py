"""Processes: which ones are up, by their beats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from app.db import Statements

SQL = Statements("process")


@dataclass(frozen=True, slots=True)
class Process:
    """One process that beats."""

    id: UUID
    kind: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime


def beat(conn: Connection, process_id: UUID, kind: str, host: str, pid: int) -> None:
    """Say that a process lives."""
    conn.execute(SQL.beat, {"id": process_id, "kind": kind, "host": host, "pid": pid})
    conn.execute(SQL.forget_dead)


def alive(conn: Connection, kind: str) -> list[Process]:
    """Those seen within 30 seconds, newest first."""
    return [Process(*row) for row in conn.execute(SQL.alive, {"kind": kind})]


def ping(conn: Connection) -> None:
    """Ask the database for nothing but an answer."""
    conn.execute(SQL.ping)


def find_unread(conn: Connection) -> dict[str, float]:
    """What waits for workers (webhooks, clicks and opens, news for endpoints) -> seconds that the oldest has waited."""
    row = conn.execute(SQL.find_unread).one()
    return {"webhooks": row.webhooks, "clicks and opens": row.hits, "news for endpoints": row.news}


def find_sealed(conn: Connection) -> list[bytes]:
    """Every credential and secret, as it is stored: encrypted."""
    return list(conn.execute(SQL.find_sealed).scalars())


def server_version(conn: Connection) -> tuple[str, int]:
    """PostgreSQL's name and version for people, and as a number (160004 is 16.4)."""
    row = conn.execute(SQL.server_version).one()
    return f"PostgreSQL {row.version}", int(row.number)


def timescaledb(conn: Connection) -> tuple[str | None, str | None]:
    """The extension's version and its licence ("timescale" or "apache"); None, None where it is not there."""
    row = conn.execute(SQL.timescaledb).one()
    return row.version, row.licence
