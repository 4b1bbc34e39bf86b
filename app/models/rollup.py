"""What keeps the reports' sums up to date: roll-up tables on TimescaleDB's Apache edition, policies on Community."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection

from app.db import Statements

SQL = Statements("rollup")

Edition = Literal["apache", "community"]


def edition(conn: Connection) -> Edition:
    """For which edition this database's reports were made."""
    found: Edition = conn.execute(SQL.find_edition).scalar_one()
    return found


def take_turn(conn: Connection) -> bool:
    """True for one transaction at a time: two refreshers would each roll up what the other does."""
    return bool(conn.execute(SQL.take_turn).scalar_one())


def roll_up_5min(conn: Connection, buckets: int) -> int:
    """Rolls up to so many five minutes that are over and were touched, the newest first; gives how many."""
    return int(conn.execute(SQL.roll_up_5min, {"buckets": buckets}).scalar_one())


def roll_up_hours(conn: Connection, buckets: int, wait: float) -> int:
    """The same for hours that are over and whose five minutes are all rolled up; `wait` is in seconds since the touch."""
    return int(conn.execute(SQL.roll_up_hours, {"buckets": buckets, "wait": wait}).scalar_one())


def roll_up_days(conn: Connection, buckets: int, wait: float) -> int:
    """The same for days (of UTC) whose hours are all rolled up."""
    return int(conn.execute(SQL.roll_up_days, {"buckets": buckets, "wait": wait}).scalar_one())
