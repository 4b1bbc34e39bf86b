"""Warm-up: a ceiling that grows day by day, of a pool or of a domain that an organisation sends from.

New addresses are trusted little: receivers want to see a few emails first, then more. All is counted in PostgreSQL,
over any 24 hours as limits by day are, so that it outlives Redis. Days are UTC's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from app.db import Statements, array
from app.errors import Fault, Invalid

SQL = Statements("warm_up")
LONGEST: Final = 366  # days
GREATEST: Final = 100_000_000  # emails a day


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve that is shipped: its name for people, what it is for, and its ceilings, one a day."""

    name: str
    use: str
    days: tuple[int, ...]


def _read() -> dict[str, Curve]:
    known = tomllib.loads(Path(__file__).with_name("warm_up.toml").read_text())
    return {key: Curve(each["name"], each["use"], tuple(each["days"])) for key, each in known.items()}


CURVES: Final[Mapping[str, Curve]] = _read()
DEFAULT: Final = next(iter(CURVES))


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A warm-up as its page shows it; of `pool_id` and `domain` one is there. `spent`: emails of the last 24 hours."""

    id: int
    pool_id: int | None
    domain: str | None
    starts_on: date
    curve: tuple[int, ...]
    paced_until: datetime | None
    today: date
    spent: int

    @property
    def day(self) -> int:
        """Which day of it today is, from 1; 0 or less before it starts."""
        return (self.today - self.starts_on).days + 1

    @property
    def ends_on(self) -> date:
        """The first day without a ceiling."""
        return self.starts_on + timedelta(days=len(self.curve))

    @property
    def is_over(self) -> bool:
        return self.today >= self.ends_on

    @property
    def today_ceiling(self) -> int | None:
        """Emails in 24 hours today; None once it is over."""
        return on_day(self.starts_on, self.curve, self.today)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one for now; `frees_in` seconds there may be more. `changed_at` tells it from a later one."""

    id: int
    left: int
    frees_in: float
    changed_at: datetime


def on_day(starts_on: date, curve: Sequence[int], day: date) -> int | None:
    """The ceiling of a day; before the first day the first one's, None after the last."""
    number = max(0, (day - starts_on).days)
    return curve[number] if number < len(curve) else None


def ceiling(conn: Connection, pool_id: int, day: date) -> int | None:
    """How many emails a pool's warm-up lets go on a day (UTC's); None: it has none, or it is over by then."""
    row = conn.execute(SQL.find_curve, {"pool_id": pool_id}).first()
    return None if row is None else on_day(row.starts_on, row.curve, day)


def find(
    conn: Connection, organisation_id: int, *, pool_id: int | None = None, domain: str | None = None
) -> list[WarmUp]:
    """The warm-ups of a pool and of a sender's domain, where there are any, the pool's first."""
    values = {"organisation_id": organisation_id, "pool_id": pool_id, "domain": domain}
    found = conn.execute(SQL.find, values).mappings()
    return [WarmUp(**dict(row) | {"curve": tuple(row["curve"]), "spent": int(row["spent"])}) for row in found]


def set_of_pool(conn: Connection, organisation_id: int, pool_id: int, starts_on: date, curve: Sequence[int]) -> None:
    """Give a pool this warm-up, in effect with the commit; what was sent today still counts.

    Raises Invalid naming "curve".
    """
    check(curve)
    values = {"organisation_id": organisation_id, "pool_id": pool_id, "starts_on": starts_on, "curve": list(curve)}
    conn.execute(SQL.set_of_pool, values)


def set_of_domain(conn: Connection, organisation_id: int, domain: str, starts_on: date, curve: Sequence[int]) -> None:
    """As `set_of_pool`, for everything that is sent from addresses of a domain, through whichever pool."""
    check(curve)
    values = {"organisation_id": organisation_id, "domain": domain.lower(), "starts_on": starts_on}
    conn.execute(SQL.set_of_domain, values | {"curve": list(curve)})


def drop_of_pool(conn: Connection, organisation_id: int, pool_id: int) -> None:
    """The pool has no warm-up any more, whether it had come to its end or not."""
    conn.execute(SQL.drop_of_pool, {"organisation_id": organisation_id, "pool_id": pool_id})


def drop_of_domain(conn: Connection, organisation_id: int, domain: str) -> None:
    """As `drop_of_pool`, for a domain."""
    conn.execute(SQL.drop_of_domain, {"organisation_id": organisation_id, "domain": domain.lower()})


def today(conn: Connection) -> date:
    """The day that warm-ups are on now: UTC's, by the database's clock."""
    day: date = conn.execute(SQL.today).scalar_one()
    return day


def check(curve: Sequence[int]) -> None:
    """Raises Invalid naming "curve"."""
    fault = _fault(curve)
    if fault is not None:
        raise Invalid([Fault("curve", fault)])


def find_left(conn: Connection, campaign_id: int, pool_id: int) -> list[Left]:
    """What is left now of the warm-ups that a campaign's emails through a pool count for."""
    return [Left(*row) for row in conn.execute(SQL.find_left, {"campaign_id": campaign_id, "pool_id": pool_id})]


def find_slots(conn: Connection, ids: Collection[int]) -> dict[int, list[tuple[float, int]]]:
    """warm-up -> (begin of a step in seconds since 1970, emails in it), of the last day, the oldest first."""
    slots: dict[int, list[tuple[float, int]]] = {each: [] for each in ids}
    for row in conn.execute(SQL.find_slots, {"ids": array(ids)}):
        slots[row.warm_up_id].append((row.slot, row.spent))
    return slots


def spend(conn: Connection, ids: Collection[int], emails: int) -> bool:
    """Count emails for the day; False, and nothing is counted, where one of the warm-ups has less left.

    Locks them until the transaction ends: of two pages at the end of a day one gets what is left.
    """
    values = {"ids": array(sorted(ids)), "emails": emails}
    conn.execute(SQL.lock, values)
    return bool(conn.execute(SQL.spend, values).scalar_one())


def give_back(conn: Connection, ids: Collection[int], emails: int) -> None:
    """Take back what was spent on emails that never left us."""
    values = {"ids": array(sorted(ids)), "emails": emails}
    conn.execute(SQL.lock, values)
    conn.execute(SQL.give_back, values)


def wait(conn: Connection, left: Left, seconds: float) -> None:
    """It is used up: claim nothing for it for so many seconds. One that was changed meanwhile is not."""
    conn.execute(SQL.wait, {"id": left.id, "changed_at": left.changed_at, "seconds": seconds})


def forget_spent(conn: Connection) -> None:
    """Drop what no day counts any more."""
    conn.execute(SQL.forget_spent)


def _fault(curve: Sequence[int]) -> str | None:
    if not 1 <= len(curve) <= LONGEST:
        return f"Write 1 to {LONGEST} numbers, one for each day."
    if not all(1 <= each <= GREATEST for each in curve):
        return f"Each day has 1 to {GREATEST:,} emails."
    return None
