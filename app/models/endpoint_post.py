"""Posts to endpoints: what one is made of, who tries it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, TextClause

from app.db import Statements, array
from app.models import endpoint, news

SQL = Statements("endpoint_post")

AT_ONCE: Final = 4  # posts under way to one endpoint
HOLD: Final = 60.0  # seconds that one is held for a try: well above a try's deadline
BEYOND: Final = 2**63 - 1  # behind every id


class Made(NamedTuple):
    """A post to be: so many events, as JSON."""

    endpoint_id: int
    events: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """A post that is ours to try now. `body` is its events without addresses; the URL and secrets are encrypted."""

    id: int
    endpoint_id: int
    key: UUID
    created_at: datetime
    tries: int
    events: int
    body: bytes
    organisation_id: int
    url: bytes
    host: str
    with_email: bool
    secret: bytes
    old_secret: bytes | None


@dataclass(frozen=True, slots=True)
class Trial:
    """A test post that is about to be made."""

    id: int
    key: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a try: HTTP's status, None where nothing came; what was said; how many seconds it took."""

    status: int | None
    said: str
    took: float


@dataclass(frozen=True, slots=True)
class Line:
    """A post as lists show it; `took` is in seconds, `trying`: it is under way now."""

    id: int
    key: UUID
    test: bool
    events: int
    created_at: datetime
    due_at: datetime | None
    tries: int
    tried_at: datetime | None
    done_at: datetime | None
    given_up_at: datetime | None
    took: float | None
    status: int | None
    said: str | None
    trying: bool | None

    @property
    def state(self) -> str:
        """taken, given up, trying or waiting."""
        if self.done_at:
            return "taken"
        if self.trying:
            return "trying"
        return "waiting" if self.due_at else "given up"


def add(conn: Connection, made: Sequence[Made]) -> None:
    """Posts that are due now, in this order."""
    if made:  # a row at a time: bytes in an array are quoted twice, which costs more than all else about them
        conn.execute(SQL.add, [each._asdict() for each in made])


def add_test(conn: Connection, endpoint_id: int) -> Trial:
    """A post without events, that is tried once and by whoever adds it."""
    return Trial(**conn.execute(SQL.add_test, {"endpoint_id": endpoint_id}).one()._mapping)


def claim(conn: Connection, most: int) -> list[Due]:
    """Posts to try within HOLD seconds, ended by `took` or `failed`; later another may try them, under the same key."""
    endpoint_ids = list(conn.execute(SQL.lock_due, {"most": most}).scalars())
    values = {"endpoint_ids": array(endpoint_ids), "at_once": AT_ONCE, "most": most, "hold": HOLD}
    return [Due(**row._mapping) for row in conn.execute(SQL.claim, values)] if endpoint_ids else []


def took(conn: Connection, post_id: int, result: Result) -> int:
    """The endpoint took it; how many events those were, 0 where that was known."""
    return conn.execute(SQL.took, {"id": post_id, **_values(result)}).scalar_one_or_none() or 0


def failed(conn: Connection, post_id: int, result: Result, pause: float, *, asked: bool) -> int:
    """It did not: tried again after `pause` seconds (`asked`: as it asked for), or given up with its day.

    How many events were given up with it.
    """
    values = {"id": post_id, "pause": pause, "asked": asked, **_values(result)}
    return conn.execute(SQL.failed, values).scalar_one_or_none() or 0


def revive(conn: Connection, endpoint_id: int) -> None:
    """Try anew, from now on and for a day, all that is kept of an endpoint whose row is locked."""
    given_up = int(conn.execute(SQL.revive, {"endpoint_id": endpoint_id}).scalar_one())
    endpoint.count(conn, endpoint_id, given_up=-given_up)


def find_page(conn: Connection, endpoint_id: int, before: int | None, limit: int) -> list[Line]:
    """An endpoint's posts, the newest first: at most `limit`, from below the id `before` on."""
    values = {"endpoint_id": endpoint_id, "before": before or BEYOND, "limit": limit}
    return [Line(**row._mapping) for row in conn.execute(SQL.find_page, values)]


def drop_old(conn: Connection, most: int) -> int:
    """Drop up to so many posts that are older than they are kept; how many it were."""
    return _drop(conn, SQL.drop_old, {"days": news.KEPT, "most": most})


def drop_beyond(conn: Connection, room: int, most: int) -> int:
    """Drop up to so many of the oldest posts of endpoints for which more than `room` bytes wait; how many it were."""
    return _drop(conn, SQL.drop_beyond, {"room": room, "most": most})


def _drop(conn: Connection, statement: TextClause, values: Mapping[str, object]) -> int:
    rows = conn.execute(statement, values).all()
    for row in rows:
        endpoint.count(conn, row.endpoint_id, dropped=int(row.dropped))
    return sum(row.posts for row in rows)


def _values(result: Result) -> dict[str, object]:
    return {"status": result.status, "said": result.said, "took": result.took}
