"""A sender's second pool: what the first cannot take goes through it, every lead once, until the first is back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from app.config import Settings
from app.errors import ProviderDown, ProviderRefusesUs
from app.flows import due, look_up, pools, repeat, send_range
from app.mail import Accepted
from app.models import pool
from app.runtime import Runtime
from app.signing import Vault
from cli.sink_book import PAGE, Leads
from tests import world
from tests.peers import Peer, running_sink
from tests.sending_world import hand_over, later, launched, letters_of, lose_the_lease, query, settle_with, sums
from tests.world import World

BY_POOL = "SELECT pool_id, sum(cardinality(lead_ids))::int FROM handoff WHERE outcomes ~ 's' GROUP BY 1 ORDER BY 1"
STATES = "SELECT state FROM pool ORDER BY id"


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100))
    yield runtime
    runtime.close()


@pytest.fixture
def first() -> Iterator[Peer]:
    with running_sink(idempotent=True) as peer:
        yield peer


@pytest.fixture
def second() -> Iterator[Peer]:
    with running_sink(seed=2) as peer:
        yield peer


def add_second(runtime: Runtime, built: World, peer: Peer) -> int:
    """Give the world's sender a second pool; its id."""
    with runtime.db.begin() as conn:
        pool_id = world.insert(
            conn,
            "pool",
            organisation_id=built.organisation_id,
            name="Second",
            provider="sink",
            url=Vault(runtime.settings.secret_key).encrypt(peer.url),
            shown_url=peer.url,
        )
        conn.execute(text("UPDATE sender SET second_pool_id = :id"), {"id": pool_id})
    return pool_id


def taken(*peers: Peer) -> list[int]:
    return [peer.sink.book.stats()["accepted"] for peer in peers]


def doubled(*peers: Peer) -> int:
    """How many emails went to somebody who had got one already, from the same peer or from another."""
    seen = Leads()
    again = sum(peer.sink.book.stats()["duplicates"] for peer in peers)
    for peer in peers:
        for run in peer.sink.book.runs.values():
            for number, page in run.leads.pages.items():
                bits = range(len(page) * 8)
                again += seen.add([(number << PAGE) + at for at in bits if page[at >> 3] >> (at & 7) & 1])
    return again


def test_while_the_first_pool_sends_nothing_goes_through_the_second(
    runtime: Runtime, first: Peer, second: Peer
) -> None:
    built = launched(runtime, first, leads=300)
    add_second(runtime, built, second)
    send_range.drain(runtime)
    assert taken(first, second) == [300, 0]


def test_a_provider_that_dies_amid_a_campaign_loses_and_doubles_nobody(
    runtime: Runtime, first: Peer, second: Peer
) -> None:
    built = launched(runtime, first, leads=1000)
    other = add_second(runtime, built, second)
    for _ in range(3):
        lease = send_range.claim(runtime)
        assert lease is not None
        send_range.send(runtime, send_range.load(runtime, lease))
    first.behave(down=1.0)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 1000}
    assert taken(first, second) == [300, 700]
    assert doubled(first, second) == 0
    assert query(runtime, BY_POOL) == [(built.pool_id, 300), (other, 700)]
    by_pool = "SELECT pool_id, count(*)::int FROM event WHERE kind = 'sent' GROUP BY 1 ORDER BY 1"
    assert query(runtime, by_pool) == [(built.pool_id, 300), (other, 700)]
    assert query(runtime, "SELECT DISTINCT attempts FROM outbox") == [(0,)]


def test_what_half_of_a_page_could_not_be_handed_goes_through_the_second_pool_at_once(
    runtime: Runtime, first: Peer, second: Peer
) -> None:
    built = launched(runtime, first, leads=100)
    add_second(runtime, built, second)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 50, ProviderDown("HTTP 429", retry_in=7200.0))
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 100}
    assert taken(second) == [50]


