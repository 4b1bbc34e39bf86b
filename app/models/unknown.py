"""Calls of unknown outcome, and those whose leads failed: what pages list, and what a person or a policy decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from app.db import Statements, array
from app.errors import NotFound
from app.models.webhook import HEARD

SQL = Statements("unknown")
EVERY: Final = 2**31 - 1  # behind every campaign


@dataclass(frozen=True, slots=True)
class Unknown:
    """A call of unknown outcome, as a campaign's page lists it. `repeat_at`: Millrace makes it again by itself.

    `look_up_at`: the provider is asked about it then, where it can be. `resent`: its leads were sent to again once.
    `pool`: the one that it went through, whichever its sender has now; `pool_stands` until a person lets it go on.
    """

    id: int
    run: int
    handed_at: datetime
    unknown_since: datetime | None
    repeat_at: datetime | None
    look_up_at: datetime | None
    resent: bool
    answer: str | None
    pool_id: int
    pool: str
    pool_stands: bool
    leads: int
    age: float


@dataclass(frozen=True, slots=True)
class CallPool:
    """A pool that unknown calls went through; its `url` is encrypted."""

    id: int
    name: str
    url: bytes


@dataclass(frozen=True, slots=True)
class UnknownSums:
    """Calls of unknown outcome, the leads in them, and how many of the calls are made again under their keys.

    `undecided` are the leads of the other calls, on which a person may decide.
    """

    calls: int
    leads: int
    repeating: int
    undecided: int


@dataclass(frozen=True, slots=True)
class FailedSums:
    """Leads that count as failed; of `left` it was never known whether an earlier call had taken their email."""

    leads: int
    left: int


@dataclass(frozen=True, slots=True)
class Held:
    """A call that was handed over longer ago than the least hold, and is unknown still.

    `policy` is what its campaign may do. `arrive`: its pool's webhooks are known to, and all that came since were read.
    `told` is in seconds since the owner was last told of the campaign's unknowns; None where that is to be done.
    """

    id: int
    campaign_id: int
    pool_id: int
    policy: str
    resent: bool
    arrive: bool
    age: float
    told: float | None


def find(conn: Connection, campaign_id: int, after: int = 0, limit: int = 50) -> list[Unknown]:
    """A campaign's calls of unknown outcome by id, at most `limit` from behind `after` on."""
    values = {"campaign_id": campaign_id, "after": after, "limit": limit}
    return [Unknown(*row) for row in conn.execute(SQL.find, values)]


def find_call(conn: Connection, campaign_id: int, handoff_id: int) -> Unknown:
    """One call of a campaign; `leads` is 0 where its outcome is known by now. Raises NotFound."""
    row = conn.execute(SQL.find_call, {"campaign_id": campaign_id, "id": handoff_id}).first()
    if row is None:
        raise NotFound("There is no such call.")
    return Unknown(*row)


def count(conn: Connection, campaign_id: int) -> UnknownSums:
    """How many calls, and leads in them, a campaign has of which nobody knows what came."""
    return UnknownSums(*map(int, conn.execute(SQL.count, {"campaign_id": campaign_id}).one()))


def find_pools(conn: Connection, campaign_id: int) -> list[CallPool]:
    """The pools that a campaign's unknown calls went through, by name."""
    return [CallPool(*row) for row in conn.execute(SQL.find_pools, {"campaign_id": campaign_id})]


def find_undecided(conn: Connection, campaign_id: int, after: int = 0, limit: int = 200) -> list[int]:
    """Calls of unknown outcome that are not made again by themselves, by id from behind `after` on."""
    values = {"campaign_id": campaign_id, "after": after, "limit": limit}
    return list(conn.execute(SQL.find_undecided, values).scalars())


def find_held(
    conn: Connection, least: float, after: tuple[int, int] = (0, 0), last: int = EVERY, limit: int = 500
) -> list[Held]:
    """Unknown calls of campaigns that are not over, handed over more than `least` seconds ago.

    In order of campaign and call, from behind `after` on, up to the campaign `last`. A cancelled campaign counts as not
    over for a day.
    """
    values = {"least": least, "campaign_id": after[0], "after": after[1], "last": last, "limit": limit}
    return [Held(*row) for row in conn.execute(SQL.find_held, values)]


def find_heard(conn: Connection, seconds: Mapping[int, float]) -> set[int]:
    """Of calls those whose pool was heard of all the while from the hand-over on, for so many seconds each.

    Only then does silence about such a call mean that the provider never took it: a post that found us away, since our
    machine or the way to it was down, may be one that the provider has given up on.
    """
    values = {"ids": array(seconds), "seconds": list(seconds.values()), "slot": float(HEARD)}
    return set(conn.execute(SQL.find_heard, values).scalars()) if seconds else set()


def count_failed(conn: Connection, campaign_id: int) -> FailedSums:
    """How many leads of a campaign failed, and of how many of them nobody knows whether they were sent to."""
    return FailedSums(*map(int, conn.execute(SQL.count_failed, {"campaign_id": campaign_id}).one()))


def find_failed(conn: Connection, campaign_id: int, after: int = 0, limit: int = 200) -> list[int]:
    """Calls with leads that count as failed, by id from behind `after` on."""
    values = {"campaign_id": campaign_id, "after": after, "limit": limit}
    return list(conn.execute(SQL.find_failed, values).scalars())
