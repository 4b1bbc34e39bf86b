"""Promises of alerts: each condition stands once, is shown to its own people alone, and comes back when it is new."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.errors import NotFound
from app.flows import endpoints
from app.models import alert
from app.models.alert import MEANINGS, Alert, Kind
from app.runtime import Runtime
from tests import world
from tests.world import World


@pytest.fixture
def built(runtime: Runtime) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key)


def raise_it(runtime: Runtime, kind: Kind, subject: int, message: str = "It is so.") -> None:
    with runtime.db.begin() as conn:
        alert.raise_alert(conn, kind, subject, message)


def clear_it(runtime: Runtime, kind: Kind, subject: int) -> None:
    with runtime.db.begin() as conn:
        alert.clear(conn, kind, subject)


def open_ones(runtime: Runtime, built: World) -> list[Alert]:
    with runtime.db.begin() as conn:
        found = alert.find_open(conn, built.organisation_id)
        assert alert.count_open(conn, built.organisation_id) == len(found)
        return found


def dismiss_all(runtime: Runtime, built: World) -> None:
    for each in open_ones(runtime, built):
        with runtime.db.begin() as conn:
            alert.dismiss(conn, built.organisation_id, each.id, built.user_id)


def told(runtime: Runtime) -> list[tuple[str, str | None]]:
    """(about, address) of every notice; the webhook's address is None."""
    with runtime.db.begin() as conn:
        rows = conn.execute(
            text('SELECT about, email FROM alert_notice AS n LEFT JOIN "user" AS u ON u.id = n.user_id ORDER BY n.id')
        )
        return [(row.about, row.email) for row in rows]


def add_user(runtime: Runtime, built: World, name: str, role: str) -> int:
    with runtime.db.begin() as conn:
        email = f"{name}@example.com"
        values = {"organisation_id": built.organisation_id, "email": email, "name": name, "password_hash": "!"}
        return world.insert(conn, "user", **values, role=role)


def an_endpoint(runtime: Runtime, built: World) -> int:
    entry = endpoints.Entry("Warehouse", "https://hooks.example.com/events")
    return endpoints.add(runtime, built.organisation_id, entry).id


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Kind)
    assert {meaning.about for meaning in MEANINGS.values()} == {"campaign", "pool", "endpoint", "sender"}
    assert {meaning.gravity for meaning in MEANINGS.values()} <= {"bad", "warn", "info"}


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_can_be_raised_and_cleared(runtime: Runtime, built: World, kind: Kind) -> None:
    about = MEANINGS[kind].about
    subjects = {"campaign": built.campaign_id, "pool": built.pool_id, "sender": built.sender_id}
    subject = subjects[about] if about in subjects else an_endpoint(runtime, built)
    raise_it(runtime, kind, subject)
    (found,) = open_ones(runtime, built)
    ids = (found.pool_id, found.campaign_id, found.endpoint_id, found.sender_id)
    assert (found.kind, [each for each in ids if each is not None]) == (kind, [subject])
    names = {"campaign": found.campaign, "pool": found.pool, "endpoint": found.endpoint, "sender": found.sender}
    assert {name for name, value in names.items() if value is not None} == {about}
    clear_it(runtime, kind, subject)
    assert open_ones(runtime, built) == []


def test_a_condition_that_is_found_again_is_counted_not_told_anew(runtime: Runtime, built: World) -> None:
    for message in ("first", "second", "third"):
        raise_it(runtime, Kind.UNKNOWN, built.campaign_id, message)
    (found,) = open_ones(runtime, built)
    assert (found.times, found.message) == (3, "third")
    assert found.seen_at > found.raised_at
    assert len(told(runtime)) == 2  # the owner, and the webhook


def test_what_has_cleared_is_open_no_more_and_may_begin_anew(runtime: Runtime, built: World) -> None:
    raise_it(runtime, Kind.UNKNOWN, built.campaign_id, "3 leads")
    clear_it(runtime, Kind.UNKNOWN, built.campaign_id)
    clear_it(runtime, Kind.UNKNOWN, built.campaign_id)
    assert open_ones(runtime, built) == []
    raise_it(runtime, Kind.UNKNOWN, built.campaign_id, "5 leads")
    assert [each.message for each in open_ones(runtime, built)] == ["5 leads"]
    with runtime.db.begin() as conn:
        assert [each.message for each in alert.find_page(conn, built.organisation_id, None, 10)] == ["3 leads"]
    assert [about for about, _ in told(runtime)] == ["raised", "raised", "cleared", "cleared", "raised", "raised"]


