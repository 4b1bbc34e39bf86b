"""Workers and clock: bells carry no work, so a lost bell, or a Redis that is away, delays and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import dramatiq
import pytest
import redis
from sqlalchemy import text

from app.config import Settings
from app.flows import beat, launch, steer
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.world import World
from workers import clock
from workers.actors import declare
from workers.broker import ENOUGH, Bell, open_broker
from workers.looking import Looking

AWAY = "redis://127.0.0.1:1/0"


@contextmanager
def working(settings: Settings) -> Iterator[Runtime]:
    """A worker process's inside: a Dramatiq worker with its looking threads."""
    runtime = Runtime(settings)
    broker = open_broker(settings.redis_url, [Looking(runtime)])
    runtime.use_bell(Bell(broker))
    declare(broker, runtime)
    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=2)
    worker.start()
    try:
        yield runtime
    finally:
        worker.stop(timeout=20_000)


@pytest.fixture
def house(settings: Settings) -> Settings:
    return replace(settings, range_size=50, look_every=0.2)


def build(runtime: Runtime, peer: Peer, leads: int = 120) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=leads, provider_url=peer.url)


def eventually(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


def is_finished(runtime: Runtime, campaign_id: int) -> bool:
    with runtime.db.begin() as conn:
        return bool(
            world.row(conn, "SELECT state = 'finished' AS so FROM campaign WHERE id = :id", id=campaign_id)["so"]
        )


def test_a_bell_wakes_a_worker_that_sends_everything(house: Settings, peer: Peer) -> None:
    with working(replace(house, look_every=3600.0)) as runtime:  # nobody looks: only bells are heard
        built = build(runtime, peer)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        assert eventually(lambda: is_finished(runtime, built.campaign_id))
    assert peer.sink.book.stats()["accepted"] == 120


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_with_redis_away_workers_look_for_themselves(house: Settings, peer: Peer) -> None:
    with working(replace(house, redis_url=AWAY)) as runtime:
        built = build(runtime, peer)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        assert eventually(lambda: is_finished(runtime, built.campaign_id))
    assert peer.sink.book.stats()["duplicates"] == 0


def test_a_flushed_redis_loses_nothing(house: Settings, peer: Peer, redis_url: str) -> None:
    peer.behave(latency=0.2)
    with working(house) as runtime, redis.Redis.from_url(redis_url) as client:
        built = build(runtime, peer, leads=400)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        for _ in range(5):
            client.flushall()
            time.sleep(0.1)
        assert eventually(lambda: is_finished(runtime, built.campaign_id))
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (400, 0)


def test_the_clock_rings_for_what_is_due_and_starts_what_was_scheduled(house: Settings, peer: Peer) -> None:
    with working(replace(house, look_every=3600.0)) as runtime:
        built = build(runtime, peer)
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE campaign SET start_at = now() + interval '1.5 seconds'"))
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        ticking = Runtime(house)
        ticking.use_bell(Bell(open_broker(house.redis_url)))
        thread = threading.Thread(target=clock.run, args=(ticking,))
        thread.start()
        try:
            assert eventually(lambda: is_finished(runtime, built.campaign_id))
            assert len(beat.alive(runtime, "clock")) == 1
        finally:
            ticking.stopping.set()
            thread.join(10)
            ticking.close()


def test_one_failing_task_does_not_stop_the_clock(house: Settings) -> None:
    ran = threading.Event()

    def fail(runtime: Runtime) -> None:
        raise RuntimeError("on purpose")

    runtime = Runtime(house)
    tasks = (clock.Task(0.01, fail), clock.Task(0.01, lambda runtime: ran.set()))
    thread = threading.Thread(target=clock.run, args=(runtime, tasks))
    thread.start()
    assert ran.wait(5)
    runtime.stopping.set()
    thread.join(5)
    runtime.close()


def test_bells_do_not_pile_up_where_nobody_hears_them(redis_url: str) -> None:
    bell = Bell(open_broker(redis_url))
    for _ in range(ENOUGH * 2):
        bell("send")
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("dramatiq:send") == ENOUGH


def test_a_bell_that_cannot_be_rung_is_no_error(settings: Settings) -> None:
    runtime = Runtime(replace(settings, redis_url=AWAY))
    runtime.use_bell(Bell(open_broker(AWAY)))
    runtime.ring("send", 3)
    runtime.close()


def test_every_bell_is_heard_by_an_actor(settings: Settings) -> None:
    runtime = Runtime(settings)
    broker = open_broker(settings.redis_url)
    declare(broker, runtime)
    assert {actor.queue_name for actor in broker.actors.values()} == set(broker.get_declared_queues())
    assert all(name == actor.queue_name for name, actor in broker.actors.items())  # Bell names actor and queue alike
    runtime.close()


def test_a_worker_that_is_told_to_stop_finishes_its_page_and_claims_no_other(house: Settings, peer: Peer) -> None:
    peer.behave(latency=0.5)
    with working(house) as runtime:
        built = build(runtime, peer, leads=2000)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        assert eventually(lambda: peer.sink.book.stats()["calls"] > 0)
    after = Runtime(house)
    with after.db.begin() as conn:
        sums = world.row(
            conn,
            "SELECT count(*) FILTER (WHERE state = 'leased') AS held, sum(unknown) AS unknown, sum(sent) AS sent"
            " FROM outbox",
        )
    assert (sums["held"], sums["unknown"]) == (0, 0)
    assert sums["sent"] == peer.sink.book.stats()["accepted"] < 2000
    steer.cancel(after, built.organisation_id, built.campaign_id)
    after.close()


def test_what_takes_the_clock_long_holds_up_nothing_else(house: Settings) -> None:
    """A million leads are compared, and a hundred campaigns launched, while dead workers' ranges are freed; each has a
    connection."""
    assert [task.act.__name__ for task in clock.TASKS if not task.aside] == [
        "ring_due",
        "ring_waiting",
        "rescue_expired",
        "refresh",
        "end_due",
        "beat_clock",
    ]
    runtime = Runtime(house, connections=clock.CONNECTIONS)
    freed, all_at_it = threading.Event(), threading.Barrier(1 + sum(task.aside for task in clock.TASKS))

    def compare(runtime: Runtime) -> None:
        with runtime.db.begin() as conn:
            all_at_it.wait(5)
            conn.execute(text("SELECT pg_sleep(1)"))

    def free(runtime: Runtime) -> None:
        all_at_it.wait(5)
        with runtime.db.begin() as conn:
            conn.execute(text("SELECT"))
        freed.set()

    asides = tuple(clock.Task(3600.0, compare, aside=True) for task in clock.TASKS if task.aside)
    thread = threading.Thread(target=clock.run, args=(runtime, (*asides, clock.Task(3600.0, free))))
    thread.start()
    began = time.monotonic()
    assert freed.wait(5)
    assert time.monotonic() - began < 0.9
    runtime.stopping.set()
    thread.join(10)
    runtime.close()


@pytest.mark.parametrize(("chosen", "nice"), [({}, 10), ({"MILLRACE_WORKER_NICE": "3"}, 3)])
def test_a_worker_stands_back_behind_the_web_process(settings: Settings, chosen: dict[str, str], nice: int) -> None:
    urls = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    environment = os.environ | urls | {"SECRET_KEY": settings.secret_key} | chosen
    asked = "import os, workers.main; print(os.getpriority(os.PRIO_PROCESS, 0)); workers.main.runtime.close()"
    said = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert int(said.stdout) == max(nice, os.getpriority(os.PRIO_PROCESS, 0))
