"""Bells whose reply is lost, that come late, or that nobody can read: the work stands in PostgreSQL and goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

import dramatiq
import pytest
import redis

from app.config import Settings
from app.flows import launch
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.sending_world import query, sums
from tests.test_workers import eventually, is_finished, working
from tests.wire import Wire, wire

LOOK = 1.0  # seconds between a worker's own looks
SLACK = 2.0  # seconds that a page itself may take on a machine that is busy
IDLE = """
SELECT max(extract(epoch FROM handoff.handed_at - outbox.due_at))::float8
  FROM handoff
  JOIN outbox
    ON outbox.id = handoff.range_id
"""
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def line(redis_url: str) -> Iterator[Wire]:
    """The wire to Valkey."""
    where = urlsplit(redis_url)
    with wire(lambda: asyncio.open_connection(where.hostname, where.port)) as line:
        yield line


@pytest.fixture
def house(settings: Settings, line: Wire) -> Settings:
    """Settings that reach Valkey by the wire."""
    where = urlsplit(settings.redis_url)
    place = where.netloc.replace(f":{where.port}", f":{line.port}")
    return replace(settings, redis_url=urlunsplit(where._replace(netloc=place)), range_size=50, look_every=LOOK)


def send(runtime: Runtime, peer: Peer, name: str) -> int:
    """Launch a campaign to 120 leads, and wait until it is over; its id."""
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=120, provider_url=peer.url, name=name)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    assert eventually(lambda: is_finished(runtime, built.campaign_id), 30)
    assert sums(runtime, built.campaign_id) == {"sent": 120}
    return built.campaign_id


def longest_idle(runtime: Runtime) -> float:
    """Seconds that a range waited at most, from when it was due until it was handed over."""
    [(seconds,)] = query(runtime, IDLE)
    return float(str(seconds))


@pytest.mark.parametrize("command", ["enqueue", "fetch", "ack"])
def test_replies_of_redis_that_are_lost_keep_no_range_waiting_for_longer_than_a_look(
    house: Settings, peer: Peer, line: Wire, command: str
) -> None:
    with working(house) as runtime:
        send(runtime, peer, "Before")  # scripts are known by now: what is lost from here on was obeyed
        line.loses = f"\r\n{command}\r\n".encode()
        for number in range(3):
            send(runtime, peer, f"Amid {number}")
        line.loses = b""
        assert longest_idle(runtime) < LOOK + SLACK
    assert line.lost > 0
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (480, 0)


def test_a_redis_that_stalls_holds_up_nothing_and_bells_are_heard_again_after_it(
    house: Settings, peer: Peer, line: Wire, redis_url: str
) -> None:
    """For longer than any socket waits: every consumer, ack and ring times out amid it."""
    with working(house) as runtime, redis.Redis.from_url(redis_url) as beside:
        send(runtime, peer, "Before")
        line.hold()
        began = time.monotonic()
        send(runtime, peer, "Amid")
        time.sleep(max(0.0, 7.0 - (time.monotonic() - began)))
        line.let_go()
        assert longest_idle(runtime) < LOOK + SLACK
        send(runtime, peer, "After")

        def heard() -> bool:
            runtime.ring("send")
            time.sleep(0.3)
            return beside.llen("dramatiq:send") == 0

        assert eventually(heard, 15)
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (360, 0)


POISON = {
    "no_json": b"\xff\xfe not json",
    "no_object": b"[1, 2]",
    "no_fields": b"{}",
    "unknown_actor": dramatiq.Message("send", "nobody", (), {}, {}).encode(),
    "arguments_that_it_does_not_take": dramatiq.Message("send", "send", (1, {"a": None}), {"b": 2}, {}).encode(),
    "another_queue_s_actor": dramatiq.Message("send", "import", (), {}, {}).encode(),
}


@pytest.mark.parametrize("poison", POISON)
def test_a_bell_that_nobody_can_read_or_hear_stops_no_other_and_is_not_heard_again_and_again(
    house: Settings, peer: Peer, redis_url: str, poison: str, caplog: pytest.LogCaptureFixture
) -> None:
    with working(replace(house, look_every=3600.0)) as runtime, redis.Redis.from_url(redis_url) as beside:
        beside.hset("dramatiq:send.msgs", "poison", POISON[poison])
        beside.rpush("dramatiq:send", "poison")
        assert eventually(lambda: beside.llen("dramatiq:send") == 0, 10)
        time.sleep(1.5)
        said = len(caplog.records)
        send(runtime, peer, "After")  # nobody looks: by bells alone
        time.sleep(1.0)
        assert (beside.llen("dramatiq:send"), beside.hlen("dramatiq:send.DQ.msgs")) == (0, 0)  # nor later
    assert said < 20
    assert peer.sink.book.stats()["duplicates"] == 0
