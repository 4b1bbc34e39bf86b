"""Keeping time: spread evenly, by leads' own clocks, inside windows; moved, corrected, and never twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from app.errors import Conflict, Invalid
from app.flows import launch, schedule, send_range, steer
from app.models import campaign, outbox
from app.models import schedule as planned
from app.models.open_time import Windows
from app.models.schedule import OwnClock, Schedule
from app.runtime import Runtime
from tests import world
from tests.world import World

ALWAYS = Windows((1, 2, 3, 4, 5, 6, 7), time(0), time(0))
DUE = """
SELECT part, due_at, closes_at, size, state FROM outbox WHERE campaign_id = :id ORDER BY due_at, part, id
"""


@pytest.fixture
def built(runtime: Runtime) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=300)


@pytest.fixture
def now(runtime: Runtime) -> datetime:
    with runtime.db.begin() as conn:
        return campaign.now(conn)


def plan(runtime: Runtime, built: World, chosen: Schedule, start_at: datetime | None = None) -> None:
    with runtime.db.begin() as conn:
        planned.set_schedule(conn, built.campaign_id, chosen.first_moment() or start_at, chosen)


def start(runtime: Runtime, built: World, chosen: Schedule, start_at: datetime | None = None) -> None:
    plan(runtime, built, chosen, start_at)
    launch.launch(runtime, built.organisation_id, built.campaign_id)


def rows(runtime: Runtime, built: World) -> list[Any]:
    with runtime.db.begin() as conn:
        return list(conn.execute(text(DUE), {"id": built.campaign_id}))


def do(runtime: Runtime, statement: str, **values: Any) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text(statement), values)


def gaps(found: list[Any]) -> Iterator[float]:
    for before, after in pairwise(found):
        yield (after.due_at - before.due_at).total_seconds()


def test_leads_are_spread_evenly_until_they_are_to_be_delivered(runtime: Runtime, built: World, now: datetime) -> None:
    until = now + timedelta(hours=1)
    start(runtime, built, Schedule(deliver_by=until))
    found = rows(runtime, built)
    assert {row.size for row in found} == {5}
    assert len(found) == 60
    assert all(59 <= gap <= 61 for gap in gaps(found))
    assert abs((found[0].due_at - now).total_seconds()) < 5
    assert found[-1].due_at < until
    assert all(row.closes_at is None for row in found)


def test_what_is_left_is_spread_over_the_time_that_is_left(runtime: Runtime, built: World, now: datetime) -> None:
    until = now + timedelta(hours=1)
    start(runtime, built, Schedule(deliver_by=until))
    do(runtime, "UPDATE outbox SET due_at = due_at - interval '30 minutes'")
    do(runtime, "UPDATE campaign_part SET deliver_by = deliver_by - interval '30 minutes'")
    do(runtime, "UPDATE campaign_plan SET spread_at = spread_at - interval '30 minutes'")
    assert schedule.keep_time(runtime) == 1  # nobody sent: it is half an hour behind
    found = rows(runtime, built)
    assert all(29 <= gap <= 31 for gap in gaps(found))
    assert found[-1].due_at < until - timedelta(minutes=30)
    assert schedule.keep_time(runtime) == 0


def test_a_pause_is_made_up_for_when_it_ends(runtime: Runtime, built: World, now: datetime) -> None:
    start(runtime, built, Schedule(deliver_by=now + timedelta(hours=1)))
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    do(runtime, "UPDATE outbox SET due_at = due_at - interval '30 minutes'")
    do(runtime, "UPDATE campaign_part SET deliver_by = deliver_by - interval '30 minutes'")
    assert schedule.keep_time(runtime) == 0  # paused: nobody's business
    steer.resume(runtime, built.organisation_id, built.campaign_id)
    assert all(29 <= gap <= 31 for gap in gaps(rows(runtime, built)))


def test_what_was_put_off_keeps_its_turn(runtime: Runtime, built: World, now: datetime) -> None:
    start(runtime, built, Schedule(deliver_by=now + timedelta(hours=1)))
    do(runtime, "UPDATE outbox SET attempts = 1, due_at = now() + interval '55 minutes' WHERE id = 1")
    before = rows(runtime, built)[-1]
    with runtime.db.begin() as conn:
        schedule.respread(conn, built.campaign_id)
        kept = world.row(conn, "SELECT due_at FROM outbox WHERE id = 1")
    assert kept["due_at"] > now + timedelta(minutes=50)
    assert before.due_at < now + timedelta(hours=1)


def test_every_zone_has_its_own_nine_o_clock(runtime: Runtime, built: World, now: datetime) -> None:
    for number, zone in enumerate(("Asia/Tokyo", "Europe/Berlin", "Europe/Paris", "No/Where")):
        do(runtime, "UPDATE lead SET time_zone = :zone WHERE id % 5 = :n", zone=zone, n=number)
    day = (now + timedelta(days=2)).replace(hour=9, minute=0, second=0, microsecond=0, tzinfo=None)
    plan(runtime, built, Schedule(own=OwnClock(day), zone="America/New_York"))
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        waits = world.row(conn, "SELECT state, start_at FROM campaign")
    assert waits["state"] == "scheduled"
    assert waits["start_at"] == (day - timedelta(hours=14)).replace(tzinfo=UTC)  # the first zone in the world
    do(runtime, "UPDATE campaign SET start_at = now()")
    assert launch.start_due(runtime) == 1
    found = {row.due_at: row.size for row in rows(runtime, built)}
    expected = {
        planned.moment(day, "Asia/Tokyo"): 60,
        planned.moment(day, "Europe/Berlin"): 120,  # Paris has the same clock
        planned.moment(day, "America/New_York"): 120,  # unknown, and none
    }
    assert found == expected


@pytest.mark.parametrize(("past", "days"), [("now", 0), ("next_day", 1)])
def test_zones_whose_time_has_passed_go_at_once_or_on_the_next_day(
    runtime: Runtime, built: World, now: datetime, past: str, days: int
) -> None:
    do(runtime, "UPDATE lead SET time_zone = 'Asia/Tokyo' WHERE id % 2 = 0")
    local = now.replace(tzinfo=None) + timedelta(hours=2)  # UTC's clock in two hours; Tokyo's was there seven hours ago
    start(runtime, built, Schedule(own=OwnClock(local, None, past), zone="UTC"))
    early, late = sorted(row.due_at for row in rows(runtime, built))
    tokyo = (local - timedelta(hours=9)).replace(tzinfo=UTC) + timedelta(days=1)
    utc = local.replace(tzinfo=UTC)
    if days:
        assert (early, late) == (utc, tokyo)
    else:
        assert abs((early - now).total_seconds()) < 5
        assert late == utc
    # moved by an hour by each lead's clock, the same zones have passed it, and do what was chosen at first
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    hour = timedelta(hours=1)
    schedule.move_rest(runtime, built.organisation_id, built.campaign_id, local + hour, own=True)
    early, late = sorted(row.due_at for row in rows(runtime, built) if row.state == "ready")
    assert late == (tokyo if days else utc) + hour
    assert days == 0 or early == utc + hour


def test_nothing_goes_outside_its_window_and_what_is_left_goes_in_the_next(
    runtime: Runtime, built: World, now: datetime
) -> None:
    opens = now.replace(second=0, microsecond=0) + timedelta(hours=1)
    closes = opens + timedelta(hours=1)
    start(runtime, built, Schedule(windows=Windows(ALWAYS.days, opens.time(), closes.time())))
    (found,) = rows(runtime, built)
    assert (found.due_at, found.closes_at) == (opens, closes)
    with runtime.db.begin() as conn:
        assert campaign.pick(conn) == []
    do(runtime, "UPDATE outbox SET due_at = now() - interval '2 hours', closes_at = now() - interval '1 hour'")
    with runtime.db.begin() as conn:
        assert campaign.pick(conn) == []
    assert schedule.keep_time(runtime) == 1
    (found,) = rows(runtime, built)
    assert (found.due_at, found.closes_at) == (opens, closes)
    assert schedule.keep_time(runtime) == 0


def test_spreading_uses_open_time_alone(runtime: Runtime, built: World, now: datetime) -> None:
    hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    windows = Windows(ALWAYS.days, hour.time(), (hour + timedelta(hours=1)).time())
    start(runtime, built, Schedule(deliver_by=hour + timedelta(days=2, minutes=30), windows=windows))
    found = rows(runtime, built)
    by_day = [sum(row.size for row in found if row.due_at.date() == hour.date() + timedelta(days=n)) for n in range(3)]
    assert [round(leads / 30) for leads in by_day] == [4, 4, 2]  # 60, 60 and 30 minutes
    for row in found:
        assert windows.opens <= row.due_at.timetz().replace(tzinfo=None) < windows.closes
        assert row.closes_at - row.due_at <= timedelta(hours=1)


def test_the_rest_can_be_moved_and_the_sums_stay_right(runtime: Runtime, built: World, now: datetime) -> None:
    start(runtime, built, Schedule(deliver_by=now + timedelta(hours=1)))
    with runtime.db.begin() as conn:
        lease = outbox.claim(conn, built.campaign_id, runtime.id, 60.0)
    assert lease is not None
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    tomorrow = now + timedelta(days=1)
    schedule.move_rest(runtime, built.organisation_id, built.campaign_id, tomorrow, tomorrow + timedelta(hours=2))
    waiting = [row for row in rows(runtime, built) if row.state == "ready"]
    assert min(row.due_at for row in waiting) >= tomorrow
    assert sum(row.size for row in waiting) == 295
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT state FROM campaign")["state"] == "sending"
        outbox.put_off(conn, lease.range_id, lease.lead_ids, seconds=0.0, attempts=1, deferred=True)
        assert campaign.pick(conn) == []  # what was held comes back past its window
        assert outbox.claim(conn, built.campaign_id, runtime.id, 60.0) is None
    schedule.keep_time(runtime)
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT min(due_at) AS due FROM outbox WHERE state = 'ready'")["due"] >= tomorrow
        sums = outbox.progress(conn, built.campaign_id)
    assert sums.adds_up


def test_a_range_that_is_claimed_while_the_rest_is_moved_keeps_no_rest_of_its_own(
    runtime: Runtime, built: World, now: datetime
) -> None:
    start(runtime, built, Schedule())
    with ThreadPoolExecutor(1) as other:
        with runtime.db.begin() as conn:
            lease = outbox.claim(conn, built.campaign_id, runtime.id, 60.0, pool_id=built.pool_id, most=10)
            move = (runtime, built.organisation_id, built.campaign_id, now + timedelta(days=1))
            moved = other.submit(schedule.move_rest, *move)
            with suppress(TimeoutError):  # it waits for the claim
                moved.result(timeout=1.0)
        moved.result()
    assert lease is not None
    with runtime.db.begin() as conn:
        outbox.let_wait(conn, lease)
    schedule.keep_time(runtime)
    assert {row.due_at for row in rows(runtime, built)} == {now + timedelta(days=1)}


def test_a_plain_campaign_can_be_moved_too(runtime: Runtime, built: World, now: datetime) -> None:
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    schedule.move_rest(runtime, built.organisation_id, built.campaign_id, now + timedelta(days=1))
    assert {row.due_at for row in rows(runtime, built)} == {now + timedelta(days=1)}
    assert send_range.claim(runtime) is None


@pytest.mark.parametrize("chosen", ["at once", "by a time"])
def test_an_audience_that_was_not_cut_by_zones_goes_by_no_own_clocks(
    runtime: Runtime, built: World, now: datetime, chosen: str
) -> None:
    do(runtime, "UPDATE lead SET time_zone = 'Asia/Tokyo'")
    start(runtime, built, Schedule(deliver_by=now + timedelta(hours=1) if chosen == "by a time" else None))
    before = rows(runtime, built)
    nine = (now + timedelta(days=1)).replace(tzinfo=None)
    with pytest.raises(Invalid) as caught:
        schedule.move_rest(runtime, built.organisation_id, built.campaign_id, nine, own=True)
    assert [each.pointer for each in caught.value.faults] == ["own"]
    assert rows(runtime, built) == before


def test_one_that_was_cut_by_zones_goes_by_own_clocks_again_after_it_did_not(
    runtime: Runtime, built: World, now: datetime
) -> None:
    do(runtime, "UPDATE lead SET time_zone = 'Asia/Tokyo'")
    nine = (now + timedelta(days=1)).replace(tzinfo=None)
    start(runtime, built, Schedule(windows=replace(ALWAYS, own=True)))
    for windows in (None, ALWAYS):
        with runtime.db.begin() as conn:
            planned.set_schedule(conn, built.campaign_id, None, Schedule(windows=windows))
        schedule.move_rest(runtime, built.organisation_id, built.campaign_id, nine, own=True)
        assert {row.due_at for row in rows(runtime, built)} == {planned.moment(nine, "Asia/Tokyo")}


def test_a_finished_campaign_is_not_moved(runtime: Runtime, built: World, now: datetime) -> None:
    do(runtime, "UPDATE campaign SET state = 'finished'")
    with pytest.raises(Conflict):
        schedule.move_rest(runtime, built.organisation_id, built.campaign_id, now + timedelta(days=1))


def test_the_time_is_changed_before_the_start_without_a_draft(runtime: Runtime, built: World, now: datetime) -> None:
    start(runtime, built, Schedule(), now + timedelta(days=1))
    by = now + timedelta(days=2, hours=1)
    schedule.reschedule(
        runtime, built.organisation_id, built.campaign_id, now + timedelta(days=2), Schedule(deliver_by=by)
    )
    with runtime.db.begin() as conn:
        kept = planned.find(conn, built.campaign_id)
    assert (kept.state, kept.start_at, kept.schedule.deliver_by) == ("scheduled", now + timedelta(days=2), by)
    with pytest.raises(Invalid):
        schedule.reschedule(
            runtime, built.organisation_id, built.campaign_id, now + timedelta(days=3), Schedule(deliver_by=by)
        )


def test_the_plan_ends_with_all_of_the_audience(runtime: Runtime, built: World, now: datetime) -> None:
    start(runtime, built, Schedule(deliver_by=now + timedelta(hours=1)))
    with runtime.db.begin() as conn:
        plan = planned.find_plan(conn, built.campaign_id)
    assert plan is not None
    assert plan.points[0][1] == 0
    assert plan.points[-1][1] == 300
    assert plan.points == sorted(plan.points)
    assert plan.points[-1][0] <= (now + timedelta(hours=1)).timestamp()


def test_a_pool_that_goes_on_hurries_nothing_that_has_a_time_of_its_own(
    runtime: Runtime, built: World, now: datetime
) -> None:
    start(runtime, built, Schedule(deliver_by=now + timedelta(hours=1)))
    before = rows(runtime, built)
    with runtime.db.begin() as conn:
        outbox.hurry(conn, built.pool_id)
    assert rows(runtime, built) == before


def test_a_pool_that_goes_on_hurries_nothing_out_of_its_window(runtime: Runtime, built: World, now: datetime) -> None:
    opens = now.replace(second=0, microsecond=0) - timedelta(hours=1)
    closes = opens + timedelta(minutes=50)  # it has closed, and opens again tomorrow
    start(runtime, built, Schedule(windows=Windows(ALWAYS.days, opens.time(), closes.time())))
    day = timedelta(days=1)
    do(runtime, "UPDATE campaign_part SET begins_at = now() - interval '1 hour'")
    do(runtime, "UPDATE outbox SET due_at = :opens, closes_at = :closes", opens=opens, closes=closes)
    with runtime.db.begin() as conn:
        outbox.put_off(conn, 1, [1, 2], seconds=60, attempts=1, deferred=True)
    do(runtime, "UPDATE outbox SET state = 'done', position = size, sent = size - 2, moved = 2 WHERE parent_id IS NULL")
    assert schedule.keep_time(runtime) == 1
    with runtime.db.begin() as conn:
        outbox.hurry(conn, built.pool_id)
    [later] = [row for row in rows(runtime, built) if row.state == "ready"]
    assert (later.due_at, later.closes_at) == (opens + day, closes + day)
    with runtime.db.begin() as conn:
        assert campaign.pick(conn) == []


def test_a_pool_that_goes_on_hurries_what_was_put_off_while_its_window_is_open(
    runtime: Runtime, built: World, now: datetime
) -> None:
    start(runtime, built, Schedule(windows=ALWAYS))
    with runtime.db.begin() as conn:
        outbox.put_off(conn, 1, [1, 2], seconds=60, attempts=1, deferred=True)
    do(runtime, "UPDATE outbox SET state = 'done', position = size, sent = size - 2, moved = 2 WHERE parent_id IS NULL")
    with runtime.db.begin() as conn:
        outbox.hurry(conn, built.pool_id)
        assert len(campaign.pick(conn)) == 1
