"""Unknown outcomes: what a person may decide, and what a campaign's policy decides after its hold."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from app.errors import Conflict, NotFound
from app.flows import rescue, send_range, steer, unknowns
from app.flows.resolve import Evidence, use_evidence
from app.mail import Kind
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import (
    hand_over,
    later,
    launched,
    letters_of,
    lose_the_lease,
    one,
    query,
    sums,
    webhooks_arrive,
)
from tests.test_sending import events, state
from tests.world import World

pytestmark = pytest.mark.settings(range_size=100)


def unknown(runtime: Runtime, peer: Peer, leads: int = 100, policy: str = "hold") -> World:
    """A campaign of which nobody knows whether anything was sent: the provider took it and all replies were lost."""
    peer.behave(unsure=1.0)
    built = launched(runtime, peer, leads)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET unknown_policy = :policy"), {"policy": policy})
    drain_slowly(runtime)
    peer.behave(unsure=0.0)
    assert sums(runtime, built.campaign_id) == {"unknown": leads}
    return built


def drain_slowly(runtime: Runtime) -> None:
    """A pool whose calls mostly come to no answer rests after each page."""
    while send_range.drain(runtime):
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE pool SET state = 'active', resume_at = NULL, failures = 0"))


def test_a_person_sends_again_and_exactly_those_are_mailed(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, leads=250)
    first, *_ = [row[0] for row in query(runtime, "SELECT id FROM handoff ORDER BY id")]
    assert unknowns.send_again(runtime, built.organisation_id, built.campaign_id, [int(str(first))]) == 50
    assert sums(runtime, built.campaign_id)["open"] >= 50
    send_range.drain(runtime)
    assert letters_of(runtime)[0] == "a" * 50
    assert peer.sink.book.stats()["duplicates"] == 50  # the provider had taken them: the person was told that it may


def test_a_person_leaves_them_and_the_campaign_is_over(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer)
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id) == 100
    assert sums(runtime, built.campaign_id) == {"failed": 100}
    assert events(runtime, built.campaign_id) == {"failed": 100, "unknown": 0}
    assert state(runtime, built.campaign_id) == "finished"
    assert query(runtime, "SELECT DISTINCT detail->>'reason' FROM event WHERE kind = 'failed'")[0][0]


def test_two_people_who_press_at_once_double_nobody(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer)
    start, done = threading.Barrier(4), []

    def press(act: object) -> None:
        start.wait()
        done.append(act(runtime, built.organisation_id, built.campaign_id))  # type: ignore[operator]

    acts = [unknowns.send_again, unknowns.leave, unknowns.send_again, unknowns.leave]
    threads = [threading.Thread(target=press, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 100
    assert sum(sums(runtime, built.campaign_id).values()) == 100
    assert query(runtime, "SELECT coalesce(sum(size), 0) FROM outbox WHERE parent_id IS NOT NULL")[0][0] in (0, 50, 100)


def test_another_organisations_campaign_cannot_be_decided_on(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer)
    for act in (unknowns.send_again, unknowns.leave, unknowns.send_failed_again):
        with pytest.raises(NotFound):
            act(runtime, built.organisation_id + 1, built.campaign_id)  # type: ignore[operator]
    assert sums(runtime, built.campaign_id) == {"unknown": 100}


def test_calls_of_another_campaign_are_not_touched(runtime: Runtime, peer: Peer) -> None:
    built, other = unknown(runtime, peer), unknown(runtime, peer)
    theirs = [
        int(str(row[0])) for row in query(runtime, "SELECT id FROM handoff WHERE campaign_id = :c", c=other.campaign_id)
    ]
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id, theirs) == 0
    assert sums(runtime, other.campaign_id) == {"unknown": 100}


def test_nothing_of_a_cancelled_campaign_is_sent_again(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer)
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    with pytest.raises(Conflict):
        unknowns.send_again(runtime, built.organisation_id, built.campaign_id)
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id) == 100


def test_calls_that_are_made_again_by_themselves_are_not_decided_on(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10, more="?idempotent=3600")
    hand_over(runtime)
    lose_the_lease(runtime)
    assert unknowns.send_again(runtime, built.organisation_id, built.campaign_id) == 0
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id) == 0


def test_the_policy_hold_decides_nothing_and_tells_the_owner(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, policy="hold")
    later(runtime, 2000)
    assert unknowns.apply_policies(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 100}
    told = one(runtime, "SELECT kind, message FROM alert")
    assert told["kind"] == "unknown" and "100 leads" in str(told["message"])


@pytest.mark.parametrize("policy", ["hold", "leave", "resend"])
def test_no_policy_acts_before_the_hold_is_over(runtime: Runtime, peer: Peer, policy: str) -> None:
    built = unknown(runtime, peer, policy=policy)
    later(runtime, 800)
    webhooks_arrive(runtime, built)
    assert unknowns.apply_policies(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 100}
    assert query(runtime, "SELECT FROM alert") == []


def test_the_policy_leave_counts_them_as_failed(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, policy="leave")
    later(runtime, 2000)
    assert unknowns.apply_policies(runtime) == 100
    assert sums(runtime, built.campaign_id) == {"failed": 100}
    assert state(runtime, built.campaign_id) == "finished"


def test_the_policy_resend_waits_for_ever_where_webhooks_are_not_known_to_arrive(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, policy="resend")
    webhooks_arrive(runtime, built)
    with runtime.db.begin() as conn:  # they did arrive, but of calls before these: they may have stopped since
        conn.execute(text("UPDATE pool_webhook SET handed_at = handed_at - interval '1 hour'"))
    later(runtime, 2000)
    assert unknowns.apply_policies(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 100}


def test_the_policy_resend_sends_once_more_and_never_a_third_time(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, policy="resend")
    webhooks_arrive(runtime, built)
    later(runtime, 2000)
    assert unknowns.apply_policies(runtime) == 100
    peer.behave(unsure=1.0)
    drain_slowly(runtime)
    assert sums(runtime, built.campaign_id) == {"unknown": 100}
    later(runtime, 2000)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool_webhook SET handed_at = now()"))
    assert unknowns.apply_policies(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 100}


def test_the_hold_is_longer_than_the_webhooks_take(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, policy="leave")
    webhooks_arrive(runtime, built)
    with runtime.db.begin() as conn:  # a thousand events, the slowest after half an hour to an hour
        lags = [0] * 12 + [1000]
        conn.execute(text("UPDATE pool_webhook SET lags = :lags"), {"lags": lags})
    later(runtime, 3000)
    assert unknowns.apply_policies(runtime) == 0
    later(runtime, 8000)
    assert unknowns.apply_policies(runtime) == 100


def test_a_second_run_goes_to_exactly_those_that_failed(runtime: Runtime, peer: Peer) -> None:
    peer.behave(defer=0.3)
    built = launched(runtime, peer, leads=200)
    send_range.drain(runtime)
    deferred = sums(runtime, built.campaign_id)["open"]
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET deferred_since = now() - interval '86380 seconds' WHERE state = 'ready'"))
    peer.behave(defer=1.0)
    later(runtime, 70)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 200 - deferred, "failed": deferred}
    assert state(runtime, built.campaign_id) == "finished"
    assert one(runtime, "SELECT kind, cleared_at FROM alert") == {"kind": "gave_up", "cleared_at": None}
    peer.behave(defer=0.0)
    assert unknowns.send_failed_again(runtime, built.organisation_id, built.campaign_id) == deferred
    assert sums(runtime, built.campaign_id) == {"sent": 200 - deferred, "open": deferred}
    assert one(runtime, "SELECT state, run, finished_at FROM campaign") == {
        "state": "sending",
        "run": 2,
        "finished_at": None,
    }
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 200}
    assert events(runtime, built.campaign_id) == {"sent": 200, "failed": 0}
    assert state(runtime, built.campaign_id) == "finished"
    runs = {each["run"]: each["distinct"] for each in peer.sink.book.stats()["campaigns"]}
    assert runs == {1: 200 - deferred, 2: deferred}
    assert one(runtime, "SELECT cleared_at IS NOT NULL AS cleared FROM alert") == {"cleared": True}


def test_failed_leads_are_put_off_for_another_day_before_they_fail_again(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer)
    unknowns.leave(runtime, built.organisation_id, built.campaign_id)
    peer.behave(defer=1.0)
    unknowns.send_failed_again(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"open": 100}


def test_a_second_run_has_a_day_of_its_own(runtime: Runtime, peer: Peer) -> None:
    peer.behave(defer=1.0)
    built = launched(runtime, peer, leads=20)
    send_range.drain(runtime)
    later(runtime, 86_400)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"failed": 20}
    unknowns.send_failed_again(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"open": 20}


def test_a_campaign_that_still_sends_has_no_second_run(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer)
    with pytest.raises(Conflict):
        unknowns.send_failed_again(runtime, built.organisation_id, built.campaign_id)


def test_evidence_and_a_person_at_once_resolve_each_lead_once(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer)
    calls = query(runtime, "SELECT id, lead_ids FROM handoff ORDER BY id")
    start = threading.Barrier(2)

    def webhook() -> None:
        start.wait()
        for call, leads in calls:
            with runtime.db.begin() as conn:
                spoken = [Evidence(int(str(call)), lead, Kind.SENT) for lead in leads]  # type: ignore[attr-defined]
                use_evidence(conn, built.pool_id, spoken)

    thread = threading.Thread(target=webhook)
    thread.start()
    start.wait()
    unknowns.leave(runtime, built.organisation_id, built.campaign_id)
    thread.join()
    assert sums(runtime, built.campaign_id) == {"sent": 100}
    assert rescue.rescue_expired(runtime) == 0
