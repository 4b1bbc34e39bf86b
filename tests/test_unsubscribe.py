"""Unsubscribing: only on purpose, at once, for good."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text, true

from app.config import Settings
from app.errors import NotFound
from app.flows.unsubscribe import look, unsubscribe
from app.models import audience, outbox
from app.models.audience import Audience
from app.models.suppression import suppress
from app.runtime import Runtime
from tests import world
from tests.world import World


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(settings)
    yield opened
    opened.close()


@pytest.fixture
def at(runtime: Runtime) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=2, state="sending")


@pytest.fixture
def lead_id(runtime: Runtime, at: World) -> int:
    with runtime.db.begin() as conn:
        return int(conn.execute(text("SELECT min(id) FROM lead")).scalar_one())


@pytest.fixture
def token(runtime: Runtime, at: World, lead_id: int) -> str:
    return runtime.signer.unsubscribe_token(lead_id, at.campaign_id)


def facts(runtime: Runtime) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Every lead's status, every suppression, every event."""
    with runtime.db.begin() as conn:
        return (
            [tuple(row) for row in conn.execute(text("SELECT status FROM lead ORDER BY id"))],
            [tuple(row) for row in conn.execute(text("SELECT email, reason, source FROM suppression"))],
            [
                tuple(row)
                for row in conn.execute(
                    text("SELECT lead_id, kind::text, campaign_id, user_id, pool_id, run, organisation_id FROM event")
                )
            ],
        )


def test_looking_at_the_link_changes_nothing_and_shows_who_it_is_for(runtime: Runtime, token: str) -> None:
    view = look(runtime, token)
    assert (view.organisation, view.address, view.done) == ("First", "l…@mail1.example.com", False)
    assert facts(runtime) == ([("active",), ("active",)], [], [])


def test_unsubscribing_closes_the_lead_suppresses_the_address_and_is_recorded(
    runtime: Runtime, at: World, token: str, lead_id: int
) -> None:
    unsubscribe(runtime, token)
    assert facts(runtime) == (
        [("unsubscribed",), ("active",)],
        [("lead1@mail1.example.com", "unsubscribed", f"campaign {at.campaign_id}")],
        [(lead_id, "unsubscribed", at.campaign_id, at.user_id, at.pool_id, 1, at.organisation_id)],
    )
    assert look(runtime, token).done


def test_unsubscribing_twice_is_recorded_once_even_at_the_same_moment(runtime: Runtime, token: str) -> None:
    presses = [threading.Thread(target=unsubscribe, args=(runtime, token)) for _ in range(6)]
    for press in presses:
        press.start()
    for press in presses:
        press.join()
    _, suppressions, events = facts(runtime)
    assert (len(suppressions), len(events)) == (1, 1)


def test_a_complaint_that_is_read_at_the_same_moment_stops_nobody(runtime: Runtime, at: World, token: str) -> None:
    press = threading.Thread(target=unsubscribe, args=(runtime, token))
    with runtime.db.begin() as conn:
        conn.execute(
            text("INSERT INTO suppression (organisation_id, email, reason) VALUES (:id, :email, 'complained')"),
            {"id": at.organisation_id, "email": "lead1@mail1.example.com"},
        )
        press.start()
        while not conn.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one():
            conn.execute(text("SELECT pg_sleep(0.01)"))
        suppress(conn, at.organisation_id, ["lead1@mail1.example.com"], "complained")  # then its lead is closed
    press.join()
    statuses, suppressions, events = facts(runtime)
    assert (statuses[0], suppressions[0][1], len(events)) == (("unsubscribed",), "complained", 1)


def test_a_forged_token_is_nobodys(runtime: Runtime, token: str) -> None:
    for forged in ("", "x", token[:-1], token[:-1] + ("A" if token[-1] != "A" else "B"), token + "A"):
        with pytest.raises(NotFound):
            look(runtime, forged)
        with pytest.raises(NotFound):
            unsubscribe(runtime, forged)
    assert facts(runtime)[1:] == ([], [])


