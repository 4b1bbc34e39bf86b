"""The circuit breaker of a pool: a provider that is down is left alone, and one batch tries whether it is back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.errors import ProviderDown
from app.flows import pools, repeat, send_range, steer
from app.mail import Accepted, Refused
from app.models import pool
from app.runtime import Runtime
from tests.peers import Peer, running_sink
from tests.sending_world import hand_over, later, launched, lose_the_lease, one, query, settle_with, sums

pytestmark = pytest.mark.settings(range_size=100)

BREAKER = (
    "SELECT state, failures, round(extract(epoch FROM resume_at - now()))::int AS wait,"
    " probe_until IS NOT NULL AS probed"
    " FROM pool"
)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_sink(idempotent=True) as peer:
        yield peer


def test_while_a_provider_is_down_tables_do_not_grow(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0)
    built = launched(runtime, peer, leads=1000)
    for _ in range(10):
        send_range.drain(runtime)
        later(runtime, 2000)
    assert query(runtime, "SELECT count(*) FROM outbox") == [(10,)]
    assert query(runtime, "SELECT count(*) FROM handoff")[0][0] == 2 + 9  # a whole page once, then single batches
    assert sums(runtime, built.campaign_id) == {"open": 1000}
    peer.behave(down=0.0)
    later(runtime, 2000)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 1000}
    assert peer.sink.book.stats()["duplicates"] == 0


def test_one_batch_and_no_more_tries_whether_it_is_back(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0)
    launched(runtime, peer, leads=500)
    send_range.drain(runtime)
    later(runtime, 2000)
    first, second = send_range.claim(runtime), send_range.claim(runtime)
    assert first is not None and first.probe and len(first.lead_ids) == 50
    assert second is None


def test_a_probe_that_is_answered_opens_the_pool_and_the_rest_of_its_range_follows(
    runtime: Runtime, peer: Peer
) -> None:
    peer.behave(down=1.0)
    built = launched(runtime, peer, leads=100)
    send_range.drain(runtime)
    peer.behave(down=0.0)
    later(runtime, 2000)
    page, handoffs = hand_over(runtime)
    assert [len(each.lead_ids) for each in handoffs] == [50]
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 50)
    assert one(runtime, BREAKER) == {"state": "active", "failures": 0, "wait": None, "probed": False}
    assert sums(runtime, built.campaign_id) == {"sent": 50, "open": 50}
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 100}


def test_a_probe_that_is_refused_shows_that_the_provider_is_back(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0)
    launched(runtime, peer, leads=100)
    send_range.drain(runtime)
    later(runtime, 2000)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, [Refused("550 no")] * 50)
    assert one(runtime, BREAKER)["state"] == "active"


def test_each_try_in_vain_doubles_the_wait_up_to_a_quarter_of_an_hour(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, leads=100)
    waits = []
    for _ in range(7):
        page, handoffs = hand_over(runtime)
        settle_with(runtime, page, handoffs, *[ProviderDown("HTTP 503")] * len(handoffs))
        waits.append(one(runtime, BREAKER)["wait"])
        later(runtime, 1000)
    assert waits == [30, 60, 120, 240, 480, 900, 900]
    assert one(runtime, "SELECT kind, times FROM alert") == {"kind": "pool_down", "times": 4}


def test_of_the_pages_that_were_under_way_when_it_went_down_one_counts(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, leads=300)
    pages = [hand_over(runtime) for _ in range(3)]
    for page, handoffs in pages:
        settle_with(runtime, page, handoffs, *[ProviderDown("HTTP 503")] * len(handoffs))
    assert one(runtime, BREAKER) == {"state": "paused", "failures": 1, "wait": 30, "probed": False}


def test_an_old_page_that_comes_in_well_does_not_open_a_pool_that_was_told_to_wait(
    runtime: Runtime, peer: Peer
) -> None:
    launched(runtime, peer, leads=200)
    well, down = hand_over(runtime), hand_over(runtime)
    settle_with(runtime, *down, *[ProviderDown("HTTP 429", retry_in=600.0)] * 2)
    settle_with(runtime, *well, *[[Accepted("ref")] * 50] * 2)
    assert one(runtime, BREAKER) == {"state": "paused", "failures": 1, "wait": 600, "probed": False}


def test_the_longest_time_that_a_provider_named_is_kept(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, leads=200)
    soon, late = hand_over(runtime), hand_over(runtime)
    settle_with(runtime, *soon, *[ProviderDown("HTTP 503")] * 2)
    settle_with(runtime, *late, *[ProviderDown("HTTP 429", retry_in=600.0)] * 2)
    assert one(runtime, BREAKER)["wait"] == 600


def test_a_provider_that_names_hours_is_left_alone_for_hours(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, leads=50)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, ProviderDown("HTTP 429", retry_in=7200.0))
    assert one(runtime, BREAKER)["wait"] == 7200


def test_a_probe_whose_worker_died_is_followed_by_another(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0)
    launched(runtime, peer, leads=300)
    send_range.drain(runtime)
    later(runtime, 2000)
    assert send_range.claim(runtime) is not None
    lose_the_lease(runtime)
    assert send_range.claim(runtime) is None
    later(runtime, 61)
    again = send_range.claim(runtime)
    assert again is not None and again.probe


def test_a_probe_of_a_campaign_that_was_paused_meanwhile_leaves_the_try_to_others(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0)
    built = launched(runtime, peer, leads=100)
    send_range.drain(runtime)
    later(runtime, 2000)
    lease = send_range.claim(runtime)
    assert lease is not None
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    send_range.send(runtime, send_range.load(runtime, lease))
    assert one(runtime, BREAKER)["probed"] is False


def test_a_pool_that_is_down_stops_no_other(runtime: Runtime, peer: Peer) -> None:
    with running_sink(down=1.0) as dead:
        stuck = launched(runtime, dead, leads=100)
        well = launched(runtime, peer, leads=100)
        send_range.drain(runtime)
    assert sums(runtime, well.campaign_id) == {"sent": 100}
    assert sums(runtime, stuck.campaign_id) == {"open": 100}


def test_when_only_lost_calls_are_left_a_repeat_is_the_try(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10, more="?idempotent=3600")
    hand_over(runtime)
    lose_the_lease(runtime)
    with runtime.db.begin() as conn:
        pool.break_off(conn, built.pool_id, "HTTP 503", None, probe=False)
    assert repeat.repeat_due(runtime) == 0
    later(runtime, 40)
    assert repeat.repeat_due(runtime) == 1
    assert sums(runtime, built.campaign_id) == {"sent": 10}
    assert one(runtime, BREAKER)["state"] == "active"


def test_a_refused_account_stops_the_pool_until_a_person_acts_and_says_so(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=100)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, *[send_range.ProviderRefusesUs("HTTP 401: wrong key")] * 2)
    later(runtime, 100_000)
    assert send_range.claim(runtime) is None
    assert one(runtime, "SELECT kind, cleared_at FROM alert") == {"kind": "pool_refused", "cleared_at": None}
    pools.resume_pool(runtime, built.organisation_id, built.pool_id)
    assert one(runtime, "SELECT cleared_at IS NOT NULL AS cleared FROM alert") == {"cleared": True}
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 100}
