"""The pages of messages: templates, streams, and what became of one."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.flows import messages, range_messages, send_range
from app.flows.messages import NewMessage
from app.runtime import Runtime
from tests.peers import running_sink
from tests.web.campaign_world import add_sender
from tests.web.conftest import People, Visit

TEMPLATE = {
    "name": "Receipt",
    "purpose": "transactional",
    "subject": "Order {{ data.number }}",
    "html": "<p>Thank you, {{ data.name | default: 'friend' }}.</p>",
    "text": "",
    "track_opens": "off",
    "track_clicks": "off",
    "sender": "",
}


def ask(runtime: Runtime, people: People, *asked: NewMessage) -> list[str]:
    with runtime.db.begin() as conn:
        return messages.accept(conn, people.ours, people.ann, asked).ids


def test_a_template_is_written_changed_looked_at_and_deleted(runtime: Runtime, people: People, ann: Visit) -> None:
    made = ann.post("/messages/templates/new", TEMPLATE)
    assert made.status_code == 302
    place = made.location
    shown = ann.get(f"{place}/preview?data=%7B%22number%22%3A%207%7D")
    assert "Order 7" in shown.text
    framed = ann.get(f"{place}/preview.html?data=%7B%22name%22%3A%20%22A%26B%22%7D")
    assert framed.text == "<p>Thank you, A&amp;B.</p>"
    assert "sandbox" in framed.headers["Content-Security-Policy"]
    assert ann.post(place, TEMPLATE | {"subject": "Paid"}).status_code == 302
    assert "Receipt" in ann.get("/messages").text
    assert ann.post(f"{place}/delete").status_code == 302
    assert "Receipt" not in ann.get("/messages").text
    assert ann.get(place).status_code == 404


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"html": "<p>{{ nonsense }}</p>"}, "There is no nonsense"),
        ({"html": ""}, "Write what the email says."),
        ({"purpose": "marketing"}, "unsubscribe_url"),
        ({"name": "N" * 101}, "longer than 100"),
        ({"subject": ""}, "Write a subject."),
    ],
)
def test_what_is_wrong_with_a_template_stands_at_its_field_and_what_was_typed_is_kept(
    people: People, ann: Visit, changes: dict[str, str], said: str
) -> None:
    answer = ann.post("/messages/templates/new", TEMPLATE | {"text": "typed here"} | changes)
    assert answer.status_code == 422
    assert said in answer.text
    assert "typed here" in answer.text


def test_a_message_can_be_looked_at_and_cancelled_and_strangers_see_nothing(
    runtime: Runtime, people: People, ann: Visit, eve: Visit
) -> None:
    add_sender(runtime, people.ours)
    later = datetime.now(UTC) + timedelta(days=2)
    [public_id] = ask(runtime, people, NewMessage("kim@example.org", subject="Hi", html="<p>Hi</p>", send_at=later))
    assert "kim@example.org" in ann.get("/messages/recent").text.replace("<wbr>", "")
    assert "scheduled" in ann.get(f"/messages/{public_id}").text
    assert ann.post(f"/messages/{public_id}/cancel").status_code == 302
    assert "cancelled" in ann.get(f"/messages/{public_id}").text
    assert eve.get(f"/messages/{public_id}").status_code == 404
    assert eve.get("/messages/streams/1").status_code == 404


def test_a_message_that_is_queued_can_be_cancelled_and_one_that_has_left_cannot(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    with running_sink() as peer:
        add_sender(runtime, people.ours, peer.url)
        made = ask(
            runtime, people, *(NewMessage(f"k{n}@example.org", subject="Hi", html="<p>Hi</p>") for n in range(60))
        )
        assert f"{made[0]}/cancel" in ann.get(f"/messages/{made[0]}").text
        ann.post(f"/messages/{made[0]}/cancel")
        assert "cancelled" in ann.get(f"/messages/{made[0]}").text
        send_range.drain(runtime)
    assert f"{made[1]}/cancel" not in ann.get(f"/messages/{made[1]}").text
    ann.post(f"/messages/{made[1]}/cancel")
    assert "The message is sent" in ann.get(f"/messages/{made[1]}").text


def test_a_stream_shows_its_figures_and_stands_in_no_list_of_campaigns(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    with running_sink() as peer:
        add_sender(runtime, people.ours, peer.url)
        ask(runtime, people, *(NewMessage(f"k{n}@example.org", subject="Hi", html="<p>Hi</p>") for n in range(60)))
        range_messages.cut_due(runtime)
        send_range.drain(runtime)
    listed = ann.get("/messages").text
    found = re.search(r"/messages/streams/(\d+)", listed)
    assert found
    page = ann.get(found[0]).text
    assert re.search(r">60<", page)
    assert page.count("/messages/msg_") == 50
    assert "Messages with their own content" not in ann.get("/campaigns").text
    assert ann.get(f"/campaigns/{found[1]}").location == found[0]
    assert ann.post(f"/campaigns/{found[1]}/cancel").status_code == 404
    assert ann.post(f"/campaigns/{found[1]}/pause").status_code == 404
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT state FROM campaign WHERE kind = 'messages'")).scalar_one() == "sending"


def test_admins_say_how_long_messages_are_kept(runtime: Runtime, people: People, ann: Visit, bob: Visit) -> None:
    bob.get("/messages")
    assert bob.post("/messages/retention", {"days": "20"}).status_code == 404
    assert ann.post("/messages/retention", {"days": "5"}).status_code == 302
    assert ann.post("/messages/retention", {"days": "60"}).status_code == 302
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT days FROM message_retention")).scalar_one() == 60
