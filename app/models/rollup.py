"""What keeps the reports' sums up to date: roll-up tables on TimescaleDB's Apache edition, policies on Community."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection

from app.db import Statements
from app.mail import Kind

SQL = Statements("rollup")

Edition = Literal["apache", "community"]


def edition(conn: Connection) -> Edition:
    """The edition that this database's reports were made for."""
    found: Edition = conn.execute(SQL.find_edition).scalar_one()
    return found


def lag(conn: Connection) -> timedelta | None:
    """How long reports have been summing live what should be rolled up; None where nothing waits, or nothing ran yet.

    Apache: since the oldest five minutes that wait were over. Community: since the policy last ran well.
    """
    statement = SQL.find_lag_of_rollups if edition(conn) == "apache" else SQL.find_lag_of_policies
    found: timedelta | None = conn.execute(statement).scalar()
    return found


# -- Apache: rolling up ------------------------------------------------------------------------------------------------


def take_turn(conn: Connection) -> bool:
    """True for one transaction at a time: two refreshers would each roll up what the other does."""
    return bool(conn.execute(SQL.take_turn).scalar_one())


def roll_up_5min(conn: Connection, buckets: int) -> int:
    """Roll up to so many five minutes that are over and were touched, the newest first; how many it were."""
    return int(conn.execute(SQL.roll_up_5min, {"buckets": buckets}).scalar_one())


def roll_up_hours(conn: Connection, buckets: int, wait: float) -> int:
    """The same for hours whose five minutes are all rolled up; `wait` is in seconds since they were touched."""
    return int(conn.execute(SQL.roll_up_hours, {"buckets": buckets, "wait": wait}).scalar_one())


def roll_up_days(conn: Connection, buckets: int, wait: float) -> int:
    """The same for days (of UTC) whose hours are all rolled up."""
    return int(conn.execute(SQL.roll_up_days, {"buckets": buckets, "wait": wait}).scalar_one())


def touch_unequal(conn: Connection, days: int) -> int:
    """Have buckets of the last days rolled up again whose sums by user are not those by campaign; how many."""
    return conn.execute(SQL.touch_unequal, {"days": days}).rowcount


# -- What is too old ---------------------------------------------------------------------------------------------------


def horizon(conn: Connection) -> datetime:
    """Events older than this are not appended: the sums of their time are final. They are counted by `note_late`."""
    found: datetime = conn.execute(SQL.find_horizon).scalar_one()
    return found


def note_late(
    conn: Connection, organisation_id: int, campaign_id: int, kind: Kind, time: datetime, total: int = 1
) -> None:
    """Count an event that came too late to be appended."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id, "kind": kind, "time": time}
    conn.execute(SQL.note_late, values | {"total": total})


def keep_for(conn: Connection, days: int) -> None:
    """Keep events for so many days, 30 at least; sums stay for ever. It takes effect within the hour."""
    conn.execute(SQL.keep_for, {"days": days})


def retire(conn: Connection) -> bool:
    """Move the horizon on; True when it moved, which is once an hour at most."""
    return bool(conn.execute(SQL.retire).scalar())


def is_rolled_up(conn: Connection) -> bool:
    """Apache: whether nothing that is to be dropped waits to be rolled up."""
    return bool(conn.execute(SQL.is_rolled_up).scalar_one())


def drop_chunks(conn: Connection) -> int:
    """Apache: drop whole days that are older than is kept; how many."""
    return int(conn.execute(SQL.drop_chunks).scalar_one())


def move_policies(conn: Connection) -> None:
    """Community: make the policies' windows follow the horizon."""
    conn.execute(SQL.move_windows)
    conn.execute(SQL.move_retention)
