"""Calls that were lost, made again: whole, the same bytes, under their first key, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from app.errors import ProviderUnsure, Unavailable
from app.flows import finish, pools, repeat, rescue, send_range, steer, unknowns
from app.flows.frozen import MARGIN, freeze, thaw
from app.mail import Accepted, Deferred, Letter, Unsure
from app.models import handoff, pool
from app.models.campaign import Sending
from app.providers.http import Http
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
    webhooks_arrive,
)
from tests.test_sending import events, state

pytestmark = pytest.mark.settings(range_size=100)

KEYS = "?idempotent=3600"


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
    later(runtime, 3600 - MARGIN - 30)
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


def test_a_call_that_was_halved_is_not_made_again_as_a_whole(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)
    halves_pass(monkeypatch, peer, lost=3)
    send_range.drain(runtime)
    assert letters_of(runtime) == ["s" * 25 + "u" * 25]
    later(runtime, 60)
    assert repeat.repeat_due(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"sent": 25, "unknown": 25}
    assert peer.sink.book.stats()["duplicates"] == 0


def test_a_repeat_that_was_halved_is_not_made_again_as_a_whole(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    halves_pass(monkeypatch, peer, lost=3)
    assert repeat.repeat_due(runtime) == 1
    assert letters_of(runtime) == ["s" * 25 + "u" * 25]
    later(runtime, 60)
    assert repeat.repeat_due(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"sent": 25, "unknown": 25}
    assert peer.sink.book.stats()["duplicates"] == 0


@pytest.mark.parametrize("first", [True, False], ids=["first", "repeat"])
def test_a_worker_that_dies_between_two_halves_leaves_nothing_to_be_made_again(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)
    if not first:
        hand_over(runtime)
        lose_the_lease(runtime)
    halves_pass(monkeypatch, peer, lost=3, how=Killed)
    with pytest.raises(Killed):
        send_range.drain(runtime) if first else repeat.repeat_due(runtime)
    if first:
        lose_the_lease(runtime)
    later(runtime, 120)
    calls = peer.sink.book.stats()["calls"]
    assert repeat.repeat_due(runtime) == (0 if first else 1)  # whoever made it again held it: it is given up now
    assert repeat.repeat_due(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 50}
    stats = peer.sink.book.stats()
    assert (stats["duplicates"], stats["calls"]) == (0, calls)
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id) == 50


def test_nobody_decides_on_a_call_while_its_parts_are_on_their_way(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    decided = []

    def press() -> None:
        decided.append(unknowns.send_again(runtime, built.organisation_id, built.campaign_id))

    halves_pass(monkeypatch, peer, lost=0, after_a_half=press)
    repeat.repeat_due(runtime)
    assert decided == [0]
    assert sums(runtime, built.campaign_id) == {"sent": 50}
    assert peer.sink.book.stats()["duplicates"] == 0


def test_what_came_of_a_halved_repeat_is_kept_though_the_database_was_away_at_that_moment(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    resolve_with, times = repeat.resolve_with, []

    def fail_once(*args: Any) -> int:
        times.append(args)
        if len(times) == 1:
            raise Unavailable("The database cannot be reached.")
        return resolve_with(*args)

    monkeypatch.setattr(repeat, "resolve_with", fail_once)
    halves_pass(monkeypatch, peer, lost=0)
    assert repeat.repeat_due(runtime) == 1
    assert sums(runtime, built.campaign_id) == {"sent": 50}


def test_a_repeat_of_which_every_part_is_refused_leaves_nothing_unknown(runtime: Runtime, peer: Peer) -> None:
    """Our account or our content is at fault, as at a first call: nobody was mailed, and the pool waits."""
    built = launched(runtime, peer, leads=50, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    peer.behave(strict=True, refuse=1.0)
    assert repeat.repeat_due(runtime) == 1
    assert sums(runtime, built.campaign_id) == {"open": 50}
    assert query(runtime, "SELECT state, resume_at FROM pool") == [("paused", None)]
    peer.behave(strict=False, refuse=0.0)
    pools.resume_pool(runtime, built.organisation_id, built.pool_id)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 50}
    assert peer.sink.book.stats()["duplicates"] == 0


def test_silence_is_waited_for_anew_after_each_repeat(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeat may have been taken just now, however long ago the first call was."""
    built = launched(runtime, peer, leads=50, more=KEYS)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET unknown_policy = 'resend'"))
    hand_over(runtime)
    lose_the_lease(runtime)
    later(runtime, 1000)
    webhooks_arrive(runtime, built)
    halves_pass(monkeypatch, peer, lost=3)
    repeat.repeat_due(runtime)
    assert unknowns.apply_policies(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"sent": 25, "unknown": 25}
    later(runtime, 1000)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool_webhook SET handed_at = now()"))
    assert unknowns.apply_policies(runtime) == 25


