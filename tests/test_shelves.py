"""Shelves: where a message waits. Whatever shelf it lies on, it is found, cut once, taken back, and never dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection, text

from app import schema, shelves
from app.errors import Conflict
from app.flows import keep_messages, messages, range_messages
from app.message_ids import id_of
from app.models import message, message_ledger
from app.models.message import Slip, Stored
from app.runtime import Runtime
from tests.peers import Peer
from tests.test_messages import ask, build, own, read
from tests.world import World

NOON = datetime(2026, 3, 29, 12, 7, 30, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("ahead", "begins", "level"),
    [
        (timedelta(0), datetime(2026, 3, 29, 12, 0, tzinfo=UTC), 0),
        (7 * MINUTE + timedelta(seconds=29), datetime(2026, 3, 29, 12, 0, tzinfo=UTC), 0),
        (7 * MINUTE + timedelta(seconds=30), datetime(2026, 3, 29, 12, 15, tzinfo=UTC), 0),
        (6 * HOUR, datetime(2026, 3, 29, 18, 0, tzinfo=UTC), 0),
        (6 * HOUR + TICK, datetime(2026, 3, 29, 18, 0, tzinfo=UTC), 1),
        (4 * DAY, datetime(2026, 4, 2, 12, 0, tzinfo=UTC), 1),
        (4 * DAY + TICK, datetime(2026, 4, 2, 0, 0, tzinfo=UTC), 2),
        (365 * DAY, datetime(2027, 3, 29, 0, 0, tzinfo=UTC), 2),
    ],
)
def test_what_is_near_lies_on_a_narrow_shelf_and_what_is_far_on_a_wide_one(
    ahead: timedelta, begins: datetime, level: int
) -> None:
    shelf = shelves.shelf_of(NOON + ahead, NOON)
    assert divmod(shelf, shelves.LEVELS) == ((begins - datetime(2020, 1, 1, tzinfo=UTC)) // MINUTE, level)
    assert shelf in shelves.shelves_of(NOON + ahead)
    assert shelf <= shelves.last_of(NOON + ahead)


def test_a_thousand_over_a_year_lie_on_a_few_hundred_shelves() -> None:
    times = [NOON + n * 365 * DAY / 1000 for n in range(1000)]
    assert len({shelves.shelf_of(each, NOON) for each in times}) < 450


def test_a_shelf_is_over_when_everything_on_it_is_due() -> None:
    for ahead in (HOUR, DAY, 30 * DAY):
        shelf = shelves.shelf_of(NOON + ahead, NOON)
        ends = NOON + ahead
        while shelves.shelf_of(ends, ends - ahead) == shelf:
            ends += MINUTE
        assert shelves.is_over(shelf, ends)
        assert not shelves.is_over(shelf, ends - MINUTE)
        assert shelves.shelf_of(ends, ends - ahead) > shelf


# -- On a database -----------------------------------------------------------------------------------------------------


LEVELS = (HOUR, DAY, 30 * DAY)  # how long before its time something is accepted: near, soon, far
LONG_AGO = 5 * HOUR

editions = pytest.mark.editions


@pytest.fixture
def built(runtime: Runtime, peer: Peer) -> World:
    """With a stream, which has nothing to do."""
    made = build(runtime, peer)
    ask(runtime, made, own("opens"))
    assert range_messages.cut_due(runtime) == 1
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM outbox"))
    return made


def put(conn: Connection, *ahead: timedelta, ago: timedelta = MINUTE, slips: int = 1, each: int = 1) -> list[int]:
    """Slips of `each` messages that are due since `ago`, so many as of requests that long before; the messages' ids."""
    now, stream_id = conn.execute(text("SELECT now(), min(campaign_id) FROM stream")).one()
    made = []
    for before in ahead:
        numbers = conn.execute(text(f"SELECT nextval('message_number') FROM generate_series(1, {slips * each})"))
        ids = [id_of(now - ago, number) for number in numbers.scalars()]
        cards = [Slip(now - ago, stream_id, ids[first : first + each]) for first in range(0, len(ids), each)]
        message.wait(conn, cards, now - ago - before)
        made += ids
    return made