def test_a_lead_who_was_erased_since_is_told_that_all_is_well(runtime: Runtime, token: str, lead_id: int) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM lead WHERE id = :id"), {"id": lead_id})
    unsubscribe(runtime, token)
    assert look(runtime, token).done
    assert facts(runtime) == ([("active",)], [], [])


def test_a_token_never_reaches_across_organisations(runtime: Runtime, at: World, lead_id: int) -> None:
    other = world.build(runtime.db, secret_key=runtime.settings.secret_key, name="Second")
    unsubscribe(runtime, runtime.signer.unsubscribe_token(lead_id, other.campaign_id))
    assert facts(runtime) == ([("active",), ("active",)], [], [])


def test_of_an_address_that_bounced_the_graver_reason_is_kept(runtime: Runtime, at: World, token: str) -> None:
    with runtime.db.begin() as conn:
        conn.execute(
            text("INSERT INTO suppression (organisation_id, email, reason) VALUES (:o, :e, 'bounced')"),
            {"o": at.organisation_id, "e": "lead1@mail1.example.com"},
        )
        conn.execute(text("UPDATE lead SET status = 'invalid' WHERE email = 'lead1@mail1.example.com'"))
    unsubscribe(runtime, token)
    statuses, suppressions, events = facts(runtime)
    assert statuses[0] == ("unsubscribed",)
    assert suppressions == [("lead1@mail1.example.com", "unsubscribed", f"campaign {at.campaign_id}")]
    assert len(events) == 1


def test_a_failure_half_way_leaves_nothing_behind(runtime: Runtime, token: str) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("ALTER TABLE event ADD CONSTRAINT none CHECK (kind <> 'unsubscribed')"))
    with pytest.raises(Exception, match="none"):
        unsubscribe(runtime, token)
    assert facts(runtime) == ([("active",), ("active",)], [], [])


def test_a_link_made_under_another_secret_key_is_nobodys(runtime: Runtime, settings: Settings, token: str) -> None:
    elsewhere = Runtime(replace(settings, secret_key="a wholly different key, of the same length"))
    try:
        with pytest.raises(NotFound):
            unsubscribe(elsewhere, token)
    finally:
        elsewhere.close()


def test_leaving_one_sender_leaves_the_lead_to_the_others(
    runtime: Runtime, at: World, token: str, lead_id: int
) -> None:
    with runtime.db.begin() as conn:
        other = world.insert(
            conn,
            "sender",
            organisation_id=at.organisation_id,
            pool_id=at.pool_id,
            name="Other",
            address="other@example.com",
        )
    for _ in range(2):
        unsubscribe(runtime, token, only_sender=True)
    view = look(runtime, token)
    assert (view.done, view.left_sender, view.sender) == (False, True, "Sender")
    statuses, suppressions, events = facts(runtime)
    assert (statuses[0], len(suppressions), len(events)) == (("active",), 1, 1)
    with runtime.db.begin() as conn:
        everyone = {
            sender: audience.count(conn, at.organisation_id, sender, true()) for sender in (at.sender_id, other)
        }
        page = outbox.load_page(conn, at.organisation_id, at.campaign_id, [lead_id, lead_id + 1])
        conn.execute(text("UPDATE campaign SET sender_id = :other"), {"other": other})
        page += outbox.load_page(conn, at.organisation_id, at.campaign_id, [lead_id, lead_id + 1])
    assert everyone == {at.sender_id: Audience(1, {"suppressed": 1}), other: Audience(2, {})}
    assert [each.skip for each in page] == ["suppressed", None, None, None]
    unsubscribe(runtime, token)
    assert facts(runtime)[0][0] == ("unsubscribed",)


def test_who_is_suppressed_twice_over_is_one_lead_still(runtime: Runtime, at: World, lead_id: int) -> None:
    with runtime.db.begin() as conn:
        for sender_id in (0, at.sender_id):
            suppress(conn, at.organisation_id, ["lead1@mail1.example.com"], "manual", sender_id=sender_id)
        assert audience.count(conn, at.organisation_id, at.sender_id, true()) == Audience(1, {"suppressed": 1})
        page = outbox.load_page(conn, at.organisation_id, at.campaign_id, [lead_id])
    assert [each.skip for each in page] == ["suppressed"]