def test_one_batch_tries_the_first_pool_and_all_else_goes_through_the_second_meanwhile(
    runtime: Runtime, first: Peer, second: Peer
) -> None:
    built = launched(runtime, first, leads=400)
    other = add_second(runtime, built, second)
    with runtime.db.begin() as conn:
        pool.break_off(conn, built.pool_id, "HTTP 503", None, probe=False)
    later(runtime, 40)
    leases = [send_range.claim(runtime) for _ in range(3)]
    assert [(each.pool_id, each.probe, len(each.lead_ids)) for each in leases if each] == [
        (built.pool_id, True, 50),
        (other, False, 100),
        (other, False, 100),
    ]
    tried = leases[0]
    assert tried is not None
    send_range.send(runtime, send_range.load(runtime, tried))
    back = send_range.claim(runtime)  # the first one is back
    assert back is not None and (back.pool_id, back.probe) == (built.pool_id, False)


@pytest.mark.parametrize("how", ["refused", "by_hand"])
def test_a_pool_that_is_refused_or_that_a_person_paused_counts_as_broken(
    runtime: Runtime, first: Peer, second: Peer, how: str
) -> None:
    built = launched(runtime, first, leads=200)
    add_second(runtime, built, second)
    if how == "refused":
        page, handoffs = hand_over(runtime)
        settle_with(runtime, page, handoffs, *[ProviderRefusesUs("HTTP 401")] * 2)
    else:
        with runtime.db.begin() as conn:
            pool.pause(conn, built.pool_id, "Paused by hand.")
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 200}
    assert taken(first, second) == [0, 200]


def test_where_both_are_broken_everything_waits_and_costs_no_attempt(
    runtime: Runtime, first: Peer, second: Peer
) -> None:
    first.behave(down=1.0)
    second.behave(down=1.0)
    built = launched(runtime, first, leads=1000)
    add_second(runtime, built, second)
    for _ in range(5):
        send_range.drain(runtime)
        assert due.ring_due(runtime) is False
        later(runtime, 2000)
    assert query(runtime, STATES) == [("paused",), ("paused",)]
    assert query(runtime, "SELECT count(*)::int, max(attempts) FROM outbox") == [(10, 0)]
    first.behave(down=0.0)
    later(runtime, 2000)
    assert due.ring_due(runtime) is True
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 1000}
    assert taken(first, second) == [1000, 0]


def test_when_a_person_lets_the_second_pool_send_what_waited_goes_at_once(
    runtime: Runtime, first: Peer, second: Peer
) -> None:
    built = launched(runtime, first, leads=100)
    other = add_second(runtime, built, second)
    with runtime.db.begin() as conn:
        pool.pause(conn, built.pool_id, "refused")
        pool.pause(conn, other, "refused")
        conn.execute(text("UPDATE outbox SET due_at = now() + interval '1 hour'"))
    pools.resume_pool(runtime, built.organisation_id, other)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 100}


def test_a_lost_call_is_made_again_and_asked_about_at_the_pool_that_it_went_through(
    runtime: Runtime, first: Peer, second: Peer
) -> None:
    built = launched(runtime, first, leads=10, more="?idempotent=3600")
    other = add_second(runtime, built, second)
    hand_over(runtime)
    lose_the_lease(runtime)
    with runtime.db.begin() as conn:  # the sender has moved on to its second pool since
        conn.execute(text("UPDATE sender SET pool_id = :other, second_pool_id = NULL"), {"other": other})
    later(runtime, 40)
    assert repeat.repeat_due(runtime) == 1
    assert letters_of(runtime) == ["s" * 10]
    assert taken(first, second) == [10, 0]


def test_an_unknown_call_of_the_first_pool_is_looked_up_there_though_the_second_sends(
    runtime: Runtime, first: Peer, second: Peer
) -> None:
    first.behave(unsure=1.0)
    built = launched(runtime, first, leads=100, more="?lookup=1")
    add_second(runtime, built, second)
    send_range.drain(runtime)
    assert query(runtime, STATES)[0] == ("paused",)
    later(runtime, 100)
    look_up.look_up_due(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 100}
    assert taken(first, second) == [100, 0]
