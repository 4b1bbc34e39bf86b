"""Asking the provider afterwards what became of a call whose answer was lost."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.flows import look_up, repeat, send_range
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, later, launched, lose_the_lease, query, sums
from tests.test_sending import state

pytestmark = pytest.mark.settings(range_size=100)

ASKED = "SELECT DISTINCT look_up_at IS NOT NULL FROM handoff"


def wait(runtime: Runtime, seconds: float = 40.0) -> None:
    later(runtime, seconds)


def test_a_provider_that_can_be_asked_says_what_it_took_and_dropped(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0, refuse=0.1)
    built = launched(runtime, peer, more="?lookup=1")
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"unknown": 100}
    assert look_up.look_up_due(runtime) == 0  # not at once
    wait(runtime)
    assert look_up.look_up_due(runtime) == 100
    refused = peer.sink.book.stats()["refused"]
    assert sums(runtime, built.campaign_id) == {"sent": 100 - refused, "refused": refused}
    assert state(runtime, built.campaign_id) == "finished"


def test_what_it_knows_nothing_of_stays_unknown_and_is_asked_about_ever_more_seldom(
    runtime: Runtime, peer: Peer
) -> None:
    built = launched(runtime, peer, leads=10, more="?lookup=1")
    hand_over(runtime)  # the worker dies before it asks the provider to send
    lose_the_lease(runtime)
    waits = []
    for step in (40, 130, 1200, 8000, 90_000):
        wait(runtime, step)
        assert look_up.look_up_due(runtime) == 0
        waits += query(runtime, "SELECT round(extract(epoch FROM look_up_at - now()))::int FROM handoff")
    assert waits == [(30,), (300,), (1800,), (7200,), (None,)]
    assert sums(runtime, built.campaign_id) == {"unknown": 10}


def test_a_provider_that_cannot_be_asked_is_not(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    built = launched(runtime, peer)
    send_range.drain(runtime)
    wait(runtime)
    assert look_up.look_up_due(runtime) == 0
    assert query(runtime, ASKED) == [(False,)]
    assert sums(runtime, built.campaign_id) == {"unknown": 100}


def test_a_provider_that_is_down_is_asked_again_later(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    built = launched(runtime, peer, leads=50, more="?lookup=1")
    send_range.drain(runtime)
    wait(runtime)
    provider = runtime.provider(query(runtime, "SELECT url FROM pool")[0][0], 1)  # type: ignore[arg-type]
    address, provider.questions.url = provider.questions.url, provider.http.url  # type: ignore[attr-defined]
    assert look_up.look_up_due(runtime) == 0  # POST /send refuses the question
    provider.questions.url = address  # type: ignore[attr-defined]
    wait(runtime)
    assert look_up.look_up_due(runtime) == 50
    assert sums(runtime, built.campaign_id) == {"sent": 50}


def test_a_call_that_cannot_be_asked_about_keeps_no_other_waiting(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    broken, built = (launched(runtime, peer, leads=50, more="?lookup=1") for _ in range(2))
    send_range.drain(runtime)
    with runtime.db.begin() as conn:  # as where it was encrypted under another key
        conn.execute(text("UPDATE pool SET url = 'nobody reads this' WHERE id = :id"), {"id": broken.pool_id})
    wait(runtime)
    assert look_up.look_up_due(runtime) == 50
    assert sums(runtime, built.campaign_id) == {"sent": 50}
    assert sums(runtime, broken.campaign_id) == {"unknown": 50}


def test_while_a_call_is_made_again_under_its_key_nobody_asks_about_it(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0, idempotent=True)
    launched(runtime, peer, leads=10, more="?lookup=1&idempotent=3600")
    send_range.drain(runtime)
    wait(runtime)
    assert look_up.look_up_due(runtime) == 0
    peer.behave(unsure=0.0)
    assert repeat.repeat_due(runtime) == 1
    assert query(runtime, ASKED) == [(False,)]


def test_two_workers_never_ask_about_the_same_call(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    launched(runtime, peer, more="?lookup=1")
    send_range.drain(runtime)
    wait(runtime)
    with runtime.db.begin() as conn:
        asked = [look_up.handoff.claim_look_up(conn, 60) for _ in range(3)]
    assert len({each.id for each in asked if each}) == 2
