"""Parts of an audience: one for each due time and variant; every lead is in exactly one, and is found in it."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from app.flows import launch
from app.models import audience, campaign, ledger, outbox, recipient, track
from app.models.outbox import Place, Test
from app.runtime import Runtime
from tests import world
from tests.world import World

BY_VARIANT = "SELECT variant, sum(size)::int AS leads FROM outbox GROUP BY variant"
ZONES = ("Europe/Berlin", "America/New_York", "Nowhere/At_All")


@pytest.fixture
def built(runtime: Runtime) -> World:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=400)
    with runtime.db.begin() as conn:
        for number, zone in enumerate(ZONES):
            conn.execute(text("UPDATE lead SET time_zone = :zone WHERE id % 4 = :n"), {"zone": zone, "n": number})
    return built


def cut(conn: Connection, built: World, size: int, places: list[Place], test: Test | None) -> int:
    """Freeze and cut as a launch does; the number of leads."""
    conn.execute(text("DELETE FROM outbox"))
    conn.execute(text("DROP TABLE IF EXISTS chosen"))
    chosen = audience.choose(conn, built.organisation_id, None, launch.clause(conn, 1, None), zones=True)
    campaign.freeze(
        conn,
        built.campaign_id,
        run=1,
        condition=launch.EVERYONE,
        audience=chosen.included,
        exclusions={},
        parts=outbox.parts_of(places, test),
    )
    return outbox.cut(conn, built.campaign_id, 1, size, places=places, test=test)


def now(conn: Connection) -> datetime:
    return campaign.now(conn)


@given(
    sizes=st.lists(st.integers(1, 500), min_size=0, max_size=3),
    test=st.none() | st.builds(Test, st.integers(1, 100), st.integers(2, 5)),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_lead_is_in_one_part_and_is_found_there(
    runtime: Runtime, built: World, sizes: list[int], test: Test | None
) -> None:
    with runtime.db.begin() as conn:
        places = [Place(now(conn), None, size, (ZONES[n],)) for n, size in enumerate(sizes)]
        assert cut(conn, built, 100, places, test) == 400
        lead_ids = list(conn.execute(text("SELECT id FROM lead ORDER BY id")).scalars())
        kept = list(conn.execute(text("SELECT part, lead_ids, size FROM outbox ORDER BY part, first_lead")))
        assert sorted(lead for row in kept for lead in row.lead_ids) == lead_ids
        assert max(row.part for row in kept) < outbox.parts_of(places, test)
        for before, after in pairwise(kept):
            assert before.part < after.part or before.lead_ids[-1] < after.lead_ids[0]
        found = track.find_places(conn, [(built.campaign_id, lead) for lead in lead_ids])
        assert len(found) == 400
        for lead in lead_ids[::37]:
            assert ledger.find_first_range(conn, built.campaign_id, lead) is not None
        conn.execute(text("UPDATE campaign SET launched_at = now()"))
        for lead in lead_ids[::37]:
            assert recipient.find_timeline(conn, built.organisation_id, lead).chapters


def test_the_rest_of_a_test_waits_and_its_share_is_near_to_what_was_asked(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        assert cut(conn, built, 1000, [], Test(20, 4)) == 400
        leads = {row.variant: row.leads for row in conn.execute(text(BY_VARIANT))}
        never = conn.execute(text("SELECT bool_and((due_at = 'infinity') = (variant = -1)) FROM outbox")).scalar_one()
    assert set(leads) == {-1, 0, 1, 2, 3}
    assert 50 <= 400 - leads[-1] <= 115  # 80 and four standard deviations
    assert all(4 <= leads[variant] <= 40 for variant in range(4))
    assert never


def test_leads_go_at_the_time_of_their_zone_and_others_at_that_of_the_first_place(
    runtime: Runtime, built: World
) -> None:
    with runtime.db.begin() as conn:
        moment = now(conn)
        first, second = moment + timedelta(hours=1), moment + timedelta(hours=7)
        places = [
            Place(first, None, 10, ("Europe/Berlin",)),
            Place(second, second + timedelta(hours=8), 30, ZONES[1:2]),
        ]
        cut(conn, built, 1000, places, None)
        due = conn.execute(
            text(
                "SELECT lead.time_zone, due_at, closes_at, max(size), count(*) FROM outbox"
                " CROSS JOIN LATERAL unnest(lead_ids) AS each (lead_id) JOIN lead ON lead.id = lead_id"
                " GROUP BY 1, 2, 3 ORDER BY 1"
            )
        ).all()
    assert [tuple(row) for row in due] == [
        ("America/New_York", second, second + timedelta(hours=8), 30, 100),
        ("Europe/Berlin", first, None, 10, 100),
        ("Nowhere/At_All", first, None, 10, 100),
        (None, first, None, 10, 100),
    ]


def test_a_range_past_its_window_is_not_claimed(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        cut(conn, built, 1000, [], None)
        campaign.move(conn, built.campaign_id, "sending")
        conn.execute(text("UPDATE outbox SET due_at = now() - interval '1 hour', closes_at = now()"))
    with runtime.db.begin() as conn:
        assert campaign.pick(conn) == []
        assert outbox.claim(conn, built.campaign_id, runtime.id, 60.0) is None
        conn.execute(text("UPDATE outbox SET closes_at = now() + interval '1 minute'"))
        assert [choice.campaign_id for choice in campaign.pick(conn)] == [built.campaign_id]
        lease = outbox.claim(conn, built.campaign_id, runtime.id, 60.0)
    assert lease is not None
    assert len(lease.lead_ids) == 400


def test_what_is_put_off_keeps_its_part_and_its_window(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        closes = now(conn) + timedelta(hours=1)
        cut(
            conn,
            built,
            1000,
            [Place(now(conn), closes, 1000, ZONES[:1]), Place(now(conn), closes, 1000, ZONES[1:])],
            None,
        )
        range_id = conn.execute(text("SELECT id FROM outbox WHERE part = 1")).scalar_one()
        outbox.put_off(conn, range_id, [1, 5], seconds=7200.0)
        later = world.row(conn, "SELECT part, closes_at, due_at > closes_at AS past FROM outbox WHERE parent_id > 0")
    assert dict(later) == {"part": 1, "closes_at": closes, "past": True}