def test_who_lost_a_call_meanwhile_sends_no_half_of_it(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its range was rescued while the refusal was under way: the same call is made again, and taken."""
    built = launched(runtime, peer, leads=50, more=KEYS)

    def rescued() -> None:
        lose_the_lease(runtime)
        assert repeat.repeat_due(runtime) == 1

    halves_pass(monkeypatch, peer, lost=0, before_halving=rescued)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 50}
    stats = peer.sink.book.stats()
    assert (stats["accepted"], stats["duplicates"]) == (50, 0)


def test_while_the_database_is_away_no_half_leaves(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)

    def away(*_: object) -> bool:
        raise Unavailable("The database cannot be reached.")

    monkeypatch.setattr(handoff, "halve", away)
    halves_pass(monkeypatch, peer, lost=0)
    send_range.drain(runtime, 1.0)
    assert sums(runtime, built.campaign_id) == {"open": 50}
    assert peer.sink.book.stats()["accepted"] == 0


def test_a_call_that_cannot_be_put_together_stops_no_other(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer, leads=100, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    first = handoff_ids(runtime)[0]
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE handoff SET frozen = 'rubbish' WHERE id = :id"), {"id": first})
    assert repeat.repeat_due(runtime) == 2
    assert sums(runtime, built.campaign_id) == {"sent": 50, "unknown": 50}
    later(runtime, 310)
    assert repeat.repeat_due(runtime) == 1  # it is tried again while its key lives
    later(runtime, 3600)
    assert repeat.repeat_due(runtime) == 1
    assert query(
        runtime,
        "SELECT frozen IS NULL, answer LIKE '%no longer honoured%' FROM handoff WHERE frozen IS NULL"
        " AND outcomes ~ 'u'",
    ) == [(True, True)]


def test_a_repeat_of_before_does_not_close_a_breaker_that_opened_meanwhile(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    post = Http.post

    def another_finds_it_down(self: Http, *args: Any) -> Any:
        answer = post(self, *args)
        with runtime.db.begin() as conn:
            pool.break_off(conn, built.pool_id, "it is down", 0.0, probe=False)
        return answer

    monkeypatch.setattr(Http, "post", another_finds_it_down)
    repeat.repeat_due(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 50}
    assert query(runtime, "SELECT state FROM pool") == [("paused",)]


class Killed(BaseException):
    """As kill -9: nothing of the process's goes on."""


def halves_pass(
    monkeypatch: pytest.MonkeyPatch,
    peer: Peer,
    lost: int,
    how: type[BaseException] = ProviderUnsure,
    before_halving: Callable[[], None] | None = None,
    after_a_half: Callable[[], None] | None = None,
) -> None:
    """The first call is refused for a reason that passes, all others are taken; the reply to number `lost` is lost."""
    post, calls = Http.post, []

    def pass_the_second_time(self: Http, *args: Any) -> Any:
        calls.append(args)
        number = len(calls)
        peer.behave(strict=True, refuse=1.0 if number == 1 else 0.0)
        answer = post(self, *args)
        if number == 1 and before_halving is not None:
            before_halving()
        if number == 2 and after_a_half is not None:
            after_a_half()
        if number == lost:
            raise how("the reply was lost")
        return answer

    monkeypatch.setattr(Http, "post", pass_the_second_time)


def handoff_ids(runtime: Runtime) -> list[int]:
    return [int(str(row[0])) for row in query(runtime, "SELECT id FROM handoff ORDER BY id")]


def test_a_repeat_that_slept_puts_nobody_off_whom_a_later_repeat_may_have_mailed(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, leads=50, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    with runtime.db.begin() as conn:
        asleep = handoff.claim_repeat(conn, 60)
    assert asleep is not None
    later(runtime, 70)
    peer.behave(unsure=1.0)
    assert repeat.repeat_due(runtime) == 1  # taken, and its reply lost
    peer.behave(unsure=0.0)
    with runtime.db.begin() as conn:
        assert repeat.resolve_with(conn, asleep, [Deferred("later")] * 50) == 0
    later(runtime, 120)
    send_range.drain(runtime)
    repeat.repeat_due(runtime)
    assert peer.sink.book.stats()["duplicates"] == 0
    assert letters_of(runtime) == ["s" * 50]


def test_a_call_that_nobody_could_repeat_is_given_up_with_its_key_and_can_be_decided_on(
    runtime: Runtime, peer: Peer
) -> None:
    built = launched(runtime, peer, leads=200, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        pool.pause(conn, built.pool_id, "the key was refused")
    assert repeat.repeat_due(runtime) == 0
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id) == 0
    later(runtime, 3600)
    repeat.repeat_due(runtime)
    assert peer.sink.book.stats()["calls"] == 0
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id) == 100


def test_a_finished_campaigns_lost_calls_are_still_cleared_up(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50, more="?idempotent=604800")
    hand_over(runtime)
    lose_the_lease(runtime)
    with runtime.db.begin() as conn:
        pool.pause(conn, built.pool_id, "the key was refused")
    finish.try_finish(runtime, built.campaign_id)
    later(runtime, 86_500)
    finish.finish_due(runtime)
    assert state(runtime, built.campaign_id) == "finished"
    pools.resume_pool(runtime, built.organisation_id, built.pool_id)
    repeat.repeat_due(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 50}


def test_long_after_a_cancel_nobody_is_mailed_by_a_repeat(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50, more=KEYS)
    hand_over(runtime)
    lose_the_lease(runtime)
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    later(runtime, repeat.CANCELLED_FOR + 10)
    repeat.repeat_due(runtime)
    assert peer.sink.book.stats()["calls"] == 0
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id) == 50


def test_a_pool_that_swallows_repeats_is_left_alone(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, leads=1000, more=KEYS)
    for _ in range(10):
        hand_over(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
    rescue.rescue_expired(runtime)
    peer.behave(unsure=1.0, unsure_how="error")
    assert repeat.repeat_due(runtime) <= repeat.AT_ONCE
    assert query(runtime, "SELECT state, failures FROM pool") == [("paused", 1)]
    later(runtime, 40)
    assert repeat.repeat_due(runtime) == 1  # one alone tries whether it is back
    assert query(runtime, "SELECT state, failures FROM pool") == [("paused", 2)]


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
