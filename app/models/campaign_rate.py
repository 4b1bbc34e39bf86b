"""How fast one campaign may go, whatever its pool allows: so many emails a second, a minute or an hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from app.db import Statements
from app.errors import Fault, Invalid

SQL = Statements("campaign_rate")
PER: Final[Mapping[str, int]] = {"second": 1, "minute": 60, "hour": 3600}  # seconds
FASTEST: Final = 1_000_000  # emails, per whatever


@dataclass(frozen=True, slots=True)
class Rate:
    """`emails` per "second", "minute" or "hour", as a person said it."""

    emails: int
    per: str

    @property
    def per_second(self) -> float:
        return self.emails / PER[self.per]

    @property
    def burst(self) -> int:
        """As many may go at once: a second's worth; of slow ones up to ten, so that calls are not of one email."""
        return max(1, round(self.per_second if self.per_second >= 10 else min(10.0, 10 * self.per_second)))


@dataclass(frozen=True, slots=True)
class KeptRate:
    """A rate as it is stored; `changed_at` tells it from the one that takes its place."""

    rate: Rate
    changed_at: datetime


def set_rate(conn: Connection, campaign_id: int, rate: Rate | None) -> None:
    """Let a campaign go no faster, from its next page on; None: as fast as its pool allows.

    Raises Invalid naming "emails" or "per".
    """
    if rate is None:
        conn.execute(SQL.drop_rate, {"campaign_id": campaign_id})
        return
    faults = []
    if not 1 <= rate.emails <= FASTEST:
        faults.append(Fault("emails", f"It must be between 1 and {FASTEST:,} emails."))
    if rate.per not in PER:
        faults.append(Fault("per", "Choose a second, a minute or an hour."))
    if faults:
        raise Invalid(faults)
    values = {"campaign_id": campaign_id, "emails": rate.emails, "per": rate.per}
    conn.execute(SQL.set_rate, values | {"per_second": rate.per_second, "burst": rate.burst})


def find(conn: Connection, campaign_id: int) -> KeptRate | None:
    """A campaign's rate, if it has one."""
    row = conn.execute(SQL.find, {"campaign_id": campaign_id}).first()
    return None if row is None else KeptRate(Rate(row.emails, row.per), row.changed_at)


@dataclass(frozen=True, slots=True)
class From:
    """Who a campaign is from: the state of its standing, and why it was last moved."""

    sender_id: int
    state: str
    reason: str


def find_sender(conn: Connection, campaign_id: int) -> From | None:
    """A campaign's sender, once one is chosen."""
    row = conn.execute(SQL.find_sender, {"campaign_id": campaign_id}).first()
    return None if row is None else From(*row)


def wait(conn: Connection, campaign_id: int, known: KeptRate, seconds: float) -> None:
    """It is used up: claim nothing of the campaign for so many seconds; unless the rate was changed meanwhile."""
    conn.execute(SQL.wait, {"campaign_id": campaign_id, "changed_at": known.changed_at, "seconds": seconds})


def copy(conn: Connection, campaign_id: int, to_campaign: int) -> None:
    """Give a copy of a campaign the same rate."""
    conn.execute(SQL.copy, {"campaign_id": campaign_id, "to_campaign": to_campaign})
