"""Lateness: a campaign that could not start in its time is not begun; by leads' own clocks their last one counts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from app.flows import launch, schedule
from app.models import campaign
from app.models.schedule import OwnClock, Schedule
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.test_recur import made, origin, repeating
from tests.test_schedule import do, plan, rows
from tests.test_sending import build
from tests.world import World


@pytest.fixture
def built(runtime: Runtime) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=30)


@pytest.fixture
def now(runtime: Runtime) -> datetime:
    with runtime.db.begin() as conn:
        return campaign.now(conn)


def state(runtime: Runtime, built: World) -> tuple[str, str | None]:
    with runtime.db.begin() as conn:
        found = world.row(conn, "SELECT state, notice FROM campaign WHERE id = :id", id=built.campaign_id)
    return found["state"], found["notice"]


def launch_and_plan(runtime: Runtime, built: World, chosen: Schedule, now: datetime) -> None:
    """Launched some time ago for a time of leads' own clocks, and not started since."""
    plan(runtime, built, Schedule(), now + timedelta(days=7))
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    plan(runtime, built, chosen)


def test_what_is_ahead_by_some_leads_clocks_is_not_late(runtime: Runtime, built: World, now: datetime) -> None:
    do(runtime, "UPDATE lead SET time_zone = CASE WHEN id % 2 = 0 THEN 'Asia/Tokyo' ELSE 'Europe/Berlin' END")
    own = OwnClock(now.replace(tzinfo=None) + timedelta(hours=5))  # in Berlin in some hours, in Tokyo some ago
    launch_and_plan(runtime, built, Schedule(own=own, lateness=60), now)
    assert launch.start_due(runtime) == 1
    tokyo, berlin = sorted(row.due_at for row in rows(runtime, built))
    assert abs((tokyo - now).total_seconds()) < 60
    assert berlin > now + timedelta(hours=2)


def test_what_is_late_by_everybodys_clock_is_not_begun(runtime: Runtime, built: World, now: datetime) -> None:
    ago = now.replace(tzinfo=None) - timedelta(hours=14)  # the last clocks in the world are twelve hours behind
    launch_and_plan(runtime, built, Schedule(own=OwnClock(ago), lateness=60), now)
    assert launch.start_due(runtime) == 0
    became, notice = state(runtime, built)
    assert became == "draft"
    assert notice is not None
    assert "120 minutes later" in notice
    launch_and_plan(runtime, built, Schedule(own=OwnClock(ago), lateness=180), now)
    assert launch.start_due(runtime) == 1


@pytest.mark.parametrize("own", [False, True])
def test_nothing_is_called_late_that_a_person_has_just_set_to_a_time_that_passed(
    runtime: Runtime, built: World, now: datetime, own: bool
) -> None:
    ago = now - timedelta(days=2)
    clock = OwnClock(ago.replace(tzinfo=None)) if own else None
    launch_and_plan(runtime, built, Schedule(own=OwnClock((now + timedelta(days=7)).replace(tzinfo=None))), now)
    chosen, start_at = Schedule(own=clock, lateness=30), None if own else ago
    schedule.reschedule(runtime, built.organisation_id, built.campaign_id, start_at, chosen)
    assert launch.start_due(runtime) == 1
    assert state(runtime, built) == ("sending", None)


@pytest.mark.parametrize(("hours", "times"), [(2, 1), (14, 0)])
def test_one_of_a_series_by_leads_own_clocks_is_made_while_it_is_ahead_for_some(
    runtime: Runtime, peer: Peer, hours: int, times: int
) -> None:
    built = build(runtime, peer, leads=20)
    with runtime.db.begin() as conn:
        local = (campaign.now(conn) - timedelta(hours=hours)).replace(tzinfo=None, microsecond=0)
    chosen = Schedule(own=OwnClock(local + timedelta(days=9)), lateness=60)
    campaign_id = repeating(runtime, built, "FREQ=WEEKLY", schedule=chosen)
    began = local - timedelta(days=14)
    kept = f'{{"own": {{"starts": "{began.isoformat()}", "past": "now"}}, "lateness": 60}}'
    with runtime.db.begin() as conn:
        values = {"id": campaign_id, "kept": kept, "first": OwnClock(local).first_moment(), "begins": began}
        conn.execute(text("UPDATE campaign SET schedule = CAST(:kept AS jsonb) WHERE id = :id"), values)
        conn.execute(text("UPDATE campaign SET start_at = :first WHERE id = :id"), values)
        conn.execute(text("UPDATE recurrence SET begins = :begins"), values)
    assert launch.start_due(runtime) == 1
    assert len(made(runtime)) == times
    assert origin(runtime, campaign_id)["missed"] == 1 - times
