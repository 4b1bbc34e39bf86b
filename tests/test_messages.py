"""Messages through real servers: accepted whole or not at all, never passed over, sent once, and their way is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from app.config import Settings
from app.errors import Conflict, Invalid, NotFound
from app.flows import finish, launch, message_templates, messages, range_messages, send_range
from app.flows.message_templates import TemplateDraft
from app.flows.messages import NewMessage
from app.models import campaign, message, suppression
from app.models.suppression import Entry
from app.models.template import LONGEST_BODY
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.waiting import make_due
from tests.world import World

RECEIPT = TemplateDraft(
    "Receipt",
    "Order {{ data.order.number }}",
    "<p>Hello {{ data.name | default: 'you' }}</p><ul>{% for item in data.items %}<li>{{ item.title }}</li>{% endfor %}"
    '</ul><a href="{{ data.link }}">See it</a> <a href="https://example.com/help">Help</a>',
)
SOON = timedelta(hours=1)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100, look_every=0.1))
    yield runtime
    runtime.close()


def build(runtime: Runtime, peer: Peer, leads: int = 0) -> World:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=leads, provider_url=peer.url)
    message_templates.create(runtime, built.organisation_id, built.user_id, RECEIPT)
    return built


def own(name: str, **more: object) -> NewMessage:
    return NewMessage(f"{name}@example.com", subject=f"Hi {name}", html=f"<p>Hello <b>{name}</b></p>", **more)  # type: ignore[arg-type]


def ask(runtime: Runtime, built: World, *asked: NewMessage) -> list[str]:
    with runtime.db.begin() as conn:
        return messages.accept(conn, built.organisation_id, built.user_id, asked).ids


def read(runtime: Runtime, built: World, message_id: str) -> messages.MessageStatus:
    with runtime.db.begin() as conn:
        return messages.read(conn, built.organisation_id, message_id)


def taken(peer: Peer) -> int:
    """Emails that the provider took, each once."""
    stats = peer.sink.book.stats()
    assert stats["duplicates"] == 0
    return int(stats["accepted"])


def letters(peer: Peer) -> list[dict[str, Any]]:
    return peer.sink.book.messages(500)


def go(runtime: Runtime) -> int:
    """Cut what is due and send it; how many messages were cut."""
    cut = range_messages.cut_due(runtime)
    send_range.drain(runtime)
    return cut


def test_a_message_is_sent_and_its_way_is_told(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    [message_id] = ask(runtime, built, own("ann", metadata={"order": 7}))
    assert read(runtime, built, message_id).state == "queued"
    assert go(runtime) == 1
    status = read(runtime, built, message_id)
    assert (status.state, status.to, status.metadata, status.template) == (
        "sent",
        "ann@example.com",
        {"order": 7},
        None,
    )
    assert [step.kind for step in status.events] == ["sent"]
    [email] = letters(peer)
    assert email["to"] == "ann@example.com"


def test_a_template_is_filled_with_what_each_message_brings(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    data = {"order": {"number": 12}, "items": [{"title": "Tea & milk"}, {"title": "Sugar"}], "link": "https://x.org/a"}
    ask(runtime, built, NewMessage("a@example.com", "receipt", data=data), NewMessage("b@example.com", "RECEIPT"))
    go(runtime)
    preview = message_templates.preview(runtime, built.organisation_id, 1, data)
    assert preview.subject == "Order 12"
    assert "<li>Tea &amp; milk</li><li>Sugar</li>" in preview.html
    assert "Hello you" in preview.html
    assert taken(peer) == 2


def test_what_waits_is_sent_when_its_time_has_come_and_not_before(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    later = datetime.now(UTC) + SOON
    ids = ask(runtime, built, own("ann", send_at=later), own("bob", send_at=later), own("cy", send_at=later + SOON))
    assert go(runtime) == 0
    assert {read(runtime, built, each).state for each in ids} == {"scheduled"}
    make_due(runtime)
    assert go(runtime) == 3
    assert taken(peer) == 3
    assert go(runtime) == 0


def test_of_messages_with_a_fault_none_is_accepted_and_every_fault_is_named(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    far = datetime.now(UTC) + timedelta(days=400)
    wrong = [
        own("ann"),
        NewMessage("nobody", subject="Hi", html="<p>Hi</p>"),
        NewMessage("b@example.com", "no such template"),
        own("cy", send_at=far),
        own("di", sender="else@example.com"),
        NewMessage("e@example.com"),
        own("fi", metadata={"a": "\0"}),
        own("gus", metadata={"a": 2**70}),
    ]
    with pytest.raises(Invalid) as raised:
        ask(runtime, built, *wrong)
    named = [fault.pointer for fault in raised.value.faults]
    assert named == [
        *("1.to", "2.template", "3.send_at", "4.sender", "5.subject", "5.html", "6.metadata", "7.metadata"),
    ]
    with runtime.db.begin() as conn:
        assert not messages.find_page(conn, built.organisation_id)


def test_a_key_asked_for_again_is_the_same_message_and_another_message_under_it_is_refused(
    runtime: Runtime, peer: Peer
) -> None:
    built = build(runtime, peer)
    first = ask(runtime, built, own("ann", idempotency_key="k1"), own("ann", idempotency_key="k1"), own("bob"))
    assert first[0] == first[1] != first[2]
    assert ask(runtime, built, own("ann", idempotency_key="k1")) == first[:1]
    with pytest.raises(Invalid) as raised:
        ask(runtime, built, own("bob"), own("bob", idempotency_key="k1"))
    assert [fault.pointer for fault in raised.value.faults] == ["1.idempotency_key"]
    assert go(runtime) == 2
    assert taken(peer) == 2


def test_a_message_whose_commit_is_late_is_never_passed_over(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    ask(runtime, built, own("opens the stream"[:3]))
    with runtime.db.begin() as late:
        messages.accept(late, built.organisation_id, built.user_id, [own("late")])
        ask(runtime, built, own("quick"))
        assert go(runtime) == 2  # those that are committed, one of them accepted after the late one
    assert go(runtime) == 1
    assert {email["to"] for email in letters(peer)} >= {"late@example.com", "quick@example.com"}


def test_two_rangers_at_once_cut_every_message_once(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    for batch in range(20):
        ask(runtime, built, *(own(f"n{batch}x{each}") for each in range(10)))
    cut: list[int] = []
    threads = [threading.Thread(target=lambda: cut.append(range_messages.cut_due(runtime))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(cut) == 200
    with runtime.db.begin() as conn:
        cut_ids = conn.execute(
            text("SELECT count(*), count(DISTINCT id) FROM (SELECT unnest(lead_ids) AS id FROM outbox) AS each")
        ).one()
    assert tuple(cut_ids) == (200, 200)


def test_a_message_that_is_cancelled_before_its_time_never_leaves(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    later = datetime.now(UTC) + SOON
    ids = ask(runtime, built, *(own(f"n{each}", send_at=later) for each in range(3)))
    for each in ids[:2]:
        with runtime.db.begin() as conn:
            messages.cancel(conn, built.organisation_id, each)
        assert read(runtime, built, each).state == "cancelled"
    with runtime.db.begin() as conn, pytest.raises(Conflict):
        messages.cancel(conn, built.organisation_id, ids[0])
    make_due(runtime)
    assert go(runtime) == 1
    with runtime.db.begin() as conn, pytest.raises(Conflict):
        messages.cancel(conn, built.organisation_id, ids[2])
    with runtime.db.begin() as conn, pytest.raises(NotFound):
        messages.cancel(conn, built.organisation_id + 1, ids[2])
    assert [email["to"] for email in letters(peer)] == ["n2@example.com"]


def test_messages_are_listed_by_key_and_of_their_organisation_only(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    ids = ask(runtime, built, *(own(f"n{each}") for each in range(7)))
    with runtime.db.begin() as conn:
        first = messages.find_page(conn, built.organisation_id, limit=4)
        rest = messages.find_page(conn, built.organisation_id, before=first[-1].id, limit=4)
        assert {each.id for each in [*first, *rest]} == set(ids)
        assert len(first) + len(rest) == 7
        assert not messages.find_page(conn, built.organisation_id + 1)


def test_who_unsubscribed_gets_what_they_asked_for_and_a_bad_address_gets_nothing(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO suppression (organisation_id, email, sender_id, reason)"
                " VALUES (:o, :a, 0, :ra), (:o, :b, 0, :rb)"
            ),
            {
                "o": built.organisation_id,
                "a": "left@example.com",
                "ra": "unsubscribed",
                "b": "bad@example.com",
                "rb": "bounced",
            },
        )
    left, bad = ask(runtime, built, own("left"), own("bad"))
    go(runtime)
    assert read(runtime, built, left).state == "sent"
    assert read(runtime, built, bad).state == "skipped"
    assert read(runtime, built, bad).events[0].reason == "suppressed"


SUPPRESSED = (  # address, sender (0: all of them), reason
    ("bounced@example.com", 0, "bounced"),
    ("ours@example.com", 1, "complained"),
    ("theirs@example.com", 2, "complained"),
    ("left@example.com", 1, "unsubscribed"),
    ("both@example.com", 0, "unsubscribed"),
    ("both@example.com", 1, "complained"),
)


@pytest.mark.parametrize("others", [0, 100], ids=["read", "looked up"])
@pytest.mark.parametrize(
    ("purpose", "gone"),
    [
        ("transactional", {"bounced@example.com", "ours@example.com", "both@example.com"}),
        ("marketing", {"bounced@example.com", "ours@example.com", "left@example.com", "both@example.com"}),
    ],
)
def test_who_of_a_page_is_suppressed_is_the_same_looked_up_or_read(
    runtime: Runtime, peer: Peer, purpose: str, gone: set[str], others: int
) -> None:
    built = build(runtime, peer)
    names = ["bounced", "ours", "theirs", "left", "both", *(f"n{each}" for each in range(35))]
    ask(runtime, built, *map(own, names))
    range_messages.cut_due(runtime)
    lease = send_range.claim(runtime)
    assert lease is not None
    senders = {0: 0, 1: built.sender_id, 2: built.sender_id + 1}
    with runtime.db.begin() as conn:
        entries = [Entry(email, reason, sender_id=senders[sender]) for email, sender, reason in SUPPRESSED]
        entries += [Entry(f"other{each}@example.com", "manual") for each in range(others)]
        suppression.suppress_each(conn, built.organisation_id, entries)
        suppression.suppress_each(conn, other_organisation(conn), [Entry("n1@example.com", "bounced")])
        sending = replace(campaign.load_sending(conn, lease.campaign_id), purpose=purpose)
        leads = message.load_page(conn, sending, lease.lead_ids)
    assert {lead.email for lead in leads if lead.skip == "suppressed"} == gone
    assert {lead.email for lead in leads if lead.skip is None} == {f"{name}@example.com" for name in names} - gone


def other_organisation(conn: Connection) -> int:
    return int(conn.execute(text("INSERT INTO organisation (name) VALUES ('Other') RETURNING id")).scalar_one())


def test_a_page_of_which_some_are_gone_gives_each_its_own_and_leaves_the_others_out(
    runtime: Runtime, peer: Peer
) -> None:
    built = build(runtime, peer)
    ask(runtime, built, *(own(f"lead{n}") for n in range(60)))
    range_messages.cut_due(runtime)
    lease = send_range.claim(runtime)
    assert lease is not None
    gone = {lease.lead_ids[place] for place in (0, 7, 8, 59)}
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM message WHERE id = ANY(:ids)"), {"ids": list(gone)})
    leads = send_range.load(runtime, lease).leads
    assert [lead.id for lead in leads] == lease.lead_ids
    assert {lead.id for lead in leads if lead.skip == "erased"} == gone
    there = dict(stored_addresses(runtime))
    assert {lead.id: lead.email for lead in leads if lead.skip is None} == there


def stored_addresses(runtime: Runtime) -> list[tuple[int, str]]:
    with runtime.db.begin() as conn:
        return [tuple(row) for row in conn.execute(text("SELECT id, email FROM message"))]


def test_messages_go_before_a_campaign_and_a_stream_never_ends(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=500)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    ask(runtime, built, own("ann"))
    range_messages.cut_due(runtime)
    lease = send_range.claim(runtime)
    assert lease is not None
    assert lease.campaign_id != built.campaign_id
    page = send_range.load(runtime, lease)
    assert page.source.message
    send_range.send(runtime, page)
    send_range.drain(runtime)
    assert finish.try_finish(runtime, lease.campaign_id) is None
    assert finish.finish_due(runtime) == 0
    with runtime.db.begin() as conn:
        states = dict(conn.execute(text("SELECT kind, state FROM campaign ORDER BY id")).all())  # type: ignore[arg-type]
    assert states == {"campaign": "finished", "messages": "sending"}
    assert taken(peer) == 501


def test_messages_that_bring_their_own_content_are_cut_into_ranges_that_a_worker_can_hold(
    runtime: Runtime, peer: Peer
) -> None:
    built = build(runtime, peer)
    send_at = datetime.now(UTC) + SOON
    short = (NewMessage(f"r{n}@example.com", template="Receipt", send_at=send_at) for n in range(600))
    ask(runtime, built, *short)
    ask(runtime, built, *(own(f"o{n}", send_at=send_at) for n in range(600)))
    make_due(runtime)
    assert range_messages.cut_due(runtime) == 1200
    with runtime.db.begin() as conn:
        assert sorted(conn.execute(text("SELECT size FROM outbox")).scalars()) == [100, message.OWN_RANGE, 600]
    assert message.OWN_RANGE * 4 * LONGEST_BODY < 1 << 30  # as much as one value may hold


def test_many_that_are_due_now_are_a_range_at_once(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    ask(runtime, built, *(own(f"n{each}") for each in range(messages.ENOUGH)))
    with runtime.db.begin() as conn:
        assert message.find_due(conn) == []
    send_range.drain(runtime)
    assert taken(peer) == messages.ENOUGH
