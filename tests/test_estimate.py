"""When a campaign would end, as far as limits by receiver decide: from a sample of what it has left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.config import Settings
from app.flows import estimate, launch, send_range
from app.flows.estimate import Estimate
from app.models import limit, outbox, receiver
from app.models.limit import Limit
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.world import World

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEADS = 600  # of five domains, one after the other


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    with closing(Runtime(replace(settings, range_size=50))) as opened:
        yield opened


@pytest.fixture
def built(runtime: Runtime, peer: Peer) -> World:
    key = runtime.settings.secret_key
    return world.build(runtime.db, secret_key=key, leads=LEADS, provider_url=peer.url)


def told(runtime: Runtime, built: World, *limits: Limit, leads: int = LEADS) -> Estimate:
    with runtime.db.begin() as conn:
        limit.set_limits(conn, built.pool_id, limits)
        return estimate.end_estimate(conn, built.sender_id, leads, NOON, campaign_id=built.campaign_id)


def test_the_receiver_that_takes_longest_decides(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        conn.execute(
            text("UPDATE domain SET receiver = 'google' WHERE name IN ('mail1.example.com', 'mail2.example.com')")
        )
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    google, own = Limit("google", per_second=0.1), Limit("mail4.example.com", per_second=0.01)
    assert told(runtime, built, google) == Estimate(
        NOON + timedelta(seconds=2400), "the limit for Google (Gmail, Workspace) a second"
    )
    bound = "the limit for mail4.example.com a second"
    assert told(runtime, built, google, own) == Estimate(NOON + timedelta(seconds=12_000), bound)
    whole = Limit(per_second=0.04)
    assert told(runtime, built, google, whole) == Estimate(
        NOON + timedelta(seconds=15_000), "the pool's limit a second"
    )


def test_a_receivers_limit_by_day_counts_its_own_leads(runtime: Runtime, built: World) -> None:
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    ends = told(runtime, built, Limit("mail4.example.com", per_day=50))
    assert ends.bound_by == "the limit for mail4.example.com by day"
    assert ends.ends_at is not None
    assert (ends.ends_at - NOON) // timedelta(days=1) == 2


def test_receivers_are_told_apart_once_the_audience_stands_and_by_what_is_left(runtime: Runtime, built: World) -> None:
    own = Limit("mail4.example.com", per_second=0.01)
    assert told(runtime, built, own) == Estimate(NOON, "")
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        assert receiver.find_shares(conn, built.campaign_id, {"mail4.example.com"}) == {
            "mail4.example.com": pytest.approx(1 / 5)
        }
    with runtime.db.begin() as conn:
        limit.set_limits(conn, built.pool_id, [])
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        assert outbox.progress(conn, built.campaign_id).sent == LEADS
        assert receiver.find_shares(conn, built.campaign_id, {"mail4.example.com"}) == {}