def test_kinds_and_subjects_do_not_clear_each_other(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        other = world.add_campaign(conn, built.organisation_id, built.user_id, built.sender_id)
    raise_it(runtime, Kind.UNKNOWN, built.campaign_id)
    raise_it(runtime, Kind.UNKNOWN, other)
    raise_it(runtime, Kind.SUMS_DIFFER, built.campaign_id)
    clear_it(runtime, Kind.UNKNOWN, built.campaign_id)
    assert {(each.kind, each.campaign_id) for each in open_ones(runtime, built)} == {
        (Kind.UNKNOWN, other),
        (Kind.SUMS_DIFFER, built.campaign_id),
    }
    with runtime.db.begin() as conn:
        assert [each.campaign_id for each in alert.find_open(conn, built.organisation_id, campaign_id=other)] == [other]
        assert alert.find_open(conn, built.organisation_id, pool_id=built.pool_id) == []


def test_an_alert_of_what_is_gone_is_no_error(runtime: Runtime, built: World) -> None:
    raise_it(runtime, Kind.UNKNOWN, 2**31 - 1)
    raise_it(runtime, Kind.POOL_DOWN, 32_000)
    assert open_ones(runtime, built) == []


def test_a_campaigns_owner_is_told_and_of_a_pool_the_admins(runtime: Runtime, built: World) -> None:
    add_user(runtime, built, "ada", "admin")
    add_user(runtime, built, "max", "marketer")
    raise_it(runtime, Kind.UNKNOWN, built.campaign_id)
    owner = f"owner{built.organisation_id}@example.com"
    assert set(told(runtime)) == {("raised", owner), ("raised", None)}
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM alert_notice"))
    raise_it(runtime, Kind.POOL_DOWN, built.pool_id)
    assert set(told(runtime)) == {("raised", "ada@example.com"), ("raised", None)}


def test_where_the_owner_has_left_the_admins_are_told(runtime: Runtime, built: World) -> None:
    add_user(runtime, built, "ada", "admin")
    with runtime.db.begin() as conn:
        conn.execute(text('UPDATE "user" SET disabled_at = now() WHERE id = :id'), {"id": built.user_id})
    raise_it(runtime, Kind.UNKNOWN, built.campaign_id)
    assert set(told(runtime)) == {("raised", "ada@example.com"), ("raised", None)}


def test_a_dismissed_condition_is_quiet_while_it_stands_and_new_after_it_cleared(
    runtime: Runtime, built: World
) -> None:
    raise_it(runtime, Kind.POOL_DOWN, built.pool_id)
    dismiss_all(runtime, built)
    raise_it(runtime, Kind.POOL_DOWN, built.pool_id)
    assert open_ones(runtime, built) == []
    assert told(runtime) == [("raised", None)]
    clear_it(runtime, Kind.POOL_DOWN, built.pool_id)
    raise_it(runtime, Kind.POOL_DOWN, built.pool_id)
    assert [each.times for each in open_ones(runtime, built)] == [1]


def test_a_dismissed_condition_that_still_stands_comes_back_after_a_day(runtime: Runtime, built: World) -> None:
    raise_it(runtime, Kind.POOL_DOWN, built.pool_id)
    dismiss_all(runtime, built)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE alert SET dismissed_at = now() - interval '25 hours'"))
    raise_it(runtime, Kind.POOL_DOWN, built.pool_id)
    assert [each.times for each in open_ones(runtime, built)] == [1]
    assert told(runtime) == [("raised", None), ("raised", None)]


def test_a_dismissed_occurrence_is_over_and_the_next_one_is_new(runtime: Runtime, built: World) -> None:
    raise_it(runtime, Kind.DOUBLED, built.campaign_id, "lead 7")
    dismiss_all(runtime, built)
    raise_it(runtime, Kind.DOUBLED, built.campaign_id, "lead 8")
    assert [(each.message, each.times) for each in open_ones(runtime, built)] == [("lead 8", 1)]
    with runtime.db.begin() as conn:
        (past,) = alert.find_page(conn, built.organisation_id, None, 10)
    assert (past.dismissed_by, past.cleared_at is not None) == ("Owner", True)


def test_nobody_sees_or_dismisses_anothers(runtime: Runtime, built: World) -> None:
    theirs = world.build(runtime.db, secret_key=runtime.settings.secret_key, name="Theirs")
    raise_it(runtime, Kind.UNKNOWN, theirs.campaign_id)
    (found,) = open_ones(runtime, theirs)
    assert open_ones(runtime, built) == []
    with runtime.db.begin() as conn, pytest.raises(NotFound):
        alert.dismiss(conn, built.organisation_id, found.id, built.user_id)
    assert len(open_ones(runtime, theirs)) == 1
    with runtime.db.begin() as conn:
        assert alert.find_open(conn, built.organisation_id, campaign_id=theirs.campaign_id) == []
        assert [each.id for each in alert.find_standing(conn)] == [found.id]


def test_what_is_past_is_paged_by_key(runtime: Runtime, built: World) -> None:
    for number in range(5):
        raise_it(runtime, Kind.UNKNOWN, built.campaign_id, str(number))
        clear_it(runtime, Kind.UNKNOWN, built.campaign_id)
    with runtime.db.begin() as conn:
        first = alert.find_page(conn, built.organisation_id, None, 3)
        rest = alert.find_page(conn, built.organisation_id, first[-1].id, 3)
    assert [each.message for each in first + rest] == ["4", "3", "2", "1", "0"]
