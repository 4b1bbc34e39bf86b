"""Campaigns as lists and their own pages head them: with the names around them and how far they have come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from app.db import Statements
from app.errors import NotFound
from app.models.outbox import Progress

SQL = Statements("campaign_list")
BEYOND: Final = 2**31 - 1  # behind every id


@dataclass(frozen=True, slots=True)
class Line:
    """A campaign as lists show it. The sums are in leads, over all its runs, as they were at `read_at`."""

    id: int
    name: str
    state: str
    notice: str | None
    start_at: datetime | None
    run: int
    exclusions: Mapping[str, int]
    created_at: datetime
    updated_at: datetime
    launched_at: datetime | None
    finished_at: datetime | None
    read_at: datetime
    unknown_policy: str
    track_opens: str
    track_clicks: str
    owner: str
    sender: str | None
    address: str | None
    pool_id: int | None
    pool: str | None
    pool_state: str | None
    pool_reason: str | None
    pool_resume_at: datetime | None
    second_pool: str | None
    second_pool_state: str | None
    used_up: bool  # the limit of its pool, for more than a minute yet
    repeats: bool
    segment: str | None
    subject: str | None
    has_content: bool
    audience: int
    sent: int
    refused: int
    failed: int
    skipped: int
    cancelled: int
    unknown: int
    open: int

    @property
    def progress(self) -> Progress:
        """The sums, which must add up."""
        outcomes = (self.sent, self.refused, self.failed, self.skipped, self.cancelled, self.unknown)
        return Progress(self.audience, *outcomes, self.open)

    @property
    def gone(self) -> int:
        """Leads that a provider was asked to mail: the outcomes that take time."""
        return self.sent + self.refused + self.failed + self.unknown

    @property
    def goes_round(self) -> bool:
        """Whether it goes through its sender's second pool now, since the first does not send."""
        return self.pool_state == "paused" and self.second_pool_state == "active"

    @property
    def moves(self) -> bool:
        """Whether its figures may still change by themselves."""
        return self.state not in ("draft", "finished") and not (self.state == "cancelled" and self.finished_at)


def find_page(conn: Connection, organisation_id: int, before: int | None, limit: int) -> list[Line]:
    """An organisation's campaigns, the newest first: at most `limit`, from below the id `before` on."""
    values = {"organisation_id": organisation_id, "before": before or BEYOND, "limit": limit}
    return [Line(**row._mapping) for row in conn.execute(SQL.find_lines, values)]


def find(conn: Connection, organisation_id: int, campaign_id: int) -> Line:
    """One campaign; raises NotFound where it does not exist or is another organisation's."""
    if not 0 < campaign_id < BEYOND:
        raise NotFound("There is no such campaign.")
    for line in find_page(conn, organisation_id, campaign_id + 1, 1):
        if line.id == campaign_id:
            return line
    raise NotFound("There is no such campaign.")


def find_names(conn: Connection, organisation_id: int, limit: int = 200) -> list[tuple[int, str]]:
    """(id, name) of launched campaigns, the newest first: what a report can be asked about."""
    values = {"organisation_id": organisation_id, "limit": limit}
    return [(row.id, row.name) for row in conn.execute(SQL.find_names, values)]


@dataclass(frozen=True, slots=True)
class Steps:
    """What an organisation that has no campaign yet has done before its first one."""

    has_leads: bool
    has_pool: bool
    has_sender: bool


def find_steps(conn: Connection, organisation_id: int) -> Steps:
    """How far a newcomer has come."""
    return Steps(*conn.execute(SQL.find_steps, {"organisation_id": organisation_id}).one())
