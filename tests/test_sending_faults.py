"""What a provider, a server or a bug may do to a page, and what is left of it: nothing silent, nothing in a loop."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import text

from app.config import Settings, read
from app.errors import ConfigError, ProviderDown, ProviderError, ProviderUnsure, Unavailable
from app.flows import answers, finish, launch, pools, rescue, send_range, settle, steer
from app.mail import Accepted, Deferred, Kind, Refused
from app.models import handoff, outbox, refs
from app.models.handoff import HandOff
from app.runtime import Runtime
from app.uptime import uptime
from tests import world
from tests.peers import Peer
from tests.sending_world import hand_over, launched, lose_the_lease, settle_with
from tests.test_sending import build, claim, events, make_due, progress, state

GONE = {"field": "attributes.gone", "operator": "=", "value": "x"}


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100))
    yield runtime
    runtime.close()


def read_all(result: object, attempts: int = 0, put_off_for: float = 0.0) -> answers.Tally:
    return answers.read([answers.Answer(HandOff(1, None, [1, 2]), result)], [], attempts, put_off_for)  # type: ignore[arg-type]


def test_answers_that_come_after_the_rescue_resolve_what_was_unknown(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    page, handoffs = hand_over(runtime)
    lose_the_lease(runtime)
    assert progress(runtime, built.campaign_id).unknown == 100
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 50, [Refused("550 no")] * 50)
    sums = progress(runtime, built.campaign_id)
    assert (sums.sent, sums.refused, sums.unknown) == (50, 50, 0)
    assert events(runtime, built.campaign_id) == {"sent": 50, "refused": 50, "unknown": 0}
    assert finish.try_finish(runtime, built.campaign_id) == "finished"


def test_a_late_answer_overwrites_nothing_that_is_known(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    page, handoffs = hand_over(runtime)
    lose_the_lease(runtime)
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 50, [Accepted("ref")] * 50)
    settle_with(runtime, page, handoffs, [Refused("late lie")] * 50, [Accepted("ref")] * 50)
    assert events(runtime, built.campaign_id) == {"sent": 100, "unknown": 0}
    assert progress(runtime, built.campaign_id).sent == 100


def test_what_a_late_answer_put_off_goes_later(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    page, handoffs = hand_over(runtime)
    lose_the_lease(runtime)
    assert finish.try_finish(runtime, built.campaign_id) == "settling"
    settle_with(runtime, page, handoffs, [Deferred("later")] * 50, [Accepted("ref")] * 50)
    sums = progress(runtime, built.campaign_id)
    assert (sums.sent, sums.unknown, sums.open) == (50, 0, 50)
    make_due(runtime)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id).sent == 100
    assert state(runtime, built.campaign_id) == "finished"


def test_a_hand_over_whose_reply_was_lost_is_found_out_and_sent(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer)
    page = claim(runtime)
    write, lost = send_range._write, []

    def write_and_lose_the_reply(*args: object) -> object:
        if lost:
            return write(*args)  # type: ignore[arg-type]
        lost.append(True)
        with runtime.db.begin() as conn:  # committed, and the reply to the commit never arrives
            write(runtime, conn, *args[2:])  # type: ignore[arg-type]
        raise Unavailable("the reply was lost")

    monkeypatch.setattr(send_range, "_write", write_and_lose_the_reply)
    send_range.send(runtime, page)
    assert progress(runtime, built.campaign_id).sent == 100
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (100, 0)


def test_a_process_that_slept_after_handing_over_does_not_speak(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    page, handoffs = hand_over(runtime)
    composer = send_range.composer_of(runtime, page.sending)
    letters, _ = send_range.compose_page(composer, page)
    long_ago = uptime() - runtime.settings.lease
    given = send_range._call(runtime, page, composer, handoffs, letters, long_ago)
    assert all(isinstance(each.result, ProviderDown) and each.result.passing for each in given)
    assert peer.sink.book.stats()["accepted"] == 0
    settle.settle_page(runtime, page.lease, page.sending, page.source, page.leads, given)
    assert progress(runtime, built.campaign_id).open == 100
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT state FROM pool")["state"] == "active"  # it is not the provider's fault


def test_a_lease_that_ran_out_hands_nothing_over_even_when_nobody_took_it(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    page = claim(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
    send_range.send(runtime, page)
    assert peer.sink.book.stats()["accepted"] == 0
    assert progress(runtime, built.campaign_id).open == 100


def test_a_provider_that_says_at_once_again_and_again_is_not_asked_in_a_loop(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0, retry_after=0)
    launched(runtime, peer, leads=300)
    assert send_range.drain(runtime, seconds=1) == 1
    with runtime.db.begin() as conn:
        wait = world.row(conn, "SELECT extract(epoch FROM resume_at - now()) AS wait FROM pool")["wait"]
    assert wait > 0.5


def test_a_wait_of_years_is_a_day() -> None:
    tally = read_all(ProviderDown("later", retry_in=999_999_999.0))
    assert [wait.seconds for wait in tally.later] == [86400.0]
    assert tally.pause == answers.Pause("later", 86400.0)


def test_our_own_crowding_does_not_stop_a_pool() -> None:
    assert read_all(ProviderDown("busy", retry_in=1.0, passing=True)).pause is None


def test_a_provider_that_loses_most_replies_is_left_alone_for_a_while(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    built = launched(runtime, peer, leads=500)
    assert send_range.drain(runtime) == 1
    sums = progress(runtime, built.campaign_id)
    assert (sums.unknown, sums.open) == (100, 400)


def test_a_wait_that_the_provider_names_counts_toward_the_day() -> None:
    given = answers.Answer(HandOff(1, None, [1]), [Deferred("later", 60.0)])  # type: ignore[arg-type]
    lead = outbox.PageLead(1, "a@b.c", 1, None, {}, None)
    tally = answers.read([given], [lead], 0, answers.GIVE_UP_AFTER)
    assert tally.kinds[Kind.FAILED] == 1 and not tally.later


def test_a_day_of_a_provider_being_down_fails_nobody(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0)
    built = launched(runtime, peer)
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM outbox WHERE deferred_since IS NOT NULL")).scalar() == 0
    peer.behave(down=0.0, defer=1.0)
    make_due(runtime)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id).failed == 0


@pytest.mark.parametrize(
    "result",
    [
        [Refused("550 no\x00body\nhere")] * 50,
        [Accepted("ref\x00\nwith breaks")] * 50,
        [Deferred("4\x005\x1b[31m")] * 50,
        ProviderUnsure("5\x0000", raw="\x00\x01"),
        ProviderDown("\x00", raw="\x00"),
    ],
    ids=["refused", "accepted", "deferred", "unsure", "down"],
)
def test_whatever_a_provider_answers_can_be_settled(runtime: Runtime, peer: Peer, result: object) -> None:
    built = launched(runtime, peer, leads=50)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, result)
    assert progress(runtime, built.campaign_id).adds_up
    with runtime.db.begin() as conn:
        kept = world.row(conn, "SELECT refs FROM handoff")["refs"]
    assert len(refs.unpack(kept)) == (50 if kept else 0)


def test_a_page_that_cannot_be_read_waits_alone_and_its_owner_is_told(runtime: Runtime, peer: Peer) -> None:
    sick, well = launched(runtime, peer), launched(runtime, peer)
    with runtime.db.begin() as conn:  # a number that JSON libraries refuse
        conn.execute(
            text(
                "UPDATE lead SET attributes = '{\"age\": 1e400}'"
                " WHERE id IN (SELECT min(id) FROM lead WHERE organisation_id = :o)"
            ),
            {"o": sick.organisation_id},
        )
    send_range.drain(runtime)
    assert state(runtime, well.campaign_id) == "finished"
    with runtime.db.begin() as conn:
        told = world.row(conn, "SELECT message FROM alert WHERE campaign_id = :id", id=sick.campaign_id)
        waits = world.row(
            conn,
            "SELECT state, crashes, due_at > now() AS later FROM outbox WHERE campaign_id = :id",
            id=sick.campaign_id,
        )
    assert state(runtime, sick.campaign_id) == "sending" and "could not be sent" in told["message"]
    assert waits == {"state": "ready", "crashes": 0, "later": True}


def test_a_pool_that_another_key_encrypted_kills_no_range(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET url = '\\x00'"))
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT state, crashes FROM outbox") == {"state": "ready", "crashes": 0}


def test_a_campaign_that_sent_for_days_still_waits_a_day_for_its_unknowns(runtime: Runtime, peer: Peer) -> None:
    peer.behave(unsure=1.0)
    built = launched(runtime, peer)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET updated_at = now() - interval '3 days'"))
    send_range.drain(runtime)
    assert state(runtime, built.campaign_id) == "settling"


def test_a_hundred_schedules_that_cannot_start_do_not_stop_the_next(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=5)
    with runtime.db.begin() as conn:
        conn.execute(
            text("INSERT INTO segment (organisation_id, name, condition) VALUES (:o, 'gone', CAST(:c AS jsonb))"),
            {"o": built.organisation_id, "c": json.dumps({"combinator": "and", "rules": [GONE]})},
        )
        conn.execute(
            text(
                "INSERT INTO campaign (organisation_id, owner_id, sender_id, segment_id, name, state, start_at)"
                " SELECT :o, :u, :s, segment.id, 'broken', 'scheduled', now() - interval '1 hour'"
                " FROM segment, generate_series(1, 101)"
            ),
            {"o": built.organisation_id, "u": built.user_id, "s": built.sender_id},
        )
        conn.execute(
            text("UPDATE campaign SET state = 'scheduled', start_at = now() WHERE id = :id"), {"id": built.campaign_id}
        )
    assert launch.start_due(runtime) + launch.start_due(runtime) == 1
    assert state(runtime, built.campaign_id) == "sending"
    with runtime.db.begin() as conn:
        broken = world.row(conn, "SELECT DISTINCT state FROM campaign WHERE name = 'broken'")
    assert broken["state"] == "draft"


def test_resuming_lets_quarantined_ranges_go_on(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    for _ in range(rescue.MOST_CRASHES):
        claim(runtime)
        lose_the_lease(runtime)
        make_due(runtime)
    assert send_range.drain(runtime) == 0
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    steer.resume(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id).sent == 100


def test_a_range_that_is_quarantined_after_its_campaign_was_cancelled_is_closed_too(
    runtime: Runtime, peer: Peer
) -> None:
    built = launched(runtime, peer)
    for _ in range(rescue.MOST_CRASHES - 1):
        claim(runtime)
        lose_the_lease(runtime)
        make_due(runtime)
    claim(runtime)
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    lose_the_lease(runtime)
    assert steer.close_cancelled(runtime) == 100
    assert progress(runtime, built.campaign_id).cancelled == 100
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT finished_at FROM campaign")["finished_at"] is not None


def test_resuming_a_pool_makes_what_waits_for_it_due(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0, retry_after=3000)
    built = launched(runtime, peer)
    send_range.drain(runtime)
    peer.behave(down=0.0)
    pools.resume_pool(runtime, built.organisation_id, built.pool_id)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id).sent == 100


def test_a_process_whose_threads_take_nothing_more_has_sent_nothing(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    runtime.calls.shutdown()
    send_range.drain(runtime)
    assert peer.sink.book.stats()["calls"] == 0
    assert progress(runtime, built.campaign_id).open == 100
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT state, position FROM outbox") == {"state": "ready", "position": 0}


def test_a_database_that_is_away_for_moments_counts_as_nobodys_death(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer)
    really = send_range.load
    for _ in range(rescue.MOST_CRASHES + 1):
        monkeypatch.setattr(send_range, "load", lambda *_: (_ for _ in ()).throw(Unavailable("away")))
        with pytest.raises(Unavailable):
            send_range.drain(runtime)
    monkeypatch.setattr(send_range, "load", really)
    assert send_range.drain(runtime) == 1
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT state, crashes FROM outbox") == {"state": "done", "crashes": 0}
    assert progress(runtime, built.campaign_id).sent == 100


def test_a_hand_over_that_is_still_being_committed_is_waited_for(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = launched(runtime, peer, leads=50)
    page = claim(runtime)
    letters, skipped = send_range.compose_page(send_range.composer_of(runtime, page.sending), page)
    begin, cut = runtime.db.begin, []

    def cut_the_line_once() -> object:
        if not cut:
            cut.append(True)
            raise Unavailable("the line was cut, and the server works on")
        return begin()

    conn = runtime.db.engine.connect()
    first = conn.begin()
    send_range._write(runtime, conn, page, letters, skipped)
    committing = threading.Timer(0.5, first.commit)
    committing.start()
    monkeypatch.setattr(runtime.db, "begin", cut_the_line_once)
    handoffs = send_range.hand_over(runtime, page, letters, skipped)
    committing.join()
    conn.close()
    assert handoffs is not None and len(handoffs) == 1
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 50)
    assert progress(runtime, built.campaign_id).sent == 50


def test_the_owner_is_not_shown_what_a_database_was_asked(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    with runtime.db.begin() as conn:
        conn.execute(text("ALTER TABLE handoff ADD CHECK (campaign_id < 0) NOT VALID"))
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        told = world.row(conn, "SELECT message FROM alert WHERE campaign_id = :id", id=built.campaign_id)
    assert told["message"] == "Some of it could not be sent yet: IntegrityError"


def test_a_deadlock_while_settling_is_outlived(runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    built = launched(runtime, peer)
    page, handoffs = hand_over(runtime)
    really, failed = handoff.settle, []

    def once(*args: object, **named: object) -> None:
        if not failed:
            failed.append(True)
            raise psycopg.errors.DeadlockDetected
        really(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(handoff, "settle", once)
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 50, [Accepted("ref")] * 50)
    assert progress(runtime, built.campaign_id).sent == 100


def test_a_deadline_that_outlives_the_lease_is_refused_at_start() -> None:
    variables = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://x", "SECRET_KEY": "x" * 32}
    with pytest.raises(ConfigError, match="MILLRACE_CALL_DEADLINE"):
        read(variables | {"MILLRACE_LEASE": "30", "MILLRACE_CALL_DEADLINE": "30"})


def test_a_provider_error_of_an_unknown_kind_is_raised_not_guessed() -> None:
    with pytest.raises(ProviderError):
        read_all(ProviderError("new kind"))