def cut_ids(runtime: Runtime) -> list[int]:
    """Messages in ranges, in order."""
    with runtime.db.begin() as conn:
        return list(conn.execute(text("SELECT unnest(lead_ids) AS id FROM outbox ORDER BY id")).scalars())


def number_of(runtime: Runtime, what: str) -> int:
    with runtime.db.begin() as conn:
        return int(conn.execute(text(f"SELECT count(*) FROM {what}")).scalar_one())


def there(runtime: Runtime) -> int:
    """Shelves that there are."""
    return number_of(runtime, "show_chunks('message_due')")


def opened(conn: Connection) -> int:
    """Shelves that the transaction has opened."""
    locks = "SELECT count(DISTINCT relation) FROM pg_locks JOIN show_chunks('message_due') AS chunk ON chunk = relation"
    return int(conn.execute(text(f"{locks} WHERE pid = pg_backend_pid()")).scalar_one())


@editions
def test_what_is_due_is_cut_once_from_every_shelf_that_it_may_lie_on(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        ids = put(conn, *LEVELS, slips=3) + put(conn, *LEVELS, each=40, ago=LONG_AGO)
        later = put(conn, *LEVELS, ago=-HOUR)
    assert range_messages.cut_due(runtime) == len(ids)
    assert range_messages.cut_due(runtime) == 0
    assert cut_ids(runtime) == sorted(ids)
    assert number_of(runtime, "message_due") == len(later)


@editions
def test_what_waits_for_later_is_not_opened(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        put(conn, *LEVELS)
        for days in range(1, 60):
            put(conn, 100 * DAY, ago=-days * DAY)
    assert there(runtime) > 60
    with runtime.db.begin() as conn:
        due = message.find_due(conn)
        assert len(due) == 3
        assert opened(conn) <= 5
    with runtime.db.begin() as conn:
        assert message.cut(conn, due[0].shelf, 5) == 1
        assert opened(conn) == 1
    with runtime.db.begin() as conn:
        message_ledger.drop_messages(conn, 30)
        assert opened(conn) == 0


def test_ranges_of_a_shelf_do_not_overlap_and_are_no_longer_than_they_may_be(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        ids = put(conn, HOUR, slips=5500) + put(conn, HOUR, slips=20, each=7)
    with runtime.db.begin() as conn:
        [due] = message.find_due(conn)
        assert (due.slips, due.messages) == (5520, 5640)
        assert message.cut(conn, due.shelf, 500) > 0  # as many as are found by the index
        left = 5520 - 500
        assert message.cut(conn, due.shelf, left, size=300) > left - 1
        ranges = conn.execute(text("SELECT size, first_lead, last_lead FROM outbox ORDER BY id OFFSET 2")).all()
    assert cut_ids(runtime) == sorted(ids)
    assert max(each.size for each in ranges) == 300
    assert all(before.last_lead < after.first_lead for before, after in pairwise(ranges))


@editions
def test_one_whose_commit_is_late_is_found_on_a_shelf_that_is_over_and_was_dropped(
    runtime: Runtime, built: World
) -> None:
    with runtime.db.begin() as conn:
        put(conn, *LEVELS, ago=2 * DAY)
    assert range_messages.cut_due(runtime) == 3
    before = there(runtime)
    keep_messages.tidy(runtime)
    assert there(runtime) == before - 3
    with runtime.db.begin() as late:
        ids = put(late, *LEVELS, ago=2 * DAY)
        assert range_messages.cut_due(runtime) == 0
    assert range_messages.cut_due(runtime) == 3
    assert set(ids) < set(cut_ids(runtime))


@editions
def test_a_shelf_that_somebody_else_has_in_hand_does_not_stop_those_behind_it(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        put(conn, HOUR, slips=5, ago=2 * DAY)
        put(conn, *LEVELS)
    with runtime.db.begin() as other:
        first = message.find_due(other)[0]
        held = other.execute(text("SELECT FROM message_due WHERE shelf = :shelf FOR UPDATE"), {"shelf": first.shelf})
        assert held.rowcount == 5
        assert range_messages.cut_due(runtime) == 3
    assert range_messages.cut_due(runtime) == 5


@editions
def test_what_is_cut_and_taken_back_by_many_at_once_is_one_or_the_other(runtime: Runtime, built: World) -> None:
    ids, taken_back, cut = [], [], []
    with runtime.db.begin() as conn:
        for level in LEVELS:
            ids += put(conn, level, slips=1500) + put(conn, level, slips=2, each=30)
    with runtime.db.begin() as conn:
        many = conn.execute(text("SELECT due_at, campaign_id, message_ids FROM message_due WHERE size > 1")).all()
    asked = [(row.due_at, row.campaign_id, each) for row in many for each in row.message_ids]
    start = threading.Barrier(5)

    def take_back(some: Sequence[tuple[datetime, int, int]]) -> None:
        start.wait()
        for due_at, campaign_id, message_id in some:
            with runtime.db.begin() as conn:
                stored = Stored(message_id, "", due_at, due_at, campaign_id, None, None, "")
                if message.take_out(conn, stored):
                    taken_back.append(message_id)

    def range_all() -> None:
        start.wait()
        time.sleep(0.02)
        cut.append(range_messages.cut_due(runtime))

    threads = [threading.Thread(target=take_back, args=(asked[part::3],)) for part in range(3)]
    threads += [threading.Thread(target=range_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cut.append(range_messages.cut_due(runtime))
    assert taken_back
    assert sum(cut) == len(ids) - len(taken_back)
    assert sorted(cut_ids(runtime) + taken_back) == sorted(ids)


@editions
def test_a_message_can_be_taken_back_from_whatever_shelf_it_lies_on(runtime: Runtime, built: World) -> None:
    for level, ahead in enumerate(LEVELS):
        at = datetime.now(UTC) + ahead
        ids = ask(runtime, built, *(own(f"n{number}", send_at=at) for number in range(3)))
        with runtime.db.begin() as conn:
            [row] = conn.execute(text("SELECT size, shelf FROM message_due")).all()
        assert (row.size, row.shelf % shelves.LEVELS) == (3, level)
        for each in ids:
            assert read(runtime, built, each).state == "scheduled"
            with runtime.db.begin() as conn:
                messages.cancel(conn, built.organisation_id, each)
            assert read(runtime, built, each).state == "cancelled"
            with runtime.db.begin() as conn, pytest.raises(Conflict):
                messages.cancel(conn, built.organisation_id, each)
        assert number_of(runtime, "message_due") == 0


# -- Dropping ----------------------------------------------------------------------------------------------------------


@editions
def test_shelves_that_are_over_and_empty_are_dropped_and_no_others(runtime: Runtime, built: World) -> None:
    keep_messages.tidy(runtime)
    before = there(runtime)
    with runtime.db.begin() as conn:
        put(conn, *LEVELS, ago=2 * DAY)
        put(conn, *LEVELS)
        put(conn, *LEVELS, ago=-2 * DAY)
    assert range_messages.cut_due(runtime) == 6
    made = there(runtime) - before
    with runtime.db.begin() as conn:
        waits = put(conn, HOUR, ago=2 * DAY)
    keep_messages.tidy(runtime)
    assert there(runtime) - before == made - 2
    assert range_messages.cut_due(runtime) == len(waits)
    keep_messages.tidy(runtime)
    assert there(runtime) - before == made - 3
    assert number_of(runtime, "message_due") == 3


@editions
def test_what_comes_to_a_shelf_while_that_is_dropped_is_not_lost(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        put(conn, HOUR, ago=LONG_AGO)
    assert range_messages.cut_due(runtime) == 1
    tidying = threading.Thread(target=keep_messages.tidy, args=(runtime,))
    with runtime.db.begin() as late:
        put(late, HOUR, ago=LONG_AGO)
        tidying.start()
        while not number_of(runtime, "pg_locks WHERE NOT granted"):
            time.sleep(0.005)
    tidying.join()
    assert range_messages.cut_due(runtime) == 1


@editions
def test_who_is_at_what_waits_for_long_is_not_waited_for(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        put(conn, HOUR, ago=LONG_AGO)
    assert range_messages.cut_due(runtime) == 1
    before = there(runtime)
    with runtime.db.begin() as slow:
        slow.execute(text("LOCK TABLE ONLY message_due IN ROW EXCLUSIVE MODE"))  # as whoever writes there
        keep_messages.tidy(runtime)
        assert there(runtime) == before
    keep_messages.tidy(runtime)
    assert there(runtime) == before - 1


@editions
def test_what_waits_is_still_there_after_the_shelves_were_unmade_and_made(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        ids = put(conn, HOUR, ago=LONG_AGO) + put(conn, *LEVELS, each=3)
        for later in LEVELS:
            put(conn, later, ago=-later + MINUTE)
    waits = text("SELECT due_at, first_id, size, shelf, message_ids FROM message_due ORDER BY first_id, due_at")
    with runtime.db.begin() as conn:
        before = conn.execute(waits).all()
    schema.downgrade(runtime.settings.database_url, "0020")
    assert number_of(runtime, "message_due WHERE cardinality(message_ids) = size") == len(before)
    schema.migrate(runtime.settings.database_url)
    with runtime.db.begin() as conn:
        after = conn.execute(waits).all()
        now = conn.execute(text("SELECT now()")).scalar_one()
    assert [(*row[:3], row.message_ids) for row in after] == [(*row[:3], row.message_ids) for row in before]
    assert all(row.shelf == shelves.shelf_of(row.due_at, now) for row in after)
    assert range_messages.cut_due(runtime) == len(ids)


# -- Looking -----------------------------------------------------------------------------------------------------------


MANY = """
INSERT INTO message_due (due_at, first_id, campaign_id, size, shelf)
SELECT now() + CASE WHEN number <= :due THEN -interval '1 hour' ELSE interval '1 hour' END * (1 + random()),
       nextval('message_number'), campaign_id, 1, shelf
  FROM stream, unnest(CAST(:shelves AS integer[])) AS shelf, generate_series(1, :slips) AS number
 ORDER BY random()
"""
READ = """
SELECT sum(seq_tup_read) AS in_passing, sum(idx_tup_fetch) AS by_index
  FROM pg_stat_xact_all_tables
  JOIN show_chunks('message_due') AS chunk
    ON chunk = relid
"""


def steps_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's steps, the outermost first."""
    yield plan
    for each in plan.get("Plans", ()):
        yield from steps_of(each)


@editions
def test_a_look_for_what_is_due_among_many_that_wait_reads_indexes_alone(runtime: Runtime, built: World) -> None:
    now = datetime.now(UTC)
    with runtime.db.begin() as conn:
        due_and_later = {"shelves": shelves.shelves_of(now), "due": 300, "slips": 6000}
        conn.execute(text(MANY), due_and_later)
        conn.execute(text(MANY), due_and_later | {"shelves": shelves.shelves_of(now + 2 * DAY), "due": 0})
    with runtime.db.each() as conn:
        conn.execute(text("VACUUM (ANALYZE) message_due"))  # as autovacuum does once a few thousand have come
    with runtime.db.begin() as conn:
        explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {message.SQL.find_due}")
        [explained] = conn.execute(explain, {"last": shelves.last_of(now)}).scalar_one()
    reads = [each for each in steps_of(explained["Plan"]) if "Relation Name" in each and "Plans" not in each]
    found = [
        (each["Node Type"], each["Actual Rows"], each.get("Heap Fetches")) for each in reads if each["Actual Rows"]
    ]
    assert found == [("Index Only Scan", 300, 0)] * len(LEVELS)
    with runtime.db.begin() as conn:
        assert [each.slips for each in message.find_due(conn)] == [300] * len(LEVELS)
        read = conn.execute(text(READ)).one()
    assert read.in_passing == 0
    assert read.by_index <= 2 * len(LEVELS)  # the planner itself looks at the ends of indexes, at times
