"""The ledger: a campaign's frozen audience, its hand-offs and its record, held against each other lead by lead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from app.db import Statements, fetch
from app.models.outbox import Progress

SQL = Statements("ledger")

Marks = tuple[int, int]  # two sums over lead ids that tell one set of leads from another


@dataclass(frozen=True, slots=True)
class Difference:
    """A lead of whom not all say the same.

    `letters` are its outcomes in hand-offs (models/handoff.py), `kinds` what the record sums up to, `open` in how many
    places it still waits, `asked` whether it is of the audience at all.
    """

    lead_id: int
    letters: str
    handoff_ids: list[int]
    kinds: Mapping[str, int]
    open: int
    asked: bool


class Sums(NamedTuple):
    """What its ranges count, the record by kind, and whose outcomes those are: of one moment."""

    ranges: Progress
    record: Mapping[str, int]
    audience_marks: Marks
    record_marks: Marks


def sum_all(conn: Connection, campaign_id: int, since: datetime) -> Sums:
    """The sums of a campaign that was launched at `since`: nothing of it is older."""
    values = {"campaign_id": campaign_id, "since": since}
    [(ranges, kinds, *marks)] = fetch(conn, SQL.sum_all, values, prepare=False)
    first, second, third, fourth = map(int, marks)
    return Sums(Progress(*map(int, ranges)), kinds, (first, second), (third, fourth))


def find_differences(conn: Connection, campaign_id: int, since: datetime, limit: int) -> list[Difference]:
    """The leads of a campaign that was launched at `since`, at most `limit`, in order of their ids."""
    values = {"campaign_id": campaign_id, "since": since, "limit": limit}
    return [Difference(*row) for row in fetch(conn, SQL.find_differences, values, prepare=False)]


def find_first_range(conn: Connection, campaign_id: int, lead_id: int) -> int:
    """The range that a lead of the audience was first put into."""
    values = {"campaign_id": campaign_id, "lead_id": lead_id}
    return int(conn.execute(SQL.find_first_range, values).scalar_one())


def recount(conn: Connection, campaign_id: int, since: datetime) -> int:
    """Count the outcomes of closed ranges anew; how many of them counted wrong."""
    return conn.execute(SQL.recount, {"campaign_id": campaign_id, "since": since}).rowcount
