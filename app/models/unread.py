"""Unread events: of types that a provider has added and we have no word for. They are counted, and the newest shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from app.db import Statements, array
from app.mail import Reported
from app.models import webhook
from app.models.webhook import Post

SQL = Statements("unread")

SHOWN: Final = 3  # raw events that are kept of each type
SHOWN_DAYS: Final = 30  # that they are kept
MOST_TYPES: Final = 50  # of a pool; more are counted together
OTHERS: Final = "(others)"

Strange = Sequence[tuple[Post, Reported]]


@dataclass(frozen=True, slots=True)
class Shown:
    """One raw event, cut to some size; the post that it came in, which may be dropped by now."""

    post_id: int
    came_at: datetime
    raw: str


@dataclass(frozen=True, slots=True)
class UnreadType:
    """A type of events that nobody knows: how many came, and the newest of them."""

    pool_id: int
    pool: str
    provider: str
    type: str
    events: int
    first_at: datetime
    last_at: datetime
    shown: list[Shown]


def note(conn: Connection, pool_id: int, posts: Sequence[Post], strange: Strange) -> dict[int, Counter[str]]:
    """Count what came in these posts of types that nobody knows, each event once; post -> type -> events.

    Of posts that are read anew nothing is counted again, and what is read by now is taken back. Changed rows are locked
    until the commit.
    """
    if not strange and not any(post.unread for post in posts):
        return {}
    fresh = _fresh(conn, pool_id, [(post, each) for post, each in strange if not post.again])
    left = _left(posts, strange)
    _count(conn, pool_id, fresh)
    gone: Counter[str] = Counter()
    for post in posts:
        gone.update({kind: events - left[post.id][kind] for kind, events in (post.unread or {}).items()})
    _take_back(conn, pool_id, +gone)
    for post, _, kind in fresh:
        left[post.id][kind] += 1
    return {post_id: kinds for post_id, kinds in left.items() if +kinds}


def find_unread(conn: Connection, pool_id: int | None = None) -> list[UnreadType]:
    """The types of a pool, or of all, the ones that came last first."""
    rows = conn.execute(SQL.find_unread, {"pool_id": pool_id}).mappings()
    return [UnreadType(**{**row, "shown": [_shown(each) for each in row["shown"]]}) for row in rows]


def forget(conn: Connection, pool_id: int, kind: str) -> bool:
    """A person has seen this type; whether it was there. It is shown again when the next event comes."""
    return conn.execute(SQL.forget, {"pool_id": pool_id, "type": kind}).rowcount > 0


def drop_old(conn: Connection) -> None:
    """Drop raw events that came long ago."""
    conn.execute(SQL.drop_old, {"days": SHOWN_DAYS})


def _fresh(conn: Connection, pool_id: int, strange: Strange) -> list[tuple[Post, Reported, str]]:
    """Those that were not counted before, with the type that they count for."""
    if not strange:
        return []
    window = webhook.find_window(conn)
    by_key = {webhook.key_of(pool_id, f"unread:{each.key}"): (post, each) for post, each in strange}
    days = {
        key: webhook.day_of(each.at if window.holds(each.at) else post.received_at)
        for key, (post, each) in by_key.items()
    }
    # a post that waited for days is no repeat of anything that could be looked up
    new = webhook.add_events(conn, {key: max(day, window.first) for key, day in days.items()})
    known = set(conn.execute(SQL.find_types, {"pool_id": pool_id}).scalars())
    return [(post, each, _kind(each, known)) for key, (post, each) in by_key.items() if key in new]


def _kind(each: Reported, known: set[str]) -> str:
    assert each.unread is not None
    kind = webhook.clean(each.unread.type)
    if kind not in known and len(known) >= MOST_TYPES:
        kind = OTHERS
    known.add(kind)
    return kind


def _left(posts: Sequence[Post], strange: Strange) -> defaultdict[int, Counter[str]]:
    """Of posts that are read anew: what was unread before, and still is."""
    left: defaultdict[int, Counter[str]] = defaultdict(Counter)
    again = {post.id: post for post in posts if post.unread}
    for post, each in strange:
        if post.id in again and each.unread is not None:
            before = again[post.id].unread or {}
            kind = each.unread.type if each.unread.type in before else OTHERS
            left[post.id][kind] += left[post.id][kind] < before.get(kind, 0)
    return left


def _count(conn: Connection, pool_id: int, fresh: Sequence[tuple[Post, Reported, str]]) -> None:
    if not fresh:
        return
    events = Counter(kind for _, _, kind in fresh)
    newest = max(post.received_at for post, _, _ in fresh)
    values = {"pool_id": pool_id, "types": list(events), "events": array(events.values()), "came_at": newest}
    conn.execute(SQL.count, values)
    last = [each for kind in events for each in [one for one in fresh if one[2] == kind][-SHOWN:]]
    values = {
        "pool_id": pool_id,
        "types": [kind for _, _, kind in last],
        "posts": array(post.id for post, _, _ in last),
        "came": [post.received_at for post, _, _ in last],
        "raw": [webhook.clean(each.unread.raw) for _, each, _ in last if each.unread is not None],
    }
    conn.execute(SQL.show, values)
    conn.execute(SQL.drop_older, {"pool_id": pool_id, "types": list(events), "kept": SHOWN})


def _take_back(conn: Connection, pool_id: int, gone: Mapping[str, int]) -> None:
    if gone:
        values = {"pool_id": pool_id, "types": list(gone), "events": array(gone.values())}
        conn.execute(SQL.take_back, values)


def _shown(row: Sequence[str]) -> Shown:
    return Shown(int(row[0]), datetime.fromtimestamp(int(row[1]), UTC), row[2])
