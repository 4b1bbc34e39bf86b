"""Calls that were lost, made again: whole, the same bytes, under their first key, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from app.config import Settings
from app.flows import pools, repeat, send_range, steer
from app.flows.frozen import freeze, thaw
from app.mail import Accepted, Deferred, Letter, Unsure
from app.models.campaign import Sending
from app.runtime import Runtime
from tests.peers import Peer, running_sink
from tests.sending_world import (
    hand_over,
    later,
    launched,
    letters_of,
    lose_the_lease,
    one,
    query,
    settle_with,
    sums,
)
from tests.test_sending import events, state

KEYS = "?idempotent=3600"


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100))
    yield runtime
    runtime.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_sink(idempotent=True) as peer:
        yield peer


def test_a_lost_reply_is_asked_for_again_and_nobody_is_mailed_twice(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    built = launched(runtime, peer, more=KEYS)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"unknown": 100}
    assert state(runtime, built.campaign_id) == "settling"
    peer.behave(unsure=0.0)
    later(runtime, 60)
    assert repeat.repeat_due(runtime) == 2
    assert sums(runtime, built.campaign_id) == {"sent": 100}
    assert events(runtime, built.campaign_id) == {"sent": 100, "unknown": 0}
    assert state(runtime, built.campaign_id) == "finished"
    stats = peer.sink.book.stats()
    assert (stats["accepted"], stats["duplicates"], stats["calls_repeated"]) == (100, 0, 2)


def test_a_worker_that_died_amid_a_call_leaves_one_that_is_made_again_at_once(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, more=KEYS)
    hand_over(runtime)  # and dies: the provider was never asked
    lose_the_lease(runtime)
    assert repeat.repeat_due(runtime) == 2
    assert sums(runtime, built.campaign_id) == {"sent": 100}
    assert peer.sink.book.stats()["accepted"] == 100


def test_the_repeat_has_the_same_key_leads_and_bytes_though_the_leads_changed(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10, more=KEYS)
    peer.behave(unsure=1.0)
    send_range.drain(runtime)
    with runtime.db.begin() as conn:  # meanwhile: another name, another address, one erased, one suppressed
        conn.execute(text("UPDATE lead SET attributes = '{\"first_name\": \"Other\"}', email = 'x' || email"))
        conn.execute(text("DELETE FROM lead WHERE id = (SELECT min(id) FROM lead)"))
        conn.execute(text("UPDATE sender SET name = 'Somebody else'"))
    peer.behave(unsure=0.0)
    later(runtime, 60)
    repeat.repeat_due(runtime)
    stats = peer.sink.book.stats()
    assert (stats["calls_repeated"], stats["calls_conflicting"]) == (1, 0)  # the sink compares bytes under a key
    assert sums(runtime, built.campaign_id) == {"sent": 10}


def test_a_call_whose_key_is_too_old_is_not_made_again(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    built = launched(runtime, peer, more=KEYS)
    send_range.drain(runtime)
    peer.behave(unsure=0.0)
    later(runtime, 3600 - repeat.MARGIN - 30)
    calls = peer.sink.book.stats()["calls"]
    assert repeat.repeat_due(runtime) == 2
    assert peer.sink.book.stats()["calls"] == calls
    assert sums(runtime, built.campaign_id) == {"unknown": 100}
    assert repeat.repeat_due(runtime) == 0
    assert query(runtime, "SELECT DISTINCT frozen IS NULL, answer LIKE '%no longer honoured%' FROM handoff") == [
        (True, True)
    ]


def test_a_call_is_not_made_again_at_another_account(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    built = launched(runtime, peer, more=KEYS)
    send_range.drain(runtime)
    with running_sink(idempotent=True) as other:
        pools.ensure_pool(runtime, built.organisation_id, "Pool", other.url + KEYS)
        later(runtime, 60)
        repeat.repeat_due(runtime)
        assert other.sink.book.stats()["calls"] == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 100}


def test_a_provider_without_keys_is_never_asked_again(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    built = launched(runtime, peer)
    send_range.drain(runtime)
    later(runtime, 60)
    assert repeat.repeat_due(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 100}
    assert query(runtime, "SELECT DISTINCT frozen FROM handoff") == [(None,)]


def test_what_was_answered_is_not_kept_frozen(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, more=KEYS)
    _, handoffs = hand_over(runtime)
    frozen = query(runtime, "SELECT length(frozen) FROM handoff")
    assert len(frozen) == len(handoffs) and all(0 < int(str(size)) < 20_000 for (size,) in frozen)
    lose_the_lease(runtime)
    repeat.repeat_due(runtime)
    assert query(runtime, "SELECT DISTINCT frozen FROM handoff") == [(None,)]


def test_while_the_provider_stays_unsure_the_call_is_repeated_ever_more_seldom(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0, unsure_how="error")
    launched(runtime, peer, leads=10, more=KEYS)
    send_range.drain(runtime)
    waits = []
    for _ in range(4):
        later(runtime, 400)
        assert repeat.repeat_due(runtime) == 1
        row = one(runtime, "SELECT round(extract(epoch FROM repeat_at - now())) AS wait FROM handoff")
        waits.append(int(str(row["wait"])))
    assert waits == [5, 15, 60, 300]


def test_two_workers_never_repeat_the_same_call(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    with runtime.db.begin() as conn:
        taken = [repeat.handoff.claim_repeat(conn, 60), repeat.handoff.claim_repeat(conn, 60)]
    assert len({each.id for each in taken if each}) == 2
    assert repeat.repeat_due(runtime) == 0


def test_a_paused_campaign_repeats_nothing_before_it_is_resumed(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=200, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    assert repeat.repeat_due(runtime) == 0
    steer.resume(runtime, built.organisation_id, built.campaign_id)
    assert repeat.repeat_due(runtime) == 2


def test_calls_that_were_under_way_at_the_cancel_are_finished_and_known(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    steer.close_cancelled(runtime)
    peer.behave(defer=0.2)
    assert repeat.repeat_due(runtime) == 2
    deferred = sums(runtime, built.campaign_id)["open"]
    steer.close_cancelled(runtime)  # what the provider put off is not sent any more
    assert sums(runtime, built.campaign_id) == {"sent": 100 - deferred, "cancelled": 200 + deferred}
    assert state(runtime, built.campaign_id) == "cancelled"
    assert peer.sink.book.stats()["duplicates"] == 0


def test_a_late_answer_that_put_leads_off_does_not_double_what_the_repeat_sends(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)
    page, handoffs = hand_over(runtime)
    lose_the_lease(runtime)
    settle_with(runtime, page, handoffs, [Deferred("later")] * 50)  # the same call will be made again: it decides
    assert sums(runtime, built.campaign_id) == {"unknown": 50}
    repeat.repeat_due(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 50}
    assert peer.sink.book.stats()["duplicates"] == 0


def test_a_call_of_which_some_leads_wait_in_a_later_range_is_not_made_again(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=3, more=KEYS)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, [Accepted("a"), Deferred("later"), Unsure("its answer was lost")])
    assert letters_of(runtime) == ["sdu"]
    later(runtime, 30)
    assert repeat.repeat_due(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"sent": 1, "unknown": 1, "open": 1}


def test_what_the_repeat_put_off_goes_later(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=20, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    peer.behave(defer=1.0)
    repeat.repeat_due(runtime)
    assert sums(runtime, built.campaign_id) == {"open": 20}
    assert state(runtime, built.campaign_id) == "sending"
    peer.behave(defer=0.0)
    later(runtime, 70)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 20}
    assert peer.sink.book.stats()["duplicates"] == 0


def test_frozen_calls_keep_their_letters_exactly() -> None:
    sending = Sending(1, 1, 1, "n", 3, 0, "Ä", "a@b.c", None, 1, b"url", 50)
    letters = [Letter(n, f"l{n}@x.de", [f"ü{n}", ""], f"https://x/{n}") for n in range(5)]
    pieces = [thaw(piece) for piece in freeze(sending, letters, 2)]
    assert [letter for piece in pieces for letter in piece.letters] == letters
    assert [(piece.version, piece.from_name) for piece in pieces] == [(3, "Ä")] * 3
