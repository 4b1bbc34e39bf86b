"""What the clock does to many it does to each: a range or campaign that cannot be served stops none of the others."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.errors import Unavailable
from app.flows import finish, launch, rescue, steer, unknowns
from app.flows.one_by_one import do_each
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, later, launched, query, sums
from tests.test_sending import build, state

pytestmark = pytest.mark.settings(range_size=100)


def refuse_changes(runtime: Runtime, table: str, column: str, value: int) -> None:
    """From now on PostgreSQL refuses to change these rows."""
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'this row cannot be changed'; END $$"
            )
        )
        conn.execute(
            text(
                f"CREATE TRIGGER refuse BEFORE UPDATE ON {table} FOR EACH ROW"
                f" WHEN (OLD.{column} = {value}) EXECUTE FUNCTION refuse()"
            )
        )


def in_hand(runtime: Runtime, peer: Peer) -> tuple[int, int]:
    """Two campaigns of a call each that is under way."""
    campaigns = launched(runtime, peer, 10).campaign_id, launched(runtime, peer, 10).campaign_id
    hand_over(runtime)
    hand_over(runtime)
    return campaigns


def rescue_all(runtime: Runtime) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
    assert rescue.rescue_expired(runtime) == 2


def test_a_range_that_cannot_be_rescued_stops_the_rescue_of_no_other(runtime: Runtime, peer: Peer) -> None:
    in_hand(runtime, peer)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET lease_until = now() - make_interval(secs => 1000 - id)"))
        conn.execute(text("DELETE FROM content WHERE campaign_id = (SELECT min(campaign_id) FROM outbox)"))
    oldest, newest = [row[0] for row in query(runtime, "SELECT id FROM outbox ORDER BY lease_until")]
    assert rescue.rescue_expired(runtime) == 1
    assert query(runtime, "SELECT id, state FROM outbox ORDER BY id") == [(oldest, "leased"), (newest, "done")]
    assert rescue.rescue_expired(runtime) == 0  # and it is tried again each turn


def test_a_campaign_that_cannot_be_finished_stops_no_other(runtime: Runtime, peer: Peer) -> None:
    bad, good = in_hand(runtime, peer)
    rescue_all(runtime)
    refuse_changes(runtime, "campaign", "id", bad)
    assert finish.finish_due(runtime) == 1
    assert (state(runtime, bad), state(runtime, good)) == ("sending", "settling")


def test_a_cancelled_campaign_that_cannot_be_closed_stops_no_other(runtime: Runtime, peer: Peer) -> None:
    bad, good = launched(runtime, peer, 10), launched(runtime, peer, 10)
    for each in (bad, good):
        steer.cancel(runtime, each.organisation_id, each.campaign_id)
    refuse_changes(runtime, "outbox", "campaign_id", bad.campaign_id)
    assert steer.close_cancelled(runtime) == 10
    assert sums(runtime, bad.campaign_id) == {"open": 10}
    assert sums(runtime, good.campaign_id) == {"cancelled": 10}


def test_a_campaign_that_cannot_be_started_or_taken_back_stops_no_other(runtime: Runtime, peer: Peer) -> None:
    bad, good = build(runtime, peer, 10), build(runtime, peer, 10)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET state = 'scheduled', start_at = now() - make_interval(secs => 10 - id)"))
        conn.execute(  # of a field that does not exist: to be made a draft again, with a notice
            text(
                "INSERT INTO segment (organisation_id, name, condition) VALUES (:o, 'gone',"
                ' \'{"combinator": "and", "rules": [{"field": "gone", "op": "eq", "value": 1}]}\')'
            ),
            {"o": bad.organisation_id},
        )
        conn.execute(
            text("UPDATE campaign SET segment_id = (SELECT id FROM segment WHERE name = 'gone') WHERE id = :id"),
            {"id": bad.campaign_id},
        )
    refuse_changes(runtime, "campaign", "id", bad.campaign_id)
    assert launch.start_due(runtime) == 1
    assert (state(runtime, bad.campaign_id), state(runtime, good.campaign_id)) == ("scheduled", "sending")


def test_a_campaign_whose_policy_cannot_be_applied_stops_no_other(runtime: Runtime, peer: Peer) -> None:
    bad, good = in_hand(runtime, peer)
    rescue_all(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET unknown_policy = 'leave'"))
    later(runtime, 2000)
    refuse_changes(runtime, "handoff", "campaign_id", bad)
    assert unknowns.apply_policies(runtime) == 10
    assert (sums(runtime, bad), sums(runtime, good)) == ({"unknown": 10}, {"failed": 10})


def test_a_server_that_is_away_is_so_for_all(runtime: Runtime) -> None:
    asked = []

    def act(item: int) -> int:
        asked.append(item)
        raise Unavailable("The database cannot be reached.")

    with pytest.raises(Unavailable):
        do_each([1, 2, 3], act, "asking")
    assert asked == [1]
