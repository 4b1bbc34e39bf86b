"""What comes back about messages: webhooks, clicks, people who leave, and answers that were lost or late."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from app.errors import ProviderUnsure
from app.flows import ingest, message_templates, messages, range_messages, track, unsubscribe
from app.flows.message_templates import TemplateDraft
from app.flows.messages import NewMessage
from app.mail import Accepted, Deferred
from app.message_ids import from_public, is_message
from app.models import track as tracking
from app.models import webhook
from app.models.track import PIXEL, Hit
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, later, lose_the_lease, settle_with
from tests.test_messages import ask, build, go, letters, own, read, taken
from tests.world import World

pytestmark = pytest.mark.settings(look_every=0.1)

OFFER = TemplateDraft(
    "Offer",
    "For {{ data.name }}",
    '<p>Hello</p><a href="https://example.com/a">A</a><a href="{{ unsubscribe_url }}">Leave</a>',
    purpose="marketing",
    track_opens="on",
    track_clicks="on",
)
LOST = ProviderUnsure("the reply was lost")


@pytest.fixture
def built(runtime: Runtime, peer: Peer) -> World:
    made = build(runtime, peer)
    message_templates.create(runtime, made.organisation_id, made.user_id, OFFER)
    return made


def rows(runtime: Runtime, statement: str) -> list[tuple[Any, ...]]:
    with runtime.db.begin() as conn:
        return [tuple(row) for row in conn.execute(text(statement))]


def tell(runtime: Runtime, built: World, *told: tuple[str, str], bounce: str = "", hours: int = 0) -> None:
    """A webhook that says these kinds of these messages."""
    events = []
    for kind, public_id in told:
        number = from_public(public_id)
        [(handoff_id,)] = rows(runtime, f"SELECT max(id) FROM handoff WHERE {number} = ANY(lead_ids)")
        at = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        event = {"id": token_hex(8), "type": kind, "time": at, "handoff": handoff_id, "lead": number}
        events.append(event | {"bounce": bounce, "reason": "550 no"})
    with runtime.db.begin() as conn:
        webhook.keep(conn, built.pool_id, token_hex(8), orjson.dumps({"events": events}))
    assert not ingest.read_waiting(runtime)


def test_what_a_webhook_says_of_a_message_stands_in_its_status_and_in_the_record(
    runtime: Runtime, peer: Peer, built: World
) -> None:
    good, bad = ask(runtime, built, own("good"), own("bad"))
    go(runtime)
    tell(runtime, built, ("delivered", good), ("bounced", bad), bounce="hard")
    assert (read(runtime, built, good).state, read(runtime, built, bad).state) == ("delivered", "bounced")
    found = rows(runtime, "SELECT DISTINCT message, domain_id > 0, campaign_id > 1 FROM event WHERE lead_id > 1e12")
    assert found == [(True, True, True)]
    assert rows(runtime, "SELECT email, reason FROM suppression") == [("bad@example.com", "bounced")]


def test_a_lost_answer_is_unknown_until_a_webhook_tells_and_the_message_is_not_sent_again(
    runtime: Runtime, peer: Peer, built: World
) -> None:
    [public_id] = ask(runtime, built, own("ann"))
    range_messages.cut_due(runtime)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], LOST)
    assert read(runtime, built, public_id).state == "unknown"
    tell(runtime, built, ("delivered", public_id))
    assert read(runtime, built, public_id).state == "delivered"
    assert rows(runtime, "SELECT sent, unknown FROM outbox") == [(1, 0)]


def test_a_message_whose_worker_died_is_unknown_and_one_that_was_put_off_goes_later(
    runtime: Runtime, peer: Peer, built: World
) -> None:
    ids = ask(runtime, built, own("ann"), own("bob"))
    range_messages.cut_due(runtime)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], [Accepted("1"), Deferred("later")])
    by_number = {from_public(each): each for each in ids}
    first, second = (by_number[number] for number in call.lead_ids)
    assert (read(runtime, built, first).state, read(runtime, built, second).state) == ("sent", "queued")
    later(runtime, 120)
    hand_over(runtime)
    lose_the_lease(runtime)
    assert read(runtime, built, second).state == "unknown"
    assert rows(runtime, "SELECT DISTINCT message FROM outbox") == [(True,)]


def test_three_soft_bounces_of_two_streams_give_an_address_up_that_no_lead_has(
    runtime: Runtime, peer: Peer, built: World
) -> None:
    ids = []
    for each in (own("ann"), NewMessage("ann@example.com", "receipt"), own("ann")):
        ids += ask(runtime, built, each)
        go(runtime)
    for hours, each in enumerate(ids):
        assert rows(runtime, "SELECT count(*) FROM suppression") == [(0,)]
        tell(runtime, built, ("bounced", each), bounce="soft", hours=3 - hours)
    assert rows(runtime, "SELECT email, reason FROM suppression") == [("ann@example.com", "soft_bounced")]


def test_a_delivery_between_soft_bounces_of_messages_starts_the_count_anew(
    runtime: Runtime, peer: Peer, built: World
) -> None:
    receipt = NewMessage("ann@example.com", "receipt")
    ids = ask(runtime, built, own("ann"), receipt, receipt, receipt)
    go(runtime)
    tell(runtime, built, ("bounced", ids[0]), bounce="soft", hours=5)
    tell(runtime, built, ("bounced", ids[1]), bounce="soft", hours=4)
    tell(runtime, built, ("delivered", ids[3]), hours=3)
    tell(runtime, built, ("bounced", ids[2]), bounce="soft", hours=2)
    assert rows(runtime, "SELECT count(*) FROM suppression") == [(0,)]


def test_who_leaves_by_a_messages_link_gets_no_more_of_what_markets(runtime: Runtime, peer: Peer, built: World) -> None:
    offer = NewMessage("ann@example.com", "offer", data={"name": "Ann"})
    ask(runtime, built, offer)
    go(runtime)
    [sent] = letters(peer)
    token = re.search(r"/u/([\w-]{32})", sent["html"])
    assert token
    assert sent["headers"]["List-Unsubscribe"].endswith(f"/u/{token[1]}>")
    view = unsubscribe.look(runtime, token[1])
    assert (view.address, view.done, view.untracked) == ("a…@example.com", False, None)
    unsubscribe.unsubscribe(runtime, token[1])
    assert unsubscribe.look(runtime, token[1]).done
    again, receipt = ask(runtime, built, offer, own("ann"))
    go(runtime)
    assert (read(runtime, built, again).state, read(runtime, built, receipt).state) == ("skipped", "sent")
    assert taken(peer) == 2


def test_what_readers_asked_for_offers_no_way_to_unsubscribe(runtime: Runtime, peer: Peer, built: World) -> None:
    ask(runtime, built, own("ann"))
    go(runtime)
    [sent] = letters(peer)
    assert sent["headers"] == {}
    assert sent["html"] == "<p>Hello <b>ann</b></p>"
    assert sent["text"].strip() == "Hello ann"


def test_opens_and_clicks_of_messages_are_seen_and_links_outlive_an_edit(
    runtime: Runtime, peer: Peer, built: World
) -> None:
    [first] = ask(runtime, built, NewMessage("ann@example.com", "offer"))
    go(runtime)
    [sent] = letters(peer)
    link = re.search(r'/t/([\w-]+)/(\d+)"', sent["html"])
    assert link
    message_id, campaign_id = runtime.tracking.read(link[1]) or (0, 0)
    assert message_id == from_public(first)
    assert is_message(message_id)
    with runtime.db.begin() as conn:
        template_id = conn.execute(text("SELECT id FROM message_template WHERE name = 'Offer'")).scalar_one()
    changed = replace(OFFER, html=OFFER.html.replace("com/a", "com/b"))
    message_templates.update(runtime, built.organisation_id, built.user_id, template_id, changed)
    with runtime.db.begin() as conn:
        assert tracking.find_links(conn, campaign_id) == ["https://example.com/a", "https://example.com/b"]
        at = datetime.now(UTC) + timedelta(minutes=1)
        tracking.keep(
            conn, [Hit(campaign_id, message_id, int(link[2]), at, None), Hit(campaign_id, message_id, PIXEL, at, None)]
        )
    track.read_hits(runtime, wait=-3600)
    steps = [(step.kind, step.url, step.machine) for step in read(runtime, built, first).events[1:]]
    assert sorted(steps) == [("clicked", "https://example.com/a", False), ("opened", None, False)]
    ask(runtime, built, NewMessage("bob@example.com", "offer"))
    go(runtime)
    newest = max(letters(peer), key=lambda each: each["lead"])
    assert '/2"' in newest["html"]


def test_a_template_that_was_changed_says_the_new_from_then_on(runtime: Runtime, peer: Peer, built: World) -> None:
    ask(runtime, built, NewMessage("ann@example.com", "offer", data={"name": "Ann"}))
    go(runtime)
    with runtime.db.begin() as conn:
        template_id = conn.execute(text("SELECT id FROM message_template WHERE name = 'Offer'")).scalar_one()
    message_templates.update(runtime, built.organisation_id, built.user_id, template_id, replace(OFFER, subject="New"))
    ask(runtime, built, NewMessage("bob@example.com", "offer"))
    go(runtime)
    assert {each["to"]: each["subject"] for each in letters(peer)} == {
        "ann@example.com": "For Ann",
        "bob@example.com": "New",
    }
    versions = message_templates.list_versions(runtime, built.organisation_id, template_id)
    assert [each.version for each in versions] == [2, 1]


def test_a_template_that_is_changed_while_its_first_message_is_accepted_says_the_new(
    runtime: Runtime, peer: Peer, built: World
) -> None:
    asked = NewMessage("ann@example.com", template="Offer", data={"name": "Ann"})
    [(template_id,)] = rows(runtime, "SELECT id FROM message_template WHERE name = 'Offer'")
    new = replace(OFFER, subject="Anew for {{ data.name }}")
    with ThreadPoolExecutor(1) as other:
        with runtime.db.begin() as conn:
            messages.accept(conn, built.organisation_id, built.user_id, [asked])
            changed = other.submit(
                message_templates.update, runtime, built.organisation_id, built.user_id, template_id, new
            )
            with suppress(TimeoutError):  # it waits for the stream that is being opened
                changed.result(timeout=1.0)
        changed.result()
    go(runtime)
    assert [letter["subject"] for letter in letters(peer)] == ["Anew for Ann"]


def test_messages_of_another_organisation_are_nobodys(runtime: Runtime, peer: Peer, built: World) -> None:
    [public_id] = ask(runtime, built, own("ann"))
    with runtime.db.begin() as conn:
        assert not messages.find_page(conn, built.organisation_id + 1)
        assert [each.id for each in messages.find_page(conn, built.organisation_id)] == [public_id]
