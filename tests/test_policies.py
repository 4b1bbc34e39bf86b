"""What campaigns' policies decide on unknown calls by themselves, when, and who is told; and what a turn costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from app.errors import Conflict
from app.flows import finish, steer, unknowns
from app.flows.resolve import Evidence, use_evidence
from app.mail import Kind
from app.models import alert
from app.models import unknown as unknown_model
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, later, launched, lose_the_lease, query, sums, webhooks_arrive
from tests.test_sending import state
from tests.world import World

pytestmark = pytest.mark.settings(range_size=100)

# Who has written or locked each row last.
TOUCHED = "SELECT xmin::text, xmax::text FROM campaign UNION ALL SELECT xmin::text, xmax::text FROM alert"
STANDING = "SELECT kind, times FROM alert WHERE cleared_at IS NULL ORDER BY kind"


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


# -- Times in which nothing could reach us -----------------------------------------------------------------------------


@pytest.mark.parametrize("gap", ["at first", "amid", "at last"])
def test_the_policy_resend_sends_nothing_of_which_a_webhook_may_have_found_us_away(
    runtime: Runtime, peer: Peer, gap: str
) -> None:
    """Later calls were spoken of since; but of this one the provider may have given up telling us."""
    built = unknown(runtime, peer, "resend")
    later(runtime, 1000)
    webhooks_arrive(runtime, built)
    away = {"at first": (0, 1), "amid": (1, 2), "at last": (2, 3)}[gap]
    change(
        runtime,
        "DELETE FROM pool_heard USING handoff WHERE slot >= floor(extract(epoch FROM handed_at) / 30) + :first"
        " AND slot < floor(extract(epoch FROM handed_at) / 30) + :last",
        first=away[0],
        last=away[1],
    )
    assert unknowns.apply_policies(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 50}
    assert query(runtime, STANDING) == [("unknown", 1)], "a person is told to decide"


def test_what_was_long_after_the_slowest_webhook_keeps_nobody_waiting(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, "resend")
    later(runtime, 1000)
    webhooks_arrive(runtime, built)
    change(
        runtime,
        "DELETE FROM pool_heard USING handoff WHERE slot > floor((extract(epoch FROM handed_at) + 60) / 30)",
    )
    assert unknowns.apply_policies(runtime) == 50


def test_a_pool_is_listened_to_for_as_long_as_its_webhooks_take(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, "resend")
    later(runtime, 2000)
    webhooks_arrive(runtime, built)
    change(runtime, "UPDATE pool_webhook SET lags = :lags", lags=[0] * 8 + [1000])  # within 256 seconds: twice that
    change(
        runtime,
        "DELETE FROM pool_heard USING handoff WHERE slot = floor((extract(epoch FROM handed_at) + 500) / 30)",
    )
    assert unknowns.apply_policies(runtime) == 0
    heard_since_call = (
        "INSERT INTO pool_heard SELECT pool_id, floor((extract(epoch FROM handed_at) + 500) / 30) FROM handoff"
    )
    change(runtime, heard_since_call)
    assert unknowns.apply_policies(runtime) == 50


# -- Cancelled campaigns -----------------------------------------------------------------------------------------------


def test_a_cancel_waits_for_the_step_that_is_being_decided_and_none_is_decided_after_it(
    runtime: Runtime, peer: Peer
) -> None:
    """Otherwise what may have been sent stands in a new range when the campaign is closed, and ends as `cancelled`."""
    built = unknown(runtime, peer)
    done: list[str] = []

    def press(act: Callable[..., object]) -> None:
        try:
            act(runtime, built.organisation_id, built.campaign_id)
        except Conflict:
            done.append("refused")
        else:
            done.append(act.__name__)

    threads = [threading.Thread(target=press, args=(act,)) for act in (unknowns.send_again, steer.cancel)]
    with runtime.db.begin() as conn:
        conn.execute(text("SELECT FROM outbox FOR UPDATE"))
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            wait_for_locks(runtime, waiting)  # the cancel waits, too, for the step
    for thread in threads:
        thread.join()
    assert sorted(done) == ["cancel", "send_again"]
    press(unknowns.send_again)
    assert done[2:] == ["refused"]


def test_the_policy_resend_sends_nothing_of_a_cancelled_campaign(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, "resend")
    later(runtime, 1000)
    webhooks_arrive(runtime, built)
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    assert unknowns.apply_policies(runtime) == 0
    steer.close_cancelled(runtime)
    assert unknowns.apply_policies(runtime) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 50}


def test_the_policy_leave_is_applied_to_a_cancelled_campaign_for_a_day(runtime: Runtime, peer: Peer) -> None:
    young, old = unknown(runtime, peer, "leave"), unknown(runtime, peer, "leave")
    later(runtime, 1000)
    for built, hours in ((young, 23), (old, 25)):
        steer.cancel(runtime, built.organisation_id, built.campaign_id)
        steer.close_cancelled(runtime)
        change(
            runtime,
            "UPDATE campaign SET finished_at = finished_at - make_interval(hours => :hours) WHERE id = :id",
            hours=hours,
            id=built.campaign_id,
        )
    assert unknowns.apply_policies(runtime) == 50
    assert sums(runtime, young.campaign_id) == {"failed": 50}
    assert sums(runtime, old.campaign_id) == {"unknown": 50}


# -- Who is told -------------------------------------------------------------------------------------------------------


def test_the_owner_is_told_once_and_again_when_more_becomes_unknown(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, leads=150)
    later(runtime, 1000)
    for _ in range(3):
        unknowns.apply_policies(runtime)
    assert query(runtime, STANDING) == [("unknown", 1)]
    hand_over(runtime)
    lose_the_lease(runtime)
    later(runtime, 1000)
    change(runtime, "UPDATE alert SET seen_at = seen_at - interval '1000 seconds'")
    for _ in range(3):
        unknowns.apply_policies(runtime)
    assert query(runtime, STANDING) == [("unknown", 2)]
    assert "150 leads" in str(query(runtime, "SELECT message FROM alert")[0][0])
    assert sums(runtime, built.campaign_id) == {"unknown": 150}


def test_an_unknown_that_was_dismissed_comes_back_while_its_campaign_is_not_over(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, leads=150)
    steer.pause(runtime, built.organisation_id, built.campaign_id)
    later(runtime, 1000)
    unknowns.apply_policies(runtime)
    dismiss(runtime, built)
    unknowns.apply_policies(runtime)
    assert standing_for_people(runtime, built) == []
    change(runtime, "UPDATE alert SET dismissed_at = dismissed_at - interval '25 hours'")
    unknowns.apply_policies(runtime)
    assert standing_for_people(runtime, built) == [alert.Kind.UNKNOWN]


def test_an_unknown_of_a_cancelled_campaign_that_was_dismissed_stays_so(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer)
    later(runtime, 1000)
    unknowns.apply_policies(runtime)
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    steer.close_cancelled(runtime)
    dismiss(runtime, built)
    change(runtime, "UPDATE alert SET dismissed_at = dismissed_at - interval '25 hours'")
    change(runtime, "UPDATE campaign SET finished_at = finished_at - interval '25 hours'")
    unknowns.apply_policies(runtime)
    assert standing_for_people(runtime, built) == []


def dismiss(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        [each] = alert.find_open(conn, built.organisation_id)
        owner = conn.execute(text('SELECT id FROM "user" LIMIT 1')).scalar_one()
        alert.dismiss(conn, built.organisation_id, each.id, owner)


def standing_for_people(runtime: Runtime, built: World) -> list[alert.Kind]:
    with runtime.db.begin() as conn:
        return [each.kind for each in alert.find_open(conn, built.organisation_id)]


def test_alerts_of_a_cancelled_campaign_clear_but_for_what_is_unknown(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer, leads=200)
    later(runtime, 1000)
    unknowns.apply_policies(runtime)
    about_campaigns = [kind for kind, meaning in alert.MEANINGS.items() if meaning.about == "campaign"]
    with runtime.db.begin() as conn:
        for kind in about_campaigns:
            alert.raise_alert(conn, kind, built.campaign_id, "On purpose.")
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    steer.close_cancelled(runtime)
    lasting = ["blocked", "doubled", "gave_up", "refused_delivered"]
    assert [kind for kind, _ in query(runtime, STANDING)] == [*lasting, "unknown"]
    with runtime.db.begin() as conn:
        calls = conn.execute(text("SELECT id, lead_ids FROM handoff")).all()
        use_evidence(conn, built.pool_id, [Evidence(id, lead, Kind.SENT) for id, leads in calls for lead in leads])
    assert [kind for kind, _ in query(runtime, STANDING)] == lasting


# -- What a turn costs -------------------------------------------------------------------------------------------------


def test_a_turn_writes_nothing_where_all_was_decided_and_told(runtime: Runtime, peer: Peer) -> None:
    unknown(runtime, peer)
    later(runtime, 1000)
    unknowns.apply_policies(runtime)
    before = query(runtime, TOUCHED)
    unknowns.apply_policies(runtime)
    assert query(runtime, TOUCHED) == before


def test_what_finished_campaigns_left_unknown_is_not_looked_at(runtime: Runtime, peer: Peer) -> None:
    built = unknown(runtime, peer)
    finish.finish_due(runtime)
    later(runtime, 100_000)
    finish.finish_due(runtime)
    assert state(runtime, built.campaign_id) == "finished"
    with runtime.db.begin() as conn:
        assert unknown_model.find_held(conn, 900.0) == []


def test_more_calls_than_a_step_has_are_decided_on_in_one_turn(runtime: Runtime, peer: Peer) -> None:
    for policy in ("leave", "hold", "leave"):
        built = unknown(runtime, peer, policy)
        change(  # as many calls again of nobody that anyone counts
            runtime,
            "INSERT INTO handoff (range_id, campaign_id, pool_id, run, state, key, handed_at, lead_ids, outcomes,"
            " unknown_since) SELECT"
            " range_id, campaign_id, pool_id, run, state, gen_random_uuid(), handed_at, '{1}', 'u', unknown_since"
            " FROM handoff, generate_series(1, 600) WHERE campaign_id = :id",
            id=built.campaign_id,
        )
    later(runtime, 1000)
    assert unknowns.apply_policies(runtime) == 2 * 650
    assert query(runtime, STANDING) == [("unknown", 1)]


# -- Deadlocks ---------------------------------------------------------------------------------------------------------


def test_a_persons_step_that_postgresql_ends_is_tried_again(runtime: Runtime, peer: Peer) -> None:
    """A worker that found leads put off has the range and wants the campaign; the step has that and wants the range."""
    built = unknown(runtime, peer)
    left: list[int] = []
    thread = threading.Thread(
        target=lambda: left.append(unknowns.leave(runtime, built.organisation_id, built.campaign_id))
    )
    with runtime.db.begin() as conn:
        conn.execute(text("SET LOCAL deadlock_timeout = '10s'"))  # the other one notices first, and is ended
        conn.execute(text("SELECT FROM outbox FOR UPDATE"))
        thread.start()
        wait_for_locks(runtime, 1)
        conn.execute(text("SELECT FROM campaign FOR UPDATE"))
    thread.join()
    assert left == [50]


def wait_for_locks(runtime: Runtime, number: int) -> None:
    """Until so many transactions wait for others."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    until = time.monotonic() + 10
    while len(query(runtime, waiting)) < number:
        assert time.monotonic() < until, f"{number} transactions do not wait"
        time.sleep(0.02)
