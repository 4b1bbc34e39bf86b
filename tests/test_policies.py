"""What campaigns' policies decide on unknown calls by themselves, when, and who is told: a turn of the clock at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from app.config import Settings
from app.errors import Conflict
from app.flows import alerts, finish, steer, unknowns
from app.flows.resolve import Evidence, use_evidence
from app.mail import Deferred, Kind
from app.models import alert, outbox
from app.runtime import Runtime
from tests.peers import Peer, running_sink
from tests.sending_world import hand_over, later, launched, letters_of, lose_the_lease, query, settle_with, sums
from tests.test_sending import state
from tests.world import World

STANDING = "SELECT kind, times FROM alert WHERE cleared_at IS NULL ORDER BY kind"


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100))
    yield runtime
    runtime.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_sink() as peer:
        yield peer


def unknown(runtime: Runtime, peer: Peer, policy: str = "hold", leads: int = 50) -> World:
    """A campaign whose first page is unknown, since its worker died."""
    built = launched(runtime, peer, leads)
    with runtime.db.begin() as conn:
        conn.execute(
            text("UPDATE campaign SET unknown_policy = :policy WHERE id = :id"),
            {"policy": policy, "id": built.campaign_id},
        )
    hand_over(runtime)
    lose_the_lease(runtime)
    return built


def webhooks_arrive(runtime: Runtime, built: World) -> None:
    """A webhook has spoken of a call that was handed over just now."""
    with runtime.db.begin() as conn:
        conn.execute(
            text("INSERT INTO pool_webhook (pool_id, seen_at, handed_at, lags) VALUES (:p, now(), now(), '{}')"),
            {"p": built.pool_id},
        )


def change(runtime: Runtime, statement: str, **values: object) -> None:
    with runtime.db.begin() as conn:
        assert conn.execute(text(statement), values).rowcount > 0


# -- Evidence that lies unread -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tries", [0, 3])
def test_the_policy_resend_waits_while_a_post_that_came_since_is_unread(
    runtime: Runtime, peer: Peer, tries: int
) -> None:
    built = unknown(runtime, peer, "resend")
    later(runtime, 1000)
    webhooks_arrive(runtime, built)
    with runtime.db.begin() as conn:
        conn.execute(
            text("INSERT INTO webhook (pool_id, delivery, body, tries) VALUES (:p, 'x', '{}', :tries)"),
            {"p": built.pool_id, "tries": tries},
        )
    assert unknowns.apply_policies(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 50}
    change(runtime, "UPDATE webhook SET read_at = now()")
    assert unknowns.apply_policies(runtime) == 50


def test_a_post_that_came_before_the_call_keeps_nobody_waiting(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, "resend")
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO webhook (pool_id, delivery, body, tries, received_at)"
                " VALUES (:p, 'x', '{}', 3, now() - interval '1 hour')"
            ),
            {"p": built.pool_id},
        )
    later(runtime, 1000)
    webhooks_arrive(runtime, built)
    assert unknowns.apply_policies(runtime) == 50


# -- Cancelled campaigns -----------------------------------------------------------------------------------------------


def test_a_campaign_that_is_cancelled_while_a_person_presses_keeps_its_unknowns(runtime: Runtime, peer: Peer) -> None:
    """The second of two steps finds it cancelled: what may have been sent must not end as `cancelled`."""
    built = unknown(runtime, peer)
    pressing = threading.Event()
    told: list[Conflict] = []

    def press() -> None:
        pressing.set()
        try:
            unknowns.send_again(runtime, built.organisation_id, built.campaign_id)
        except Conflict as conflict:
            told.append(conflict)

    thread = threading.Thread(target=press)
    with runtime.db.begin() as conn:
        conn.execute(text("SELECT FROM campaign FOR UPDATE"))
        thread.start()
        pressing.wait()
        wait_for_a_lock(runtime)
        conn.execute(text("UPDATE campaign SET state = 'cancelled'"))
    thread.join()
    steer.close_cancelled(runtime)
    assert len(told) == 1
    assert sums(runtime, built.campaign_id) == {"unknown": 50}


def wait_for_a_lock(runtime: Runtime) -> None:
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    until = time.monotonic() + 10
    while not query(runtime, waiting):
        assert time.monotonic() < until, "nobody waits"
        time.sleep(0.02)
