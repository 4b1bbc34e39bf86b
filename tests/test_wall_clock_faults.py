"""Wall clocks that are wrong, or set back: leases and schedules go by the database's clock, and fire once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.config import Settings
from app.flows import edit_campaign, launch, recur, rescue
from app.flows.edit_campaign import Draft
from app.flows.recur import Repeats
from app.models import campaign, recurrence
from app.models.schedule import Schedule
from app.runtime import Runtime
from tests import wall_clock, world
from tests.peers import Peer
from tests.sending_world import query, sums
from tests.test_ending import CHECKOUT, COMMAND
from tests.test_workers import eventually, is_finished
from tests.wall_clock import WallClock
from tests.world import HTML, SUBJECT, World
from workers import clock

LEASE = 3.0
LEASES = "SELECT extract(epoch FROM lease_until - now())::float8 FROM outbox WHERE state = 'leased'"
COPIES = "SELECT count(*) FROM campaign WHERE origin_id IS NOT NULL"
CLOCK = ("cli", "clock")


@pytest.fixture
def wrong(tmp_path: Path) -> WallClock:
    """A wall clock that is right until it is set; skipped where there can be none."""
    if reason := wall_clock.find(tmp_path):
        pytest.skip(reason)
    return wall_clock.wall_clock(tmp_path)


@contextmanager
def process(settings: Settings, by: WallClock, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that goes by this wall clock; killed at the end."""
    variables = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_LEASE": str(LEASE),
        "MILLRACE_LOOK_EVERY": "0.2",
    }
    started = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=CHECKOUT,
        env=os.environ | variables | by.environment,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(replace(settings, range_size=50, lease=LEASE, call_deadline=0.9))
    yield opened
    opened.close()


@contextmanager
def a_right_clock(runtime: Runtime) -> Iterator[None]:
    """A clock beside, whose time is right: it rescues what runs out."""
    beside = Runtime(runtime.settings, connections=clock.CONNECTIONS)
    thread = threading.Thread(target=clock.run, args=(beside,))
    thread.start()
    try:
        yield
    finally:
        beside.stopping.set()
        thread.join(20)
        beside.close()


def build(runtime: Runtime, peer: Peer, leads: int = 400) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=leads, provider_url=peer.url)


def test_a_worker_ten_minutes_late_keeps_its_leases(runtime: Runtime, peer: Peer, wrong: WallClock) -> None:
    peer.behave(latency=0.6)
    wrong.set("-10m")
    built = build(runtime, peer)
    with a_right_clock(runtime), process(runtime.settings, wrong, COMMAND):
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        held: list[float] = []
        while not is_finished(runtime, built.campaign_id):
            held += [float(str(seconds)) for (seconds,) in query(runtime, LEASES)]
            time.sleep(0.1)
    assert held and 0 < min(held) < max(held) <= LEASE
    assert sums(runtime, built.campaign_id) == {"sent": 400}
    assert query(runtime, "SELECT sum(crashes) FROM outbox") == [(0,)]
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (400, 0)


def test_what_a_worker_ten_minutes_early_held_when_it_was_killed_is_free_after_its_lease(
    runtime: Runtime, peer: Peer, wrong: WallClock
) -> None:
    peer.behave(latency=0.8)
    wrong.set("+10m")
    built = build(runtime, peer)
    with process(runtime.settings, wrong, COMMAND) as worker:
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        assert eventually(lambda: query(runtime, LEASES) != [])
        os.killpg(worker.pid, signal.SIGKILL)
        killed = time.monotonic()
        held = len(query(runtime, LEASES))
        freed = 0
        while freed < held and time.monotonic() - killed < 20:
            freed += rescue.rescue_expired(runtime)
            time.sleep(0.1)
        assert freed == held
        assert time.monotonic() - killed < LEASE + 1.5


