"""Repeating campaigns that a person changes: taken back, mended and launched again, they go on where they were."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.errors import Invalid
from app.flows import edit_campaign, launch, recur, steer
from app.models import campaign, recurrence
from app.models.schedule import OwnClock, Schedule
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.test_recur import come, made, origin, repeating
from tests.test_sending import build, runtime
from tests.world import World
from web.api.campaign_drafts import known_draft

__all__ = ["runtime"]


def mend(runtime: Runtime, built: World, campaign_id: int, **changes: Any) -> None:
    """Change something of a draft; all else stays as it was written."""
    with runtime.db.session() as session:
        known = known_draft(session, campaign.get(session, built.organisation_id, campaign_id))
    edit_campaign.update(runtime, built.organisation_id, campaign_id, replace(known, **changes))


def moment_of(runtime: Runtime, hours: float) -> datetime:
    with runtime.db.begin() as conn:
        return campaign.now(conn) + timedelta(hours=hours)


def age(runtime: Runtime, hours: float) -> None:
    """So many hours pass for campaigns, and for what those that repeat say of their times."""
    step = {"step": timedelta(hours=hours), "hours": f"{hours} hours"}
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET start_at = start_at - :step, occurs_at = occurs_at - :step"), step)
        conn.execute(text("UPDATE recurrence SET begins = begins - :step"), step)
        earlier = "to_jsonb((schedule ->> 'deliver_by')::timestamptz - CAST(:hours AS interval))"
        of_drafts = "WHERE schedule ? 'deliver_by' AND origin_id IS NULL"
        moved = f"UPDATE campaign SET schedule = jsonb_set(schedule, '{{deliver_by}}', {earlier}) {of_drafts}"
        conn.execute(text(moved), step)


def test_a_count_goes_on_where_it_was_when_a_typo_is_mended(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    campaign_id = repeating(runtime, built, "FREQ=DAILY;COUNT=5", skip_sent=False)
    for _ in range(3):
        assert launch.start_due(runtime) == 1
        come(runtime, campaign_id, 24)
    steer.unschedule(runtime, built.organisation_id, campaign_id)
    mend(runtime, built, campaign_id, subject="Newz, mended")
    launch.launch(runtime, built.organisation_id, campaign_id)
    for _ in range(5):
        come(runtime, campaign_id, 24)
        launch.start_due(runtime)
    kept = origin(runtime, campaign_id)
    assert kept["state"] == "finished"
    assert kept["made"] + kept["missed"] == len(made(runtime)) + kept["missed"] <= 5


def test_a_draft_again_it_says_when_it_went_first(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    campaign_id = repeating(runtime, built)
    launch.start_due(runtime)
    first = origin(runtime, campaign_id)["begins"].replace(tzinfo=UTC)
    steer.unschedule(runtime, built.organisation_id, campaign_id)
    assert origin(runtime, campaign_id)["start_at"] == first
    later = first + timedelta(days=3)
    mend(runtime, built, campaign_id, start_at=later)  # of another start the rule is counted anew
    assert origin(runtime, campaign_id)["begins"] == later.replace(tzinfo=None)


def test_one_that_cannot_be_started_is_a_draft_that_says_when_it_went_first(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    campaign_id = repeating(runtime, built)
    launch.start_due(runtime)
    come(runtime, campaign_id, 24)
    with runtime.db.begin() as conn:
        gone = {"combinator": "and", "rules": [{"field": "gone", "op": "eq", "value": 1}]}
        segment_id = world.insert(conn, "segment", organisation_id=built.organisation_id, name="gone", condition=gone)
        conn.execute(text("UPDATE campaign SET segment_id = :it WHERE id = :id"), {"it": segment_id, "id": campaign_id})
    assert launch.start_due(runtime) == 0
    kept = origin(runtime, campaign_id)
    assert kept["state"] == "draft"
    assert kept["start_at"] == kept["begins"].replace(tzinfo=UTC)


def test_by_own_clocks_a_draft_again_says_when_the_first_zone_came_to_its_time(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    day = (moment_of(runtime, 48)).replace(tzinfo=None, second=0, microsecond=0)
    campaign_id = repeating(runtime, built, schedule=Schedule(own=OwnClock(day)))
    with runtime.db.begin() as conn:
        recurrence.set_next(conn, campaign_id, campaign.now(conn))
    steer.unschedule(runtime, built.organisation_id, campaign_id)
    assert origin(runtime, campaign_id)["start_at"] == OwnClock(day).first_moment()


def test_paused_and_taken_back_it_can_be_mended(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    campaign_id = repeating(runtime, built)
    launch.start_due(runtime)
    recur.pause(runtime, built.organisation_id, campaign_id)
    steer.unschedule(runtime, built.organisation_id, campaign_id)
    assert origin(runtime, campaign_id)["paused_at"] is None
    mend(runtime, built, campaign_id, subject="Mended")
    launch.launch(runtime, built.organisation_id, campaign_id)
    kept = origin(runtime, campaign_id)
    assert kept["state"] == "scheduled"
    assert kept["start_at"] > moment_of(runtime, 0)


def test_launched_again_it_is_to_be_delivered_as_long_after_its_time_as_before(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    campaign_id = repeating(runtime, built, schedule=Schedule(deliver_by=moment_of(runtime, 3)))
    assert launch.start_due(runtime) == 1
    steer.unschedule(runtime, built.organisation_id, campaign_id)
    age(runtime, 48)  # the first time, and what it was to be delivered by, have passed
    launch.launch(runtime, built.organisation_id, campaign_id)
    age(runtime, 24)
    assert launch.start_due(runtime) == 1
    first, last = (datetime.fromisoformat(each.schedule["deliver_by"]) for each in made(runtime))
    assert abs(last - first) <= timedelta(seconds=1)  # the first copy's was not changed: time stood still for it


def test_what_is_launched_after_its_first_time_goes_at_the_next(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    campaign_id = repeating(runtime, built, schedule=Schedule(deliver_by=moment_of(runtime, 3)))
    steer.unschedule(runtime, built.organisation_id, campaign_id)
    age(runtime, 49)
    mend(runtime, built, campaign_id, subject="Mended")
    launch.launch(runtime, built.organisation_id, campaign_id)
    kept = origin(runtime, campaign_id)
    assert kept["state"] == "scheduled"
    assert kept["start_at"] > moment_of(runtime, 0)


def test_by_own_clocks_it_is_launched_after_its_first_time_as_well(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    day = moment_of(runtime, 48).replace(tzinfo=None, second=0, microsecond=0)
    campaign_id = repeating(runtime, built, schedule=Schedule(own=OwnClock(day, day + timedelta(hours=2))))
    steer.unschedule(runtime, built.organisation_id, campaign_id)
    ago = day - timedelta(days=9)
    own = OwnClock(ago, ago + timedelta(hours=2))
    mend(runtime, built, campaign_id, schedule=Schedule(own=own))
    launch.launch(runtime, built.organisation_id, campaign_id)
    assert origin(runtime, campaign_id)["start_at"] > moment_of(runtime, 0)


def test_a_rule_that_has_come_to_its_end_is_not_launched_again(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=3)
    campaign_id = repeating(runtime, built, "FREQ=DAILY;COUNT=2")
    launch.start_due(runtime)
    steer.unschedule(runtime, built.organisation_id, campaign_id)
    age(runtime, 48)
    with pytest.raises(Invalid, match="no time to come"):
        launch.launch(runtime, built.organisation_id, campaign_id)
