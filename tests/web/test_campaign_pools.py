"""A campaign's page where its sender has two pools: which one it goes through, and how many went by which."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import text

from app.flows import launch, pools, send_range
from app.models import limit, pool
from app.models.limit import Limit
from app.runtime import Runtime
from tests import record
from tests.peers import running_sink
from tests.web.campaign_world import add_draft, add_leads, add_sender
from tests.web.conftest import People, Visit


def words(page: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def test_a_campaign_that_went_through_two_pools_says_how_many_by_which(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    runtime.settings = replace(runtime.settings, range_size=2)
    with running_sink() as first, running_sink(seed=2) as second:
        add_leads(runtime, people.ours, {f"lead{n}": "Ada" for n in range(6)})
        campaign_id = add_draft(runtime, people, sender_id=add_sender(runtime, people.ours, first.url))
        other = pools.add_pool(runtime, people.ours, "Reserve", second.url)
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE sender SET second_pool_id = :other"), {"other": other})
        launch.launch(runtime, people.ours, campaign_id)
        lease = send_range.claim(runtime)
        assert lease is not None
        send_range.send(runtime, send_range.load(runtime, lease))
        assert "By pool" not in words(ann.get(f"/campaigns/{campaign_id}/facts").get_data(as_text=True))
        with runtime.db.begin() as conn:
            pool.pause(conn, lease.pool_id or 0, "HTTP 401: the key was revoked.")
        page = words(ann.get(f"/campaigns/{campaign_id}").get_data(as_text=True))
        assert "HTTP 401: the key was revoked. Meanwhile this campaign goes through “Reserve”." in page
        assert "“Reserve” while that one is down" in page
        send_range.drain(runtime)
        facts = words(ann.get(f"/campaigns/{campaign_id}/facts").get_data(as_text=True))
    assert "By pool Went through Emails Sent Refused Failed Reserve 4 4 0 0 Marketing 2 2 0 0" in facts
    with runtime.db.begin() as conn:
        record.append(
            conn, datetime.now(UTC), "delivered", 1, organisation_id=people.ours, campaign_id=campaign_id, pool_id=other
        )
    facts = words(ann.get(f"/campaigns/{campaign_id}/facts").get_data(as_text=True))
    assert "Reserve 4 4 0 0 1" in facts
    assert "Marketing has told nothing of them yet 2 2 0 0 0" in facts


def test_a_campaign_whose_pool_has_used_up_its_day_says_that_it_goes_on(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    with running_sink() as peer:
        add_leads(runtime, people.ours, {f"lead{n}": "Ada" for n in range(6)})
        campaign_id = add_draft(runtime, people, sender_id=add_sender(runtime, people.ours, peer.url))
        with runtime.db.begin() as conn:
            pool_id = conn.execute(text("SELECT id FROM pool")).scalar_one()
            limit.set_limits(conn, pool_id, [Limit(per_day=4)])
        launch.launch(runtime, people.ours, campaign_id)
        send_range.drain(runtime)
    page = words(ann.get(f"/campaigns/{campaign_id}").get_data(as_text=True))
    assert "4 of 6 done" in page
    assert "The limit of the pool “Marketing” is used up for now." in page