def test_a_worker_whose_clock_is_set_back_amid_a_campaign_goes_on(
    runtime: Runtime, peer: Peer, wrong: WallClock
) -> None:
    peer.behave(latency=0.3)
    built = build(runtime, peer, leads=800)
    with a_right_clock(runtime), process(runtime.settings, wrong, COMMAND):
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        for offset in ("-10m", "+10m", "-20m"):
            calls = peer.sink.book.stats()["calls"]
            assert eventually(lambda calls=calls: peer.sink.book.stats()["calls"] > calls)  # type: ignore[misc]
            wrong.set(offset)
        assert eventually(lambda: is_finished(runtime, built.campaign_id), 30)
    assert sums(runtime, built.campaign_id) == {"sent": 800}
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (800, 0)


def repeating(runtime: Runtime, built: World, seconds: float) -> tuple[int, datetime]:
    """A campaign that repeats daily, first in so many seconds; its id, and when."""
    with runtime.db.begin() as conn:
        due = campaign.now(conn) + timedelta(seconds=seconds)
    draft = Draft("Daily", built.sender_id, None, SUBJECT, HTML, "", due, repeats=Repeats("FREQ=DAILY"))
    campaign_id = edit_campaign.create(runtime, built.organisation_id, built.user_id, draft)
    launch.launch(runtime, built.organisation_id, campaign_id)
    [(begins,)] = query(runtime, f"SELECT start_at FROM campaign WHERE id = {campaign_id}")
    assert isinstance(begins, datetime)
    return campaign_id, begins


@pytest.mark.parametrize("offset", ["-10m", "+10m"])
def test_a_clock_ten_minutes_off_starts_what_repeats_in_time_and_once_though_it_is_set_back(
    runtime: Runtime, peer: Peer, wrong: WallClock, offset: str
) -> None:
    wrong.set(offset)
    built = build(runtime, peer, leads=100)
    with process(runtime.settings, wrong, CLOCK), process(runtime.settings, wrong, CLOCK):
        assert eventually(lambda: query(runtime, "SELECT count(*) FROM process WHERE kind = 'clock'") == [(2,)])
        _, due = repeating(runtime, built, 3.0)
        assert eventually(lambda: query(runtime, COPIES) != [(0,)], 15)
        [(made_at, now)] = query(runtime, "SELECT created_at, now() FROM campaign WHERE origin_id IS NOT NULL")
        assert isinstance(made_at, datetime) and isinstance(now, datetime)
        assert timedelta(0) <= made_at - due < timedelta(seconds=10)
        for moved in ("-20m", "+20m", "-1d"):
            wrong.set(moved)
            time.sleep(1.5)
        assert query(runtime, COPIES) == [(1,)]
        assert query(runtime, "SELECT sum(size) FROM outbox") == [(100,)]


def next_days(rule: str, begins: datetime, count: int) -> list[str]:
    found = recurrence.Recurrence(1, rule, begins, "Europe/Berlin")
    days = recur.next_times(found, Schedule(), begins.replace(tzinfo=UTC) - timedelta(days=1), count)
    assert {day.hour for day in days} <= {7, 8}  # nine o'clock there, summer and winter
    return [f"{day:%Y-%m-%d}" for day in days]


def test_a_leap_day_comes_once_in_its_years_and_is_no_other_day_s() -> None:
    leap_day = datetime(2028, 2, 29, 9)
    assert next_days("FREQ=YEARLY", leap_day, 2) == ["2028-02-29", "2032-02-29"]
    assert next_days("FREQ=DAILY", leap_day - timedelta(days=1), 3) == ["2028-02-28", "2028-02-29", "2028-03-01"]
    months = ["2028-01-31", "2028-02-29", "2028-03-31"]
    assert next_days("FREQ=MONTHLY;BYMONTHDAY=-1", datetime(2028, 1, 31, 9), 3) == months
    assert next_days("FREQ=MONTHLY;BYMONTHDAY=29", datetime(2027, 1, 29, 9), 3)[1] == "2027-03-29"
