"""Sending end to end against a real sink: every lead gets exactly one outcome, and all counts agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.config import Settings
from app.errors import Conflict, Invalid
from app.flows import finish, launch, rescue, send_range, settle, steer
from app.flows.answers import Answer
from app.flows.send_range import Page
from app.mail import Accepted
from app.models import event, ledger, outbox
from app.models.outbox import Progress
from app.runtime import Runtime
from tests import world
from tests.peers import Peer, running_sink
from tests.world import World

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100, look_every=0.1))
    yield runtime
    runtime.close()


def build(runtime: Runtime, peer: Peer, leads: int = 250) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=leads, provider_url=peer.url)


def state(runtime: Runtime, campaign_id: int) -> str:
    with runtime.db.begin() as conn:
        return str(world.row(conn, "SELECT state FROM campaign WHERE id = :id", id=campaign_id)["state"])


def progress(runtime: Runtime, campaign_id: int) -> Progress:
    with runtime.db.begin() as conn:
        return outbox.progress(conn, campaign_id)


def events(runtime: Runtime, campaign_id: int) -> dict[str, int]:
    with runtime.db.begin() as conn:
        return dict(ledger.sum_all(conn, campaign_id, LONG_AGO).record)


def claim(runtime: Runtime) -> Page:
    lease = send_range.claim(runtime)
    assert lease is not None
    return send_range.load(runtime, lease)


def make_due(runtime: Runtime) -> None:
    """What waits for later is due now."""
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET due_at = now() WHERE state = 'ready'"))
        conn.execute(text("UPDATE pool SET resume_at = now() WHERE resume_at IS NOT NULL"))


def test_every_lead_gets_the_mail_once_and_the_campaign_is_finished(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    assert send_range.drain(runtime) == 3
    assert state(runtime, built.campaign_id) == "finished"
    assert progress(runtime, built.campaign_id) == Progress(250, 250, 0, 0, 0, 0, 0, 0)
    assert events(runtime, built.campaign_id) == {"sent": 250}
    stats = peer.sink.book.stats()
    assert (stats["accepted"], stats["duplicates"]) == (250, 0)
    assert stats["calls"] == 5  # two for every hundred, one for the fifty


def test_each_lead_is_addressed_by_what_is_known_of_it(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    letters = {letter["to"]: letter for letter in peer.sink.book.messages(10)}
    assert letters["lead1@mail1.example.com"]["subject"] == "News for Name1"
    assert "Hello Name1, free." in letters["lead1@mail1.example.com"]["html"]
    assert "Hello friend, free." in letters["lead3@mail3.example.com"]["html"]


def test_refused_leads_are_counted_as_refused_with_the_providers_reason(runtime: Runtime, peer: Peer) -> None:
    peer.behave(refuse=0.2)
    built = build(runtime, peer)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    sums = progress(runtime, built.campaign_id)
    assert sums.refused == peer.sink.book.stats()["refused"] > 0
    assert sums.sent + sums.refused == 250
    assert events(runtime, built.campaign_id) == {"sent": sums.sent, "refused": sums.refused}
    with runtime.db.begin() as conn:
        details = conn.execute(text("SELECT DISTINCT detail->>'reason' FROM event WHERE kind = 'refused'")).scalars()
        assert list(details) == ["550 5.1.1 No such mailbox"]


def test_leads_that_were_put_off_go_later_and_only_they(runtime: Runtime, peer: Peer) -> None:
    peer.behave(defer=0.3)
    built = build(runtime, peer)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    first = progress(runtime, built.campaign_id)
    assert first.adds_up and first.open == 250 - first.sent > 0
    with runtime.db.begin() as conn:
        waits = conn.execute(
            text(
                "SELECT DISTINCT round(extract(epoch FROM due_at - now()) / 60), attempts"
                " FROM outbox WHERE state = 'ready'"
            )
        ).all()
    assert waits == [(1, 1)]  # a minute, after one attempt
    peer.behave(defer=0.0)
    make_due(runtime)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id) == Progress(250, 250, 0, 0, 0, 0, 0, 0)
    assert state(runtime, built.campaign_id) == "finished"
    assert peer.sink.book.stats()["duplicates"] == 0


def test_what_is_put_off_for_a_day_has_failed(runtime: Runtime, peer: Peer) -> None:
    peer.behave(defer=1.0)
    built = build(runtime, peer, leads=20)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET deferred_since = now() - interval '86370 seconds' WHERE state = 'ready'"))
    make_due(runtime)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id).failed == 20
    assert events(runtime, built.campaign_id) == {"failed": 20}
    assert state(runtime, built.campaign_id) == "finished"


def test_a_provider_that_is_down_costs_no_attempt_and_is_left_alone_for_a_while(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0, retry_after=40)
    built = build(runtime, peer)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    assert send_range.drain(runtime) == 1  # then the pool rests, and the other ranges are not touched
    with runtime.db.begin() as conn:
        pool = world.row(conn, "SELECT state, round(extract(epoch FROM resume_at - now())) AS wait FROM pool")
        attempts = conn.execute(text("SELECT DISTINCT attempts FROM outbox")).scalars().all()
    assert pool["state"] == "paused" and 38 <= pool["wait"] <= 40
    assert attempts == [0]
    peer.behave(down=0.0)
    make_due(runtime)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id) == Progress(250, 250, 0, 0, 0, 0, 0, 0)
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT state FROM pool")["state"] == "active"


def test_a_lost_reply_makes_its_call_unknown_and_nothing_is_sent_again(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=100)
    peer.behave(unsure=1.0)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    peer.behave(unsure=0.0)
    rescue.rescue_expired(runtime)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id) == Progress(100, 0, 0, 0, 0, 0, 100, 0)
    assert events(runtime, built.campaign_id) == {"unknown": 100}
    assert state(runtime, built.campaign_id) == "settling"
    assert peer.sink.book.stats()["duplicates"] == 0
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET updated_at = now() - interval '25 hours'"))
    assert finish.finish_due(runtime) == 1
    assert state(runtime, built.campaign_id) == "finished"


def test_who_is_suppressed_after_the_launch_is_skipped_with_the_reason(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=10)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        conn.execute(
            text("INSERT INTO suppression (organisation_id, email, reason) VALUES (:o, :email, 'manual')"),
            {"o": built.organisation_id, "email": "lead2@mail2.example.com"},
        )
        conn.execute(text("UPDATE lead SET status = 'unsubscribed' WHERE email LIKE 'lead3@%'"))
        conn.execute(text("DELETE FROM lead WHERE email LIKE 'lead4@%'"))
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id) == Progress(10, 7, 0, 0, 3, 0, 0, 0)
    with runtime.db.begin() as conn:
        reasons = conn.execute(text("SELECT detail->>'reason' FROM event WHERE kind = 'skipped' ORDER BY 1")).scalars()
        assert list(reasons) == ["erased", "suppressed", "unsubscribed"]
    assert state(runtime, built.campaign_id) == "finished"


def test_a_worker_that_died_after_handing_over_leaves_unknowns_and_no_second_mail(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=100)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    page = claim(runtime)
    letters, skipped = send_range.compose_page(send_range.composer_of(runtime, page.sending), page)
    assert send_range.hand_over(runtime, page, letters, skipped)
    with runtime.db.begin() as conn:  # the worker is killed here; its lease runs out
        conn.execute(text("UPDATE outbox SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
    assert rescue.rescue_expired(runtime) == 1
    assert send_range.drain(runtime) == 0
    assert progress(runtime, built.campaign_id) == Progress(100, 0, 0, 0, 0, 0, 100, 0)
    assert events(runtime, built.campaign_id) == {"unknown": 100}
    assert peer.sink.book.stats()["accepted"] == 0


def test_a_worker_that_died_before_handing_over_costs_nothing(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=100)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    claim(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
    assert rescue.rescue_expired(runtime) == 1
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id) == Progress(100, 100, 0, 0, 0, 0, 0, 0)


def test_a_page_is_settled_once_even_when_the_reply_to_its_commit_was_lost(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=100)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    page = claim(runtime)
    letters, skipped = send_range.compose_page(send_range.composer_of(runtime, page.sending), page)
    handoffs = send_range.hand_over(runtime, page, letters, skipped)
    assert handoffs is not None
    answers = [Answer(each, [Accepted("ref")] * len(each.lead_ids)) for each in handoffs]
    settle.settle_page(runtime, page.lease, page.sending, page.source, page.leads, answers)
    settle.settle_page(runtime, page.lease, page.sending, page.source, page.leads, answers)
    assert events(runtime, built.campaign_id) == {"sent": 100}
    assert progress(runtime, built.campaign_id).sent == 100


def test_pause_stops_within_a_page_and_resume_loses_nobody(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    page = claim(runtime)
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    send_range.send(runtime, page)
    assert send_range.drain(runtime) == 0
    assert progress(runtime, built.campaign_id) == Progress(250, 0, 0, 0, 0, 0, 0, 250)
    steer.resume(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id) == Progress(250, 250, 0, 0, 0, 0, 0, 0)


def test_cancel_gives_every_lead_that_was_left_the_outcome_cancelled(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    page = claim(runtime)
    send_range.send(runtime, page)
    assert steer.cancel(runtime, built.organisation_id, built.campaign_id).sent == 100
    assert send_range.drain(runtime) == 0
    assert steer.close_cancelled(runtime) == 150
    assert progress(runtime, built.campaign_id) == Progress(250, 100, 0, 0, 0, 150, 0, 0)
    assert events(runtime, built.campaign_id) == {"sent": 100, "cancelled": 150}
    with runtime.db.begin() as conn:
        assert world.row(conn, "SELECT finished_at FROM campaign")["finished_at"] is not None


def test_a_campaign_is_launched_once(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with pytest.raises(Conflict):
        launch.launch(runtime, built.organisation_id, built.campaign_id)
    assert progress(runtime, built.campaign_id).audience == 250


def test_a_launch_leaves_out_and_counts_who_must_not_be_mailed(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=10)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE lead SET status = 'unsubscribed' WHERE email LIKE 'lead1@%'"))
        conn.execute(text("UPDATE lead SET status = 'invalid' WHERE email LIKE 'lead2@%'"))
        conn.execute(
            text("INSERT INTO suppression (organisation_id, email, reason) VALUES (:o, :email, 'manual')"),
            {"o": built.organisation_id, "email": "lead3@mail3.example.com"},
        )
    found = launch.check(runtime, built.organisation_id, built.campaign_id)
    assert (found.audience, found.exclusions) == (7, {"unsubscribed": 1, "invalid": 1, "suppressed": 1})
    assert found.faults == ()
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        kept = world.row(conn, "SELECT audience, exclusions FROM campaign WHERE id = :id", id=built.campaign_id)
    assert kept == {"audience": 7, "exclusions": found.exclusions}


def test_a_launch_names_everything_that_stands_in_its_way_and_changes_nothing(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=0)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET sender_id = NULL"))
        conn.execute(text("UPDATE content SET subject = '', compiled = NULL"))
    assert {fault.pointer for fault in launch.check(runtime, built.organisation_id, built.campaign_id).faults} == {
        "sender",
        "subject",
        "html",
        "segment",
    }
    with pytest.raises(Invalid):
        launch.launch(runtime, built.organisation_id, built.campaign_id)
    assert state(runtime, built.campaign_id) == "draft"


def test_a_launch_to_nobody_is_refused(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=0)
    with pytest.raises(Invalid, match="the audience is empty"):
        launch.launch(runtime, built.organisation_id, built.campaign_id)
    assert state(runtime, built.campaign_id) == "draft"


def test_a_scheduled_campaign_starts_at_its_time_with_who_matches_then(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=10)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET start_at = now() + interval '1 hour'"))
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    assert state(runtime, built.campaign_id) == "scheduled"
    assert launch.start_due(runtime) == 0
    with runtime.db.begin() as conn:
        world.add_leads(conn, built.organisation_id, 0)
        conn.execute(text("DELETE FROM lead WHERE email LIKE 'lead1@%'"))
        conn.execute(text("UPDATE campaign SET start_at = now()"))
    assert launch.start_due(runtime) == 1
    send_range.drain(runtime)
    assert progress(runtime, built.campaign_id) == Progress(9, 9, 0, 0, 0, 0, 0, 0)


def test_counts_that_differ_keep_a_campaign_from_being_finished(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=10)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    page = claim(runtime)
    with runtime.db.begin() as conn:  # an event that no range answers for, of a lead that nobody was asked to mail
        event.append(conn, page.source, [event.Fact(1_000_000, 1, send_range.Kind.SENT)])
    send_range.send(runtime, page)
    with runtime.db.begin() as conn:
        kept = world.row(conn, "SELECT state, message FROM campaign JOIN alert ON alert.campaign_id = campaign.id")
    assert kept["state"] == "sending"
    assert "sent: ranges count 10, events 11" in kept["message"]


def test_one_campaigns_broken_pool_does_not_stop_another(runtime: Runtime, peer: Peer) -> None:
    with running_sink(down=1.0) as broken:
        stuck = build(runtime, broken)
        other = build(runtime, peer)
        launch.launch(runtime, stuck.organisation_id, stuck.campaign_id)
        launch.launch(runtime, other.organisation_id, other.campaign_id)
        send_range.drain(runtime)
    assert state(runtime, other.campaign_id) == "finished"
    assert progress(runtime, stuck.campaign_id).open == 250


def test_the_calls_of_a_page_wait_for_a_slow_provider_together(runtime: Runtime, peer: Peer) -> None:
    peer.behave(latency=0.3)
    built = build(runtime, peer, leads=100)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET batch = 5"))  # twenty calls in the page
    began = time.monotonic()
    send_range.drain(runtime)
    assert peer.sink.book.stats()["calls"] == 20
    assert time.monotonic() - began < 20 * 0.3 / 2  # one after another would take six seconds
