"""Starting what is due: a campaign that cannot be started again and again is told of, until it is no longer due."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.flows import launch, steer
from app.models import alert, campaign
from app.models.alert import Alert, Kind
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import one
from tests.test_one_by_one import refuse_changes
from tests.test_sending import build, state
from tests.world import World


def overdue(runtime: Runtime, peer: Peer, seconds: int) -> World:
    """A campaign that should have started so long ago, and cannot."""
    built = build(runtime, peer, 10)
    with runtime.db.begin() as conn:
        values = {"id": built.campaign_id, "seconds": seconds}
        scheduled = "state = 'scheduled', start_at = now() - make_interval(secs => :seconds)"
        conn.execute(text(f"UPDATE campaign SET {scheduled} WHERE id = :id"), values)
    refuse_changes(runtime, "campaign", "id", built.campaign_id)
    return built


def mend(runtime: Runtime) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("DROP TRIGGER refuse ON campaign"))


def standing(runtime: Runtime, built: World) -> list[Alert]:
    with runtime.db.begin() as conn:
        return alert.find_open(conn, built.organisation_id)


def test_whoever_launched_it_is_told_when_it_fails_to_start_again_and_again(runtime: Runtime, peer: Peer) -> None:
    built = overdue(runtime, peer, 90)
    assert launch.start_due(runtime) + launch.start_due(runtime) == 0
    (told,) = standing(runtime, built)
    assert (told.kind, told.campaign_id, told.times) == (Kind.NOT_STARTED, built.campaign_id, 2)
    assert "cannot be changed" not in told.message  # what a database says may hold values
    mend(runtime)
    assert launch.start_due(runtime) == 1
    assert standing(runtime, built) == []
    assert state(runtime, built.campaign_id) == "sending"


def test_those_that_cannot_start_keep_no_other_waiting(runtime: Runtime, peer: Peer) -> None:
    stuck = overdue(runtime, peer, 90)
    launch.start_due(runtime)
    built = build(runtime, peer, 10)
    with runtime.db.begin() as conn:
        scheduled = "UPDATE campaign SET state = 'scheduled', start_at = now() - interval '1 second' WHERE id = :id"
        conn.execute(text(scheduled), {"id": built.campaign_id})
        ours, theirs = ((each.organisation_id, each.campaign_id) for each in (built, stuck))
        assert campaign.due_to_start(conn) == [ours, theirs]
        assert campaign.due_to_start(conn, most=1) == [ours]


def test_a_start_that_fails_for_some_seconds_is_told_to_nobody(runtime: Runtime, peer: Peer) -> None:
    built = overdue(runtime, peer, 10)
    assert launch.start_due(runtime) == 0
    assert standing(runtime, built) == []


@pytest.mark.parametrize("way_out", [steer.unschedule, steer.cancel])
def test_what_a_person_took_back_is_told_of_no_more(runtime: Runtime, peer: Peer, way_out: object) -> None:
    built = overdue(runtime, peer, 90)
    launch.start_due(runtime)
    assert len(standing(runtime, built)) == 1
    mend(runtime)
    assert callable(way_out)
    way_out(runtime, built.organisation_id, built.campaign_id)
    assert launch.start_due(runtime) == 0
    assert standing(runtime, built) == []


def test_a_campaign_that_fails_stays_scheduled_and_whole(runtime: Runtime, peer: Peer) -> None:
    built = overdue(runtime, peer, 90)
    launch.start_due(runtime)
    assert state(runtime, built.campaign_id) == "scheduled"
    assert one(runtime, "SELECT count(*) AS ranges FROM outbox") == {"ranges": 0}
