"""A/B tests in campaigns that keep time: the test goes first, and the rest has what is left of the time."""

from __future__ import annotations

from datetime import datetime, time, timedelta

import pytest
from sqlalchemy import text

from app.flows import choose_winner, launch
from app.models import campaign, variant
from app.models import schedule as planned
from app.models.open_time import Windows
from app.models.schedule import OwnClock, Schedule
from app.runtime import Runtime
from tests import world
from tests.outbox_variants import add_variant
from tests.world import World

LEADS = 300
DUE = """
SELECT variant, rest, due_at, closes_at, size FROM outbox
 WHERE campaign_id = :id AND due_at < 'infinity' AND rest = :rest ORDER BY due_at, id
"""


@pytest.fixture
def built(runtime: Runtime) -> World:
    made = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=LEADS)
    with runtime.db.begin() as conn:
        add_variant(conn, made.organisation_id)
    return made


@pytest.fixture
def now(runtime: Runtime) -> datetime:
    with runtime.db.begin() as conn:
        return campaign.now(conn)


def start(runtime: Runtime, built: World, chosen: Schedule) -> None:
    with runtime.db.begin() as conn:
        planned.set_schedule(conn, built.campaign_id, None, chosen)
    launch.launch(runtime, built.organisation_id, built.campaign_id)


def choose(runtime: Runtime, built: World) -> None:
    choose_winner.choose(runtime, built.organisation_id, built.user_id, built.campaign_id, 1)


def due(runtime: Runtime, built: World, *, rest: bool) -> list[tuple[int, datetime, datetime | None, int]]:
    """(variant, due, closes, leads) of what has a time, in order."""
    with runtime.db.begin() as conn:
        rows = conn.execute(text(DUE), {"id": built.campaign_id, "rest": rest})
        return [(row.variant, row.due_at, row.closes_at, row.size) for row in rows]


def waiting(runtime: Runtime, built: World) -> int:
    with runtime.db.begin() as conn:
        return sum(each.open for each in variant.tally(conn, built.campaign_id) if each.variant == variant.WAITS)


def test_the_test_goes_at_once_and_the_rest_is_spread_over_the_time_that_the_wait_left(
    runtime: Runtime, built: World, now: datetime
) -> None:
    until = now + timedelta(hours=2)
    start(runtime, built, Schedule(deliver_by=until))
    tested = due(runtime, built, rest=False)
    assert {number for number, *_ in tested} == {0, 1}
    assert all(at - now < timedelta(minutes=1) for _, at, *_ in tested)
    left = waiting(runtime, built)
    assert left == LEADS - sum(size for *_, size in tested) > 60
    choose(runtime, built)
    assert waiting(runtime, built) == 0
    rest = due(runtime, built, rest=True)
    assert {number for number, *_ in rest} == {1}
    assert sum(size for *_, size in rest) == left
    assert rest[0][1] - now < timedelta(minutes=5)
    assert timedelta(minutes=5) < until - rest[len(rest) * 9 // 10][1] < timedelta(minutes=20)
    assert rest[-1][1] < until


def test_the_rest_stays_within_windows(runtime: Runtime, built: World, now: datetime) -> None:
    opens = (now + timedelta(hours=3)).time().replace(second=0, microsecond=0)
    closes = (now + timedelta(hours=5)).time().replace(second=0, microsecond=0)
    start(runtime, built, Schedule(windows=Windows((1, 2, 3, 4, 5, 6, 7), opens, closes, False)))
    choose(runtime, built)
    for _, at, closes_at, _ in due(runtime, built, rest=True):
        assert timedelta(hours=2, minutes=58) < at - now < timedelta(hours=5)
        assert closes_at is not None and closes_at - at <= timedelta(hours=2)


def test_by_leads_own_clocks_each_zone_is_parted_and_its_rest_goes_at_its_time(
    runtime: Runtime, built: World, now: datetime
) -> None:
    zones = ["Asia/Tokyo", "Europe/Berlin", "America/Denver"]
    with runtime.db.begin() as conn:
        for place, zone in enumerate(zones):
            conn.execute(
                text("UPDATE lead SET time_zone = :zone WHERE id % 3 = :place"), {"zone": zone, "place": place}
            )
    starts = datetime.combine(now.date() + timedelta(days=2), time(9))
    with runtime.db.begin() as conn:
        planned.set_schedule(conn, built.campaign_id, now - timedelta(minutes=1), Schedule(own=OwnClock(starts)))
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        variant.note_sent(conn)
        assert variant.find(conn, built.campaign_id).decide_at is None  # type: ignore[union-attr]
    tested = due(runtime, built, rest=False)
    assert len({at for _, at, *_ in tested}) == 3
    choose(runtime, built)
    rest = due(runtime, built, rest=True)
    assert {at for _, at, *_ in rest} == {at for _, at, *_ in tested}
    assert sum(size for *_, size in [*tested, *rest]) == LEADS
