"""Promises of alerts: each condition is told once, and once more when it is over; nobody else's is ever seen."""

from __future__ import annotations

from sqlalchemy import text

from app.models import alert
from app.models.alert import MEANINGS, Kind
from app.runtime import Runtime
from tests import world


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Kind)
    assert {meaning.about for meaning in MEANINGS.values()} == {"campaign", "pool"}
    assert {meaning.gravity for meaning in MEANINGS.values()} <= {"bad", "warn", "info"}


def test_a_condition_that_is_found_again_is_counted_not_raised_anew(runtime: Runtime) -> None:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    for message in ("first", "second", "third"):
        with runtime.db.begin() as conn:
            alert.raise_alert(conn, Kind.POOL_DOWN, built.pool_id, message)
    with runtime.db.begin() as conn:
        (found,) = alert.find_open(conn, built.organisation_id)
        notices = conn.execute(text("SELECT count(*) FROM alert_notice")).scalar_one()
    assert (found.times, found.message, found.pool, found.campaign) == (3, "third", "Pool", None)
    assert notices == 1  # the webhook's; nobody here is an admin


def test_what_has_cleared_is_open_no_more_and_may_begin_anew(runtime: Runtime) -> None:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    with runtime.db.begin() as conn:
        alert.raise_alert(conn, Kind.UNKNOWN, built.campaign_id, "3 leads")
        alert.clear(conn, Kind.UNKNOWN, built.campaign_id)
        alert.clear(conn, Kind.UNKNOWN, built.campaign_id)
        assert alert.count_open(conn, built.organisation_id) == 0
        alert.raise_alert(conn, Kind.UNKNOWN, built.campaign_id, "5 leads")
        assert [each.message for each in alert.find_open(conn, built.organisation_id)] == ["5 leads"]
        assert [each.message for each in alert.find_page(conn, built.organisation_id, None, 10)] == ["3 leads"]
