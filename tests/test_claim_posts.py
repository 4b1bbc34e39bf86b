"""Which kept posts one reader takes at a time: many small ones, few large ones, and the rest is for others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.db import Database
from app.models import webhook

POOL = 7  # posts have no foreign key to it
MOST, BYTES = 500, 1024 * 1024


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def keep(db: Database, posts: int, size: int) -> None:
    with db.begin() as conn:
        for number in range(posts):
            webhook.keep(conn, POOL, "", str(number).encode().ljust(size))


def test_large_posts_are_left_to_other_readers(db: Database) -> None:
    keep(db, 10, 600_000)
    with db.begin() as one, db.begin() as other:
        first = [post.id for post in webhook.claim(one, POOL, MOST, BYTES)]
        second = [post.id for post in webhook.claim(other, POOL, MOST, BYTES)]
    assert len(first) == len(second) == 2
    assert not set(first) & set(second)


def test_small_posts_are_read_by_the_hundred_in_their_order(db: Database) -> None:
    keep(db, 600, 20)
    with db.begin() as conn:
        found = webhook.claim(conn, POOL, MOST, BYTES)
    assert [int(post.body) for post in found] == list(range(MOST))


def test_posts_of_growing_size_stay_within_the_bytes_and_one(db: Database) -> None:
    for size in (10, 1_000, 100_000, 400_000):
        keep(db, 6, size)
    with db.begin() as conn:
        found = webhook.claim(conn, POOL, MOST, BYTES)
    assert [post.id for post in found] == sorted(post.id for post in found)
    before_last = sum(len(post.body) for post in found[:-1])
    assert before_last < BYTES <= before_last + len(found[-1].body)


def test_where_nothing_waits_nothing_is_claimed(db: Database) -> None:
    with db.begin() as conn:
        assert webhook.claim(conn, POOL, MOST, BYTES) == []
