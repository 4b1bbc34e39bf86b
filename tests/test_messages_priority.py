"""A message does not wait for a campaign, however great and slow that is."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from app.config import Settings
from app.flows import launch, messages, send_range
from app.flows.messages import NewMessage
from app.runtime import Runtime
from tests import world
from tests.peers import running_sink
from tests.test_workers import eventually, working

SOON = 2.0  # seconds


@pytest.mark.parametrize("redis", ["there", "away"])
def test_a_message_next_to_a_great_campaign_is_with_its_provider_within_two_seconds(
    settings: Settings, redis: str
) -> None:
    house = replace(settings, range_size=200, look_every=3.0)
    if redis == "away":
        house = replace(house, redis_url="redis://127.0.0.1:1/0")
    with running_sink(latency=0.8) as peer, working(house) as runtime:
        built = world.build(runtime.db, secret_key=house.secret_key, leads=6000, provider_url=peer.url)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        assert eventually(lambda: peer.sink.book.stats()["accepted"] > 0)
        for number in range(3):
            began = time.monotonic()
            _ask(runtime, built, f"m{number}@example.com")
            assert eventually(lambda to=f"m{number}@example.com": _came(peer.sink.book.messages(500), to))  # type: ignore[misc]
            assert time.monotonic() - began < SOON
        assert peer.sink.book.stats()["accepted"] < 6000  # the campaign goes on all the while


def test_a_stream_that_is_slow_leaves_something_to_campaigns(settings: Settings) -> None:
    runtime = Runtime(replace(settings, range_size=100))
    with running_sink() as peer:
        built = world.build(runtime.db, secret_key=settings.secret_key, leads=1000, provider_url=peer.url)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        for _ in range(10):
            _ask(runtime, built, *(f"m{number}@example.com" for number in range(messages.ENOUGH)))
        leases = [send_range.claim(runtime) for _ in range(6)]  # as many as work at once, and none is done
        held = [lease.campaign_id for lease in leases if lease is not None]
        assert held[0] != built.campaign_id
        assert 0 < held.count(built.campaign_id) < 4
        assert (more := send_range.claim(runtime, messages_only=True))
        assert more.campaign_id == held[0]
    runtime.close()


def _ask(runtime: Runtime, built: world.World, *to: str) -> None:
    with runtime.db.begin() as conn:
        asked = [NewMessage(each, subject="Hi", text="Hi") for each in to]
        accepted = messages.accept(conn, built.organisation_id, built.user_id, asked)
    if accepted.due_now:
        runtime.ring("send")


def _came(seen: list[dict[str, object]], to: str) -> bool:
    return any(each["to"] == to for each in seen)
