"""Kept posts: what providers have posted, for people who look, to be read anew, and how long they stay."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection

from app.db import Statements, array
from app.errors import NotFound
from app.models import webhook

SQL = Statements("kept_post")

ODD_DAYS: Final = 30  # that a post is kept which could not be read, or spoke of emails that are not ours
BEYOND: Final = 2**63 - 1  # behind every id


@dataclass(frozen=True, slots=True)
class Choice:
    """Which posts: of a pool, since a time, that could not be read, with events of no email, or of no type; or all."""

    pool_id: int | None = None
    since: datetime | None = None
    failed: bool = False
    unmatched: bool = False
    unread: bool = False

    def values(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class KeptPost:
    """A post as lists show it: how many of its events were new, and how many belong to no email of its pool."""

    id: int
    pool_id: int
    pool: str | None
    provider: str | None
    received_at: datetime
    read_at: datetime | None
    tries: int
    events: int
    unmatched: int
    error: str | None
    bytes: int

    @property
    def state(self) -> str:
        """read, waiting, or failed: it could not be read, and is tried again or set aside."""
        return "read" if self.read_at else "failed" if self.tries else "waiting"


class Anew(NamedTuple):
    """Posts that are to be read anew, and the sums of what was found in them before."""

    ids: list[int]
    events: int
    unmatched: int


class Progress(NamedTuple):
    """How far some posts are read: those that wait, those that could not be read, and what was found in all of them."""

    waiting: int
    failed: int
    events: int
    unmatched: int


def find_posts(conn: Connection, choice: Choice, limit: int, before: int = BEYOND) -> list[KeptPost]:
    """The newest posts, at most `limit`, below the id `before`."""
    values = choice.values() | {"limit": limit, "before": before}
    return [KeptPost(**row._mapping) for row in conn.execute(SQL.find_posts, values)]


def find_body(conn: Connection, post_id: int) -> bytes:
    """What was posted, byte for byte; raises NotFound."""
    body: bytes | None = conn.execute(SQL.find_body, {"post_id": post_id}).scalar()
    if body is None:
        raise NotFound("There is no such post: it was dropped after its days, or never came.")
    return bytes(body)


def find_last(conn: Connection) -> int:
    """The id of the youngest post, 0 where there is none."""
    return int(conn.execute(SQL.find_last).scalar_one())


def read_anew(conn: Connection, choice: Choice, after: int, last: int, most: int) -> Anew:
    """Have at most `most` posts read again, by id, from behind `after` until `last`."""
    values = choice.values() | {"after": after, "last": last, "most": most}
    rows = conn.execute(SQL.read_anew, values).all()
    return Anew([row.id for row in rows], sum(row.events for row in rows), sum(row.unmatched for row in rows))


def find_progress(conn: Connection, ids: list[int]) -> Progress:
    """How far these posts are read."""
    return Progress(*conn.execute(SQL.find_progress, {"ids": array(ids)}).one())


def find_retention(conn: Connection, default: int) -> int:
    """Days that a post is kept after it was read: as an operator has set them, or else `default`."""
    return int(conn.execute(SQL.find_retention, {"default": default}).scalar_one())


def keep_for(conn: Connection, days: int | None) -> None:
    """Keep posts for so many days, 1 to 400; None: as long as the environment says. It takes effect within the hour."""
    conn.execute(SQL.keep_for, {"days": days})


def drop_read(conn: Connection, days: int, most: int) -> int:
    """Drop posts that were read, older than `days`; those with something odd not before ODD_DAYS. How many it were."""
    values = {
        "days": days,
        "odd_days": max(days, ODD_DAYS),
        "unread_days": max(days, webhook.KEPT),
        "most": most,
    }
    return conn.execute(SQL.drop_read, values).rowcount
