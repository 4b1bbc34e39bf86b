"""Open time: windows, clocks that are changed, zones that are alike, and how an audience is laid over them."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.flows.schedule import lay_out
from app.models.open_time import Windows, group_zones, moment, openings, stretches
from app.models.outbox import Test
from app.models.schedule import OwnClock, Schedule, begin_of, from_json, range_size, to_json

ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Chatham", "Australia/Lord_Howe"]
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))
TIMES = st.times().map(lambda each: each.replace(second=0, microsecond=0, tzinfo=None))
WINDOWS = st.builds(Windows, st.sets(st.integers(1, 7), min_size=1).map(lambda each: tuple(sorted(each))), TIMES, TIMES)
SCHEDULES = st.builds(
    Schedule,
    st.none() | MOMENTS,
    st.none(),
    ZONES,
    st.none() | WINDOWS,
    st.none() | st.integers(1, 1000),
) | st.builds(Schedule, st.none(), st.builds(OwnClock, st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1))), ZONES)


def is_open(windows: Windows, zone: str, at: datetime) -> bool:
    """The same said otherwise: by the clock on the wall, of the day or of the one before."""
    local = at.astimezone(ZoneInfo(zone))
    overnight = windows.closes <= windows.opens
    wall, day = local.time(), local.isoweekday()
    if not overnight:
        return day in windows.days and windows.opens <= wall < windows.closes
    before = (day - 2) % 7 + 1
    return (day in windows.days and wall >= windows.opens) or (before in windows.days and wall < windows.closes)


@given(WINDOWS, ZONES, MOMENTS)
@settings(deadline=None, max_examples=60)
def test_mail_may_go_when_the_clock_on_the_wall_says_so(windows: Windows, zone: str, since: datetime) -> None:
    found = []
    for each in openings(windows, zone, since):
        found.append(each)
        if each.opens > since + timedelta(days=10):
            break
    for before, after in pairwise(found):
        assert before.closes is not None
        assert before.opens < before.closes < after.opens
    info = ZoneInfo(zone)
    for hours in range(0, 9 * 24, 5):
        at = since + timedelta(hours=hours, minutes=hours % 7)
        offsets = {(at + timedelta(days=days)).astimezone(info).utcoffset() for days in (-2, 0, 2)}
        if len(offsets) > 1:
            continue  # clocks are changed about then: what is meant is tested by itself
        assert any(each.opens <= at < (each.closes or at) for each in found) == is_open(windows, zone, at)


@given(st.none() | WINDOWS, ZONES, MOMENTS, st.integers(1, 14 * 24 * 60))
@settings(deadline=None, max_examples=60)
def test_stretches_are_open_time_before_the_end(
    windows: Windows | None, zone: str, since: datetime, minutes: int
) -> None:
    until = since + timedelta(minutes=minutes)
    found = stretches(windows, zone, since, until)
    assert found
    if len(found) > 1 or found[0].seconds:
        assert sum(each.seconds for each in found) <= minutes * 60
        assert all(each.opens + timedelta(seconds=each.seconds) <= until for each in found)
        assert all(each.opens < after.opens for each, after in pairwise(found))
    else:
        assert windows is not None
        assert found[0].opens >= until


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        (datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),  # there is none: 03:30 on the wall
        (datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # there are two: the first
        (datetime(2026, 10, 25, 3, 0), datetime(2026, 10, 25, 2, 0, tzinfo=UTC)),
    ],
)
def test_an_hour_that_is_skipped_or_comes_twice_has_one_moment(local: datetime, utc: datetime) -> None:
    assert moment(local, "Europe/Berlin") == utc


def test_a_day_on_which_clocks_are_changed_has_its_own_length() -> None:
    night = Windows((1, 2, 3, 4, 5, 6, 7), time(0), time(0))
    for day, hours in ((datetime(2026, 3, 28, 23, tzinfo=UTC), 23), (datetime(2026, 10, 24, 22, tzinfo=UTC), 25)):
        (found,) = stretches(night, "Europe/Berlin", day, day + timedelta(hours=hours))
        assert found.seconds == hours * 3600
        business = Windows(night.days, time(1), time(4))
        (found,) = stretches(business, "Europe/Berlin", day, day + timedelta(hours=hours))
        assert found.seconds == (hours - 21) * 3600  # two of three hours, and four of them


@given(SCHEDULES)
def test_what_is_kept_is_what_was_chosen(chosen: Schedule) -> None:
    assert from_json(to_json(chosen)) == chosen


def test_zones_that_are_alike_are_one_and_all_of_the_world_are_few() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    everywhere: dict[str | None, int] = dict.fromkeys(available_timezones(), 1)
    found = group_zones(everywhere | {None: 5, "Nowhere/At_All": 3}, "Europe/Berlin", now)
    assert sum(sum(leads.values()) for leads in found.values()) == len(everywhere) + 8
    assert len(found) < 70
    first = next(iter(found))
    assert first == "Europe/Berlin"
    assert {None, "Nowhere/At_All", "Europe/Paris"} <= found[first].keys()
    for head, leads in found.items():
        for zone in leads.keys() - {None, "Nowhere/At_All"}:
            for hours in range(0, 365 * 24, 9 * 24 + 1):
                at = now + timedelta(hours=hours)
                assert at.astimezone(ZoneInfo(str(zone))).utcoffset() == at.astimezone(ZoneInfo(head)).utcoffset()


@given(MOMENTS, st.integers(-30, 30), st.sampled_from(["now", "next_day"]), ZONES)
def test_next_day_is_the_first_on_which_the_time_has_not_passed(
    now: datetime, hours: int, past: str, zone: str
) -> None:
    starts = (now + timedelta(hours=hours)).replace(tzinfo=None)
    begins, ends = begin_of(OwnClock(starts, starts + timedelta(hours=2), past), zone, now)
    assert begins.astimezone(ZoneInfo(zone)).replace(tzinfo=None) - starts in {
        timedelta(days=days, hours=shift / 2) for days in range(5) for shift in range(-2, 3)
    }
    assert ends is not None
    assert ends > begins
    if past == "next_day":
        assert begins >= now - timedelta(hours=1)
        assert begins < max(now + timedelta(hours=25), moment(starts, zone) + timedelta(hours=25))
    else:
        assert begins == moment(starts, zone)


@given(st.integers(1, 10_000_000), st.floats(0, 1e7), st.integers(1, 5000))
def test_ranges_are_never_empty_and_flow_every_minute(leads: int, seconds: float, most: int) -> None:
    size = range_size(leads, seconds, most)
    assert 1 <= size <= most
    ranges = -(-leads // size)
    assert ranges >= min(leads, int(max(1.0, seconds / 60.0)))


@given(SCHEDULES, MOMENTS, st.none() | st.builds(Test, st.integers(1, 100), st.integers(2, 5)))
@settings(deadline=None, max_examples=60)
def test_every_part_has_its_place(chosen: Schedule, now: datetime, test: Test | None) -> None:
    zones: dict[str | None, int] = {"Asia/Tokyo": 7, None: 2, "America/Lima": 5, "x": 1}
    layout = lay_out(chosen, zones, now, test, 1000)
    if chosen.is_plain:
        assert not layout.places
        return
    slots = 1 if test is None else test.variants + 1
    assert [each.part for each in layout.parts] == list(range(len(layout.places) * slots))
    named = [zone for place in layout.places for zone in place.zones]
    assert sorted(named) == ["America/Lima", "Asia/Tokyo", "x"]
    assert all(
        place.due_at >= now and (place.closes_at is None or place.closes_at > place.due_at) for place in layout.places
    )
