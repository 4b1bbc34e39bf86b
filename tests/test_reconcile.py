"""The reconciler: before a campaign is finished its audience, ranges and record agree, or they are made to, or somebody
is told."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.errors import Conflict, ProviderDown
from app.flows import finish, reconcile, send_range, steer
from app.mail import Accepted, Kind
from app.models import event
from app.models.event import Fact
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, later, launched, one, query, settle_with, sums
from tests.test_sending import events, state

pytestmark = pytest.mark.settings(range_size=100)


def change(runtime: Runtime, statement: str) -> None:
    with runtime.db.begin() as conn:
        assert conn.execute(text(statement)).rowcount > 0


@pytest.fixture
def unfinished(runtime: Runtime, peer: Peer) -> int:
    """A campaign to 250 leads, three of whom the provider refuses, all of it settled, that nobody has finished yet."""
    built = launched(runtime, peer, leads=250)
    while (lease := send_range.claim(runtime)) is not None:
        page = send_range.load(runtime, lease)
        letters, skipped = send_range.compose_page(send_range.composer_of(runtime, page.sending), page)
        handoffs = send_range.hand_over(runtime, page, letters, skipped)
        assert handoffs is not None
        settle_with(runtime, page, handoffs, *[[Accepted("ref")] * len(each.lead_ids) for each in handoffs])
    assert state(runtime, built.campaign_id) == "sending"
    return built.campaign_id


def test_what_agrees_is_finished_and_nothing_is_written(runtime: Runtime, unfinished: int) -> None:
    comparison, differences = reconcile.find(runtime, unfinished)
    assert (comparison.faults, differences) == ([], [])
    assert finish.try_finish(runtime, unfinished) == "finished"
    assert events(runtime, unfinished) == {"sent": 250}


def test_a_missing_event_is_written_again_and_costs_no_mail(runtime: Runtime, peer: Peer, unfinished: int) -> None:
    change(runtime, "DELETE FROM event WHERE lead_id IN (SELECT min(lead_id) FROM event)")
    assert "sent: ranges count 250, events 249" in reconcile.find(runtime, unfinished)[0].faults
    assert finish.try_finish(runtime, unfinished) == "finished"
    assert events(runtime, unfinished) == {"sent": 250}
    assert send_range.drain(runtime) == 0
    assert query(runtime, "SELECT kind FROM alert") == []


def test_an_event_of_another_outcome_than_the_call_had_is_put_right(runtime: Runtime, unfinished: int) -> None:
    change(runtime, "UPDATE event SET kind = 'refused' WHERE lead_id IN (SELECT max(lead_id) FROM event)")
    assert finish.try_finish(runtime, unfinished) == "finished"
    assert events(runtime, unfinished) == {"sent": 250, "refused": 0}


def test_one_who_is_there_twice_for_one_who_is_missing_is_found(runtime: Runtime, unfinished: int) -> None:
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "UPDATE event SET lead_id = (SELECT max(lead_id) FROM event)"
                " WHERE lead_id = (SELECT min(lead_id) FROM event)"
            )
        )
    assert reconcile.find(runtime, unfinished)[0].faults == ["some lead has two outcomes, and another none"]
    assert finish.try_finish(runtime, unfinished) == "finished"
    twice = query(runtime, "SELECT lead_id FROM event GROUP BY lead_id HAVING sum(weight) <> 1")
    assert twice == []
    told = one(runtime, "SELECT kind, message FROM alert")
    assert told["kind"] == "doubled" and "sent twice" in str(told["message"])


def test_a_lead_that_nobody_served_is_queued_again(runtime: Runtime, peer: Peer, unfinished: int) -> None:
    change(runtime, "DELETE FROM handoff WHERE id = (SELECT min(id) FROM handoff)")
    change(runtime, "DELETE FROM event WHERE lead_id IN (SELECT lead_id FROM event ORDER BY lead_id LIMIT 50)")
    assert finish.try_finish(runtime, unfinished) is None
    assert sums(runtime, unfinished) == {"sent": 200, "open": 50}
    assert send_range.drain(runtime) == 1
    assert sums(runtime, unfinished) == {"sent": 250}
    assert state(runtime, unfinished) == "finished"
    assert peer.sink.book.stats()["accepted"] == 50  # the others were answered for by hand


def test_ranges_that_count_wrong_are_counted_anew(runtime: Runtime, unfinished: int) -> None:
    change(runtime, "UPDATE outbox SET sent = sent - 7, failed = 7 WHERE id = (SELECT min(id) FROM outbox)")
    assert finish.try_finish(runtime, unfinished) == "finished"
    assert sums(runtime, unfinished) == {"sent": 250}


def test_a_lead_in_two_calls_is_alarmed_and_the_campaign_is_not_called_finished(
    runtime: Runtime, unfinished: int
) -> None:
    change(
        runtime,
        "INSERT INTO handoff (range_id, campaign_id, pool_id, run, key, state, lead_ids, outcomes)"
        " SELECT range_id, campaign_id, pool_id, run, gen_random_uuid(), state, lead_ids[1:1], 's'"
        " FROM handoff LIMIT 1",
    )
    change(runtime, "INSERT INTO event SELECT * FROM event WHERE lead_id = (SELECT lead_ids[1] FROM handoff LIMIT 1)")
    assert finish.try_finish(runtime, unfinished) is None
    kinds = {row[0] for row in query(runtime, "SELECT kind FROM alert")}
    assert kinds == {"doubled", "sums_differ"}
    assert finish.finish_due(runtime) == 0
    assert query(runtime, "SELECT look_at > now() FROM campaign") == [(True,)]  # not again for ten minutes


def test_a_stranger_in_the_record_is_named_and_left_alone(runtime: Runtime, unfinished: int) -> None:
    page_source = event.Source(1, 1, unfinished, 1)
    with runtime.db.begin() as conn:
        event.append(conn, page_source, [Fact(10**6, 1, Kind.SENT)])
    _, differences = reconcile.find(runtime, unfinished)
    assert [(each.lead_id, each.asked, each.kinds) for each in differences] == [(10**6, False, {"sent": 1})]
    assert finish.try_finish(runtime, unfinished) is None
    assert "sums_differ" in {row[0] for row in query(runtime, "SELECT kind FROM alert")}
    change(runtime, f"DELETE FROM event WHERE lead_id = {10**6}")
    later(runtime, 700)
    assert finish.finish_due(runtime) == 1
    assert query(runtime, "SELECT cleared_at IS NOT NULL FROM alert WHERE kind = 'sums_differ'") == [(True,)]


def test_a_range_that_was_taken_back_can_be_counted_anew(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, ProviderDown("HTTP 503"))
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    steer.close_cancelled(runtime)
    change(runtime, "UPDATE outbox SET cancelled = 49, skipped = 1")
    finish.mend_now(runtime, built.campaign_id)
    assert sums(runtime, built.campaign_id) == {"cancelled": 50}


def test_open_leads_are_no_difference(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=250)
    hand_over(runtime)
    assert reconcile.find(runtime, built.campaign_id)[0].faults == []
    with runtime.db.begin() as conn:
        since = reconcile.campaign.lock_state(conn, built.campaign_id).launched_at
        assert reconcile.ledger.find_differences(conn, built.campaign_id, since, 10) == []


@pytest.fixture
def old(runtime: Runtime, unfinished: int) -> int:
    """The same campaign, launched so long ago that what the record had of its first 50 leads is dropped."""
    change(runtime, "DELETE FROM handoff WHERE id = (SELECT min(id) FROM handoff)")  # as if they had been skipped
    change(runtime, "DELETE FROM event WHERE lead_id IN (SELECT lead_id FROM event ORDER BY lead_id LIMIT 50)")
    change(runtime, "UPDATE outbox SET sent = sent - 50, skipped = 50 WHERE id = (SELECT min(id) FROM outbox)")
    change(runtime, "UPDATE campaign SET launched_at = report_horizon() - interval '1 minute'")
    return unfinished


def test_of_a_campaign_older_than_the_record_nothing_is_mended_and_nobody_mailed(runtime: Runtime, old: int) -> None:
    with pytest.raises(Conflict, match="not kept any more"):
        finish.mend_now(runtime, old)
    assert sums(runtime, old) == {"sent": 200, "skipped": 50}
    assert send_range.drain(runtime) == 0


def test_a_campaign_older_than_the_record_is_finished_by_what_its_ranges_count(runtime: Runtime, old: int) -> None:
    comparison, differences = reconcile.find(runtime, old)
    assert (comparison.kept, comparison.faults, differences) == (False, [], [])
    assert finish.try_finish(runtime, old) == "finished"
    assert sums(runtime, old) == {"sent": 200, "skipped": 50}
