"""The ledger of streams, range by range, and how long all of it is kept.

A first range and all that was put off from it are a family: what they count, what their calls say and what the record
says must be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from app.db import Statements, array, fetch
from app.mail import OUTCOMES
from app.message_ids import first_of_day
from app.models import campaign
from app.models.ledger import Difference
from app.shelves import is_over, last_of

SQL = Statements("message_ledger")
AFTER = timedelta(minutes=15)  # a shelf that is over is left alone: a request that is still under way may need it
EARLIER = timedelta(minutes=1)  # a range's events are younger than it is; clocks are the database's alone


@dataclass(frozen=True, slots=True)
class Family:
    """A first range of which nothing is open any more, with the sums over all that was put off from it."""

    range_id: int
    campaign_id: int
    due_at: datetime
    size: int
    first_lead: int
    last_lead: int
    sent: int
    refused: int
    failed: int
    skipped: int
    cancelled: int
    unknown: int

    @property
    def sums(self) -> dict[str, int]:
        """kind -> messages, of the kinds that there are any of."""
        counted = {kind.value: int(getattr(self, kind.value)) for kind in OUTCOMES}
        return {kind: total for kind, total in counted.items() if total}

    @property
    def adds_up(self) -> bool:
        return sum(self.sums.values()) == self.size


class Retention(NamedTuple):
    """Days that messages and their ranges are kept once they are over; and keys."""

    days: int
    key_days: int


def find_over(conn: Connection, age: float, limit: int) -> list[Family]:
    """Families that nobody has compared yet and of which nothing is open, due `age` seconds ago: by stream and time."""
    return [Family(**row._mapping) for row in conn.execute(SQL.find_over, {"age": age, "limit": limit})]


def sum_record(conn: Connection, families: Sequence[Family]) -> Mapping[int, dict[str, int]]:
    """range -> kind -> messages, as the record has them, for families of one stream."""
    values = {
        "range_ids": array(each.range_id for each in families),
        "campaign_id": families[0].campaign_id,
        "first": min(each.first_lead for each in families),
        "last": max(each.last_lead for each in families),
        "since": min(each.due_at for each in families) - EARLIER,
    }
    found: dict[int, dict[str, int]] = {each.range_id: {} for each in families}
    for range_id, kind, total in fetch(conn, SQL.sum_record, values, prepare=False):
        if total:
            found[range_id][str(kind)] = int(total)
    return found


def find_differences(conn: Connection, family: Family) -> list[Difference]:
    """The messages of a family of whom calls and record do not say the same, and those that are still to be served."""
    values = {
        "range_id": family.range_id,
        "campaign_id": family.campaign_id,
        "first": family.first_lead,
        "last": family.last_lead,
        "since": family.due_at - EARLIER,
    }
    rows = fetch(conn, SQL.find_differences, values, prepare=False)
    return [Difference(lead_id, letters, calls, kinds, open, True) for lead_id, letters, calls, kinds, open in rows]


def note_agreed(conn: Connection, range_ids: Sequence[int]) -> None:
    """Nothing more is to be done about these families, but to drop them some day."""
    conn.execute(SQL.note_agreed, {"range_ids": array(range_ids)})


def find_retention(conn: Connection) -> Retention:
    """How long is kept."""
    return Retention(*conn.execute(SQL.find_retention).one())


def keep_for(conn: Connection, days: int) -> None:
    """Keep messages for so many days once they are over, 10 to 400."""
    conn.execute(SQL.keep_for, {"days": days})


def drop_families(conn: Connection, days: int, limit: int) -> int:
    """Drop families that agreed so many days ago, and their calls: up to `limit`; how many ranges."""
    return int(conn.execute(SQL.drop_families, {"days": days, "limit": limit}).scalar_one())


def drop_messages(conn: Connection, days: int) -> int:
    """Drop whole days of messages that are over since so many days; how many days that was."""
    since = campaign.now(conn) - timedelta(days=days)
    below = first_of_day(since)
    [(oldest,)] = fetch(conn, SQL.find_oldest, {"last": last_of(since)}, prepare=False)
    if oldest is not None:
        below = min(below, oldest)
    return int(conn.execute(SQL.drop_messages, {"below": below}).scalar_one())


def find_shelves_over(conn: Connection) -> list[int]:
    """Shelves on which nothing lies and nothing is put any more: what belongs there was due AFTER ago."""
    before = campaign.now(conn) - AFTER
    shelves = conn.execute(SQL.find_shelves, {"last": last_of(before)}).scalars()
    return [each for each in shelves if is_over(each, before) and not _holds_any(conn, each)]


def drop_shelf(conn: Connection, shelf: int) -> bool:
    """Drop a shelf; False where something lies on it. Nobody is at what waits meanwhile, not even to read.

    Raises OperationalError (db.is_locked) where somebody is, for longer than others may be kept waiting for us.
    """
    conn.execute(SQL.wait_little)
    conn.execute(SQL.lock_shelves)
    if _holds_any(conn, shelf):
        return False
    return bool(conn.execute(SQL.drop_shelf, {"shelf": shelf}).scalar_one())


def _holds_any(conn: Connection, shelf: int) -> bool:
    [(found,)] = fetch(conn, SQL.holds_any, {"shelf": shelf}, prepare=False)
    return bool(found)


def drop_keys(conn: Connection, days: int, limit: int) -> int:
    """Forget keys that are so old, up to `limit`; how many."""
    return conn.execute(SQL.drop_keys, {"days": days, "limit": limit}).rowcount
