"""The record: what was appended counts once, in every level's sums, whoever commits when."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from app.flows import refresh
from app.models import rollup
from app.runtime import Runtime
from tests import record

WRITE = """
    INSERT INTO event (time, lead_id, organisation_id, user_id, campaign_id, domain_id, kind)
    VALUES (now() - INTERVAL '50 hours', 1, 1, 1, 1, 1, 'sent')
"""
WIDTHS = {
    f"{kind}_{level}": width
    for kind in ("report", "brief", "user")
    for level, width in (("5min", "5 minutes"), ("hour", "1 hour"), ("day", "1 day"))
}


@pytest.fixture
def running(database_url: str) -> Iterator[Runtime]:
    started = record.runtime(database_url)
    yield started
    started.close()


def now() -> datetime:
    return datetime.now(UTC)


def hours_ago(hours: float) -> datetime:
    return now() - timedelta(hours=hours)


def assert_sums_are_true(running: Runtime) -> None:
    with running.db.begin() as conn:
        for view, width in WIDTHS.items():
            assert record.sums(conn, view) == record.truth(conn, view, width), view


def total(running: Runtime, view: str = "report_day") -> int:
    with running.db.begin() as conn:
        return int(conn.execute(text(f"SELECT coalesce(sum(total), 0) FROM {view}")).scalar_one())


@pytest.mark.editions
def test_an_event_counts_as_soon_as_it_is_committed(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, now(), "sent", 5)
    assert [total(running, view) for view in WIDTHS] == [5] * len(WIDTHS)


@pytest.mark.editions
def test_sums_are_the_same_before_and_after_a_refresh(running: Runtime) -> None:
    with running.db.begin() as conn:
        for hours in (0, 0.2, 3, 26, 50, 24 * 40):
            record.append(conn, hours_ago(hours), "sent", 3, campaign_id=int(hours))
            record.append(conn, hours_ago(hours), "opened", 2, machine=True)
        record.append(conn, hours_ago(3), "unknown", [9], weight=-1)
    assert_sums_are_true(running)
    record.refresh_all(running)
    assert_sums_are_true(running)


@pytest.mark.editions
def test_a_late_event_counts_after_the_next_refresh(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, hours_ago(72), "sent", 10)
    record.refresh_all(running)
    with running.db.begin() as conn:
        record.append(conn, hours_ago(72), "bounced", [4])
    record.refresh_all(running)
    assert_sums_are_true(running)


@pytest.mark.editions
def test_a_weight_takes_an_earlier_event_back(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, hours_ago(30), "unknown", [1, 2])
    record.refresh_all(running)
    with running.db.begin() as conn:
        record.append(conn, now(), "unknown", [1], weight=-1)
        record.append(conn, now(), "sent", [1])
    with running.db.begin() as conn:
        rows = conn.execute(text("SELECT kind, sum(total) FROM report_day GROUP BY kind ORDER BY kind")).all()
    assert [tuple(row) for row in rows] == [("sent", 1), ("unknown", 1)]


@pytest.mark.editions
def test_a_writer_that_commits_after_the_refresh_is_not_missed(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, hours_ago(50), "sent", [2])  # the chunk is there: making it would make the second wait
    with psycopg.connect(running.db.url) as late:
        late.execute(WRITE)
        with running.db.begin() as conn:
            record.append(conn, hours_ago(50), "sent", [3])
        record.refresh_all(running)
        assert total(running) == 2
        late.commit()
    record.refresh_all(running)
    assert_sums_are_true(running)
    assert total(running) == 3


def test_a_late_commit_counts_at_once_on_the_apache_edition(running: Runtime) -> None:
    """There every touched bucket is summed live until it is rolled up: nothing waits for a refresh."""
    with running.db.begin() as conn:
        record.append(conn, hours_ago(50), "sent", [2])
    with psycopg.connect(running.db.url) as late:
        late.execute(WRITE)
        record.refresh_all(running)
        late.commit()
    assert [total(running, view) for view in WIDTHS] == [2] * len(WIDTHS)
    record.refresh_all(running)
    assert_sums_are_true(running)


def test_a_reader_sees_every_event_once_while_others_write_and_refresh(running: Runtime) -> None:
    """Each page adds 50 sent events over ten buckets, so a sum that is no multiple of 50 was torn or counted twice.

    The days' chunks are there before: a statement that was planned just before one is made reads without it, once.
    """
    with running.db.begin() as conn:
        for hours in (0, 20, 45):
            record.append(conn, hours_ago(hours), "opened", 50)
    stop, seen, faults = threading.Event(), [0], list[BaseException]()

    def write() -> None:
        while not stop.is_set():
            with running.db.begin() as conn:
                for minutes in range(0, 3000, 300):
                    record.append(conn, hours_ago(minutes / 60), "sent", 5)

    def roll() -> None:
        while not stop.is_set():
            refresh.refresh(running, hours_wait=0, days_wait=0)

    def guarded(act: object) -> None:
        try:
            act()  # type: ignore[operator]
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in (write, write, roll, roll)]
    for thread in threads:
        thread.start()
    until = now() + timedelta(seconds=3)
    while now() < until and not faults:
        for view in WIDTHS:
            seen.append(total(running, view))
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert all(count % 50 == 0 for count in seen)
    assert seen == sorted(seen)
    assert seen[-1] > 500
    record.refresh_all(running)
    assert_sums_are_true(running)


def test_the_bucket_that_is_a_day_old_counts_once(running: Runtime) -> None:
    """Stale buckets younger than a day are summed in the view, older ones in a function: this one is both."""
    with running.db.begin() as conn:
        for seconds in range(-2, 6):
            record.append(conn, hours_ago(24) + timedelta(seconds=seconds), "sent", 1)
    assert_sums_are_true(running)


def test_what_is_over_is_rolled_up_and_no_longer_summed_live(running: Runtime) -> None:
    lately = hours_ago(1.1)
    with running.db.begin() as conn:
        record.append(conn, hours_ago(50), "sent", 10)
        record.append(conn, lately, "sent", 10)
    of_days_over = 10 if lately.astimezone(UTC).date() == now().astimezone(UTC).date() else 20
    assert refresh.refresh(running, hours_wait=0, days_wait=0) >= 4
    with running.db.begin() as conn:
        assert rollup.lag(conn) is None
        waiting = conn.execute(text("SELECT DISTINCT bucket FROM touched_5min")).scalars().all()
        assert all(bucket > now() - timedelta(minutes=6) for bucket in waiting)
        assert conn.execute(text("SELECT sum(total) FROM rollup_5min")).scalar_one() == 20
        assert conn.execute(text("SELECT sum(total) FROM rollup_day")).scalar_one() == of_days_over
    assert_sums_are_true(running)


def test_hours_that_are_touched_again_and_again_wait(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, hours_ago(50), "sent", 10)
    assert refresh.refresh(running, hours_wait=300) == 1
    with running.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM rollup_hour")).scalar_one() == 0
    assert_sums_are_true(running)


def test_only_one_refresher_works_at_a_time(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, hours_ago(50), "sent", 10)
    with running.db.begin() as conn:
        assert rollup.take_turn(conn)
        assert refresh.refresh(running) == 0
    assert refresh.refresh(running) == 1


@pytest.mark.editions
def test_events_go_when_they_are_too_old_and_their_sums_stay(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, hours_ago(24 * 80), "sent", 10)
        record.append(conn, hours_ago(24 * 10), "sent", 5)
    record.refresh_all(running)
    with running.db.begin() as conn:
        rollup.keep_for(conn, 30)
    assert refresh.retire(running)
    record.run_policies(running, "policy_retention")
    with running.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM event")).scalar_one() == 5
    refresh.refresh(running, hours_wait=0, days_wait=0)
    record.run_policies(running, "policy_refresh_continuous_aggregate")
    assert [total(running, view) for view in WIDTHS] == [15] * len(WIDTHS)


@pytest.mark.editions
def test_keeping_longer_does_not_reach_into_what_was_dropped(running: Runtime) -> None:
    with running.db.begin() as conn:
        rollup.keep_for(conn, 30)
    assert refresh.retire(running)
    with running.db.begin() as conn:
        rollup.keep_for(conn, 400)
    assert not refresh.retire(running)
    with running.db.begin() as conn:
        assert now() - rollup.horizon(conn) < timedelta(days=20, minutes=1)


def test_an_event_older_than_the_horizon_changes_no_sum(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, hours_ago(24 * 80), "sent", 10)
    record.refresh_all(running)
    with running.db.begin() as conn:
        rollup.keep_for(conn, 30)
    assert refresh.retire(running)
    with running.db.begin() as conn:
        record.append(conn, hours_ago(24 * 80), "bounced", [4])
    record.refresh_all(running)
    assert [total(running, view) for view in WIDTHS] == [10] * len(WIDTHS)


@pytest.mark.editions
def test_an_event_that_came_too_late_is_counted_apart(running: Runtime) -> None:
    with running.db.begin() as conn:
        at = rollup.horizon(conn) - timedelta(days=1)
        rollup.note_late(conn, 1, 7, "opened", at)
        row = conn.execute(text("SELECT campaign_id, kind, total FROM late_event")).one()
    assert tuple(row) == (7, "opened", 1)


@pytest.mark.editions
def test_a_sent_email_is_found_by_the_summaries_of_its_blocks(running: Runtime) -> None:
    """Otherwise looking for one lead would read every email of the day."""
    with running.db.begin() as conn:
        record.append(conn, now(), "sent", 60_000)
        record.append(conn, now(), "delivered", 100)
    refresh.summarise(running)
    with running.db.begin() as conn:
        record.append(conn, now(), "sent", 100, campaign_id=2)
    with running.db.begin() as conn:
        conn.execute(text("SET LOCAL enable_seqscan = off"))
        plan = conn.execute(
            text(
                "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM event"
                " WHERE campaign_id = 1 AND lead_id = 50000 AND kind = 'sent'"
            )
        ).scalar_one()
    (heap,) = (node for node in nodes(plan[0]["Plan"]) if node["Node Type"] == "Bitmap Heap Scan")
    assert any(node.get("Index Name", "").endswith("event_sent") for node in nodes(heap))
    assert heap["Lossy Heap Blocks"] <= 3 * 64
    assert refresh.summarise(running) == 0


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


@pytest.mark.editions
def test_summaries_wait_for_nobody(running: Runtime) -> None:
    with running.db.begin() as conn:
        record.append(conn, now(), "sent", 60_000)
    with running.db.begin() as conn:
        chunk = conn.execute(text("SELECT show_chunks('event')::text")).scalar_one()
        conn.execute(text(f"LOCK TABLE {chunk} IN SHARE UPDATE EXCLUSIVE MODE"))
        assert refresh.summarise(running) == 0
    assert refresh.summarise(running) > 0


@pytest.mark.editions
def test_sums_are_made_after_what_they_are_made_from(running: Runtime) -> None:
    """At the same moment a refresh may miss what another writes. The Apache edition has one refresher alone."""
    finer = {f"report_{level}": f"report_{below}" for level, below in (("hour", "5min"), ("day", "hour"))}
    finer |= {"brief_5min": "report_5min", "brief_hour": "brief_5min", "brief_day": "brief_hour"}
    finer |= {"user_5min": "brief_5min", "user_hour": "user_5min", "user_day": "user_hour"}
    with running.db.begin() as conn:
        rows = conn.execute(
            text(
                "SELECT hypertable_name, CAST(config ->> 'end_offset' AS interval) AS end_offset, schedule_interval"
                " FROM timescaledb_information.jobs"
                " WHERE proc_name = 'policy_refresh_continuous_aggregate' AND hypertable_schema = 'public'"
            )
        ).all()
        apache = rollup.edition(conn) == "apache"
    ends = {row.hypertable_name: row.end_offset for row in rows}
    every = {row.hypertable_name: row.schedule_interval for row in rows}
    assert len(rows) == (0 if apache else 9)
    assert [view for view, below in finer.items() if rows and ends[view] <= ends[below] + every[below]] == []


@pytest.mark.editions
def test_sums_by_user_that_an_older_clock_left_behind_are_made_again(running: Runtime) -> None:
    """Between a migration and the new processes a clock rolls up that knows nothing of them."""
    with running.db.begin() as conn:
        for hours in (3, 50):
            record.append(conn, hours_ago(hours), "sent", 3)
    record.refresh_all(running)
    with running.db.begin() as conn:
        apache = rollup.edition(conn) == "apache"
        for level in ("5min", "hour", "day") if apache else ():
            conn.execute(text(f"DELETE FROM rollup_user_{level} WHERE bucket < now() - INTERVAL '30 hours'"))
            conn.execute(text(f"UPDATE rollup_user_{level} SET kind = 'unknown'"))
    assert refresh.mend(running) == (2 if apache else 0)
    assert_sums_are_true(running)
    record.refresh_all(running)
    assert_sums_are_true(running)
    assert refresh.mend(running) == 0
