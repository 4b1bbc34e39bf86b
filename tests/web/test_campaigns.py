"""Promises of the campaigns' pages: written, looked at, launched once, watched, steered."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.flows import launch, send_range, steer
from app.models import campaign, campaign_list
from app.models.campaign import Campaign, Content
from app.models.lead import Lead
from app.models.process import beat
from app.runtime import Runtime
from tests.peers import Peer
from tests.web.campaign_world import HTML, NOWHERE, SUBJECT, add_draft, add_leads, add_sender, send_all
from tests.web.conftest import People, Visit

NEXT = datetime.now(UTC).year + 1
# The last Sunday of next March, when Berlin's clocks go from 2:00 to 3:00.
FORWARD = max(day for day in range(25, 32) if datetime(NEXT, 3, day, tzinfo=UTC).isoweekday() == 7)
FORM = {"name": "Spring", "subject": SUBJECT, "html": HTML, "when": "now", "zone": "UTC"}


@pytest.fixture
def draft(runtime: Runtime, people: People, peer: Peer) -> int:
    """A draft to three leads."""
    add_leads(runtime, people.ours, {"ada": "Ada", "bo": "", "cy": "<b>Cy</b>"})
    return add_draft(runtime, people, sender_id=add_sender(runtime, people.ours, peer.url))


def saved(runtime: Runtime, people: People, campaign_id: int) -> tuple[Campaign, Content]:
    with runtime.db.session() as session:
        return campaign.get(session, people.ours, campaign_id), session.get_one(Content, (campaign_id, 0))


def state(runtime: Runtime, people: People, campaign_id: int) -> str:
    return saved(runtime, people, campaign_id)[0].state


def words(page: str) -> str:
    """What a page says, without its tags."""
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


# -- The list ----------------------------------------------------------------------------------------------------------


def test_a_newcomer_is_led_through_the_first_steps(runtime: Runtime, people: People, ann: Visit) -> None:
    page = ann.get("/").text
    assert page.index("Import leads") < page.index("Add a sender") < page.index("Write a campaign")
    assert 'class="button primary" href="/imports/new"' in page
    add_leads(runtime, people.ours, {"ada": "Ada"})
    assert 'class="button primary" href="/senders"' in ann.get("/").text
    add_sender(runtime, people.ours)
    assert 'class="button primary" href="/campaigns/new"' in ann.get("/").text


def test_the_list_goes_on_by_key_and_shows_the_newest_first(runtime: Runtime, people: People, ann: Visit) -> None:
    made = [add_draft(runtime, people, name=f"Number {n}.") for n in range(30)]
    first = ann.get("/").text
    assert first.index("Number 29.") < first.index("Number 5.")
    assert "Number 4." not in first
    rest = ann.get(f"/?after={made[5]}").text
    assert "Number 4." in rest
    assert "Number 5." not in rest
    assert f'href="/?after={made[5]}"' in first


def test_a_house_that_is_not_alive_says_so(runtime: Runtime, people: People, ann: Visit) -> None:
    page = ann.get("/").text
    assert "No worker is running" in page
    assert "The clock is not running" in page
    assert "Redis is away" not in page
    with runtime.db.begin() as conn:
        for kind in ("worker", "clock"):
            beat(conn, uuid4(), kind, "here", 1)
    runtime.settings = replace(runtime.settings, redis_url="redis://127.0.0.1:1/0")
    ann.client.application.extensions.pop("pulse")
    page = ann.get("/").text
    assert "is not running" not in page
    assert "No worker" not in page
    assert "Redis is away" in page


# -- Writing -----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_saved_as_a_draft(runtime: Runtime, people: People, ann: Visit) -> None:
    sender = add_sender(runtime, people.ours)
    add_leads(runtime, people.ours, {"ada": "Ada"})
    response = ann.post("/campaigns/new", FORM | {"sender": sender, "segment": "", "html": "a\r\n" + HTML})
    assert response.status_code == 302
    campaign_id = int(response.location.split("/")[2])
    found, content = saved(runtime, people, campaign_id)
    assert (found.name, found.sender_id, found.state, found.owner_id) == ("Spring", sender, "draft", people.ann)
    assert content.html == "a\n" + HTML
    assert html.escape(SUBJECT, quote=True).replace("&quot;", "&#34;") in ann.get(f"/campaigns/{campaign_id}/edit").text


def test_a_fault_stands_beside_its_field_with_its_line_and_the_text_is_kept(people: People, ann: Visit) -> None:
    written = "<p>one</p>\r\n<p>{{ lead.frist_name }}</p>"
    response = ann.post("/campaigns/new", FORM | {"name": " ", "html": written})
    assert response.status_code == 422
    page = response.text
    assert 'id="html-fault"' in page
    assert "Line 2:" in page.split('id="html-fault"')[1].split("</ul>")[0]
    assert "Give the campaign a name." in page.split('id="name-fault"')[1].split("</p>")[0]
    assert "{{ lead.frist_name }}" in page.split("<textarea")[1]


@pytest.mark.parametrize(
    ("start", "zone", "fault"),
    [
        ("", "UTC", "Say when"),
        ("tomorrow", "UTC", "Say when"),
        ("2020-01-01T08:00", "UTC", "That has passed"),
        (f"{NEXT}-03-{FORWARD}T02:30", "Europe/Berlin", "does not exist"),
        (f"{NEXT}-06-01T08:00", "Middle/Earth", "no time zone named"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(people: People, ann: Visit, start: str, zone: str, fault: str) -> None:
    values = {"name": "Later", "html": "", "subject": "", "when": "later", "start": start, "zone": zone}
    response = ann.post("/campaigns/new", FORM | values)
    assert response.status_code == 422
    assert fault in words(response.text)


def test_a_time_is_meant_in_its_zone(runtime: Runtime, people: People, ann: Visit) -> None:
    values = {"html": "", "subject": "", "when": "later", "start": f"{NEXT}-06-01T08:00", "zone": "Asia/Tokyo"}
    response = ann.post("/campaigns/new", FORM | values)
    found, _ = saved(runtime, people, int(response.location.split("/")[2]))
    assert found.start_at == datetime(NEXT, 5, 31, 23, tzinfo=UTC)
    again = ann.get(response.location).text
    assert f'value="{NEXT}-06-01T08:00"' in again
    assert 'value="Asia/Tokyo"' in again


def test_what_was_launched_is_not_written_any_more(runtime: Runtime, people: People, ann: Visit, draft: int) -> None:
    launch.launch(runtime, people.ours, draft)
    assert ann.get(f"/campaigns/{draft}/edit").location == f"/campaigns/{draft}"
    assert ann.post(f"/campaigns/{draft}/edit", FORM | {"name": "Autumn"}).status_code == 409
    assert saved(runtime, people, draft)[0].name == "Spring"


def test_a_copy_is_a_draft_of_ones_own(runtime: Runtime, people: People, bob: Visit, draft: int) -> None:
    launch.launch(runtime, people.ours, draft)
    copied = int(bob.post(f"/campaigns/{draft}/duplicate").location.split("/")[2])
    found, content = saved(runtime, people, copied)
    assert (found.state, found.owner_id, content.html) == ("draft", people.bob, HTML)


# -- Previews ----------------------------------------------------------------------------------------------------------


def test_an_email_is_seen_as_a_lead_would_get_it(runtime: Runtime, people: People, ann: Visit, draft: int) -> None:
    page = ann.get(f"/campaigns/{draft}/preview?email=Ada@Example.org").text
    assert "News for Ada" in page
    assert 'sandbox=""' in page
    assert "Previous" not in page
    assert "News for you" in ann.get(f"/campaigns/{draft}/preview?email=bo@example.org").text
    assert "No lead has the address x@example.org" in ann.get(f"/campaigns/{draft}/preview?email=x@example.org").text
    assert "Hello Ada." in ann.get(f"/campaigns/{draft}/preview?email=ada@example.org&part=text").text


def test_the_frame_of_a_preview_can_do_nothing(runtime: Runtime, people: People, ann: Visit, draft: int) -> None:
    leads = add_leads(runtime, people.ours, {"cy": "<script>alert(1)</script>"})
    response = ann.get(f"/campaigns/{draft}/preview/{leads['cy@example.org']}.html")
    policy = response.headers["Content-Security-Policy"]
    assert "sandbox" in policy.split("; ")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "<script>" not in response.text
    assert "&lt;script&gt;" in response.text


def test_nobodys_token_stands_in_a_preview(runtime: Runtime, people: People, ann: Visit, draft: int) -> None:
    leads = add_leads(runtime, people.ours, {"ada": "Ada"})
    page = ann.get(f"/campaigns/{draft}/preview/{leads['ada@example.org']}.html").text
    token = re.findall(r'href="[^"]*/u/([^"]*)"', page)
    assert token == ["preview"]
    assert runtime.signer.read_unsubscribe(token[0]) is None


def test_a_lead_of_another_organisation_is_never_previewed(
    runtime: Runtime, people: People, ann: Visit, draft: int
) -> None:
    theirs = add_leads(runtime, people.theirs, {"eva": "Eva"})["eva@example.org"]
    assert ann.get(f"/campaigns/{draft}/preview/{theirs}.html").status_code == 404
    assert ann.get(f"/campaigns/{draft}/preview?lead={theirs}").status_code == 404


# -- Launching ---------------------------------------------------------------------------------------------------------


def test_the_check_says_who_will_get_it_and_who_is_left_out(
    runtime: Runtime, people: People, ann: Visit, draft: int
) -> None:
    with runtime.db.session() as session:
        session.query(Lead).filter_by(email="bo@example.org").update({"status": "unsubscribed"})
    page = ann.get(f"/campaigns/{draft}/launch").text
    assert "2 leads will get this" in words(page)
    assert "1 have unsubscribed" in words(page)
    assert "Send to 2 leads" in page
    assert state(runtime, people, draft) == "draft"


def test_the_check_says_what_stands_in_the_way_and_offers_no_button(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    campaign_id = add_draft(runtime, people, html="<p>No way out</p>")
    page = ann.get(f"/campaigns/{campaign_id}/launch").text
    for fault in ("Choose a sender", "There is no unsubscribe link", "the audience is empty"):
        assert fault in page
    assert f'action="/campaigns/{campaign_id}/launch"' not in page
    response = ann.post(f"/campaigns/{campaign_id}/launch")
    assert response.status_code == 422
    assert "There is no unsubscribe link" in response.text
    assert state(runtime, people, campaign_id) == "draft"


def test_of_two_launches_one_is_told(runtime: Runtime, people: People, ann: Visit, bob: Visit, draft: int) -> None:
    for visit in (ann, bob):
        visit.get(f"/campaigns/{draft}/launch")
    assert ann.post(f"/campaigns/{draft}/launch").location == f"/campaigns/{draft}"
    second = bob.post(f"/campaigns/{draft}/launch")
    assert second.location == f"/campaigns/{draft}"
    assert "it was launched already" in bob.get(second.location).text
    with runtime.db.begin() as conn:
        assert campaign_list.find(conn, people.ours, draft).audience == 3


def test_a_campaign_of_later_waits_and_can_become_a_draft_again(
    runtime: Runtime, people: People, ann: Visit, draft: int
) -> None:
    with runtime.db.session() as session:
        campaign.get(session, people.ours, draft).start_at = datetime.now(UTC) + timedelta(days=1)
    assert "Schedule for" in ann.get(f"/campaigns/{draft}/launch").text
    ann.post(f"/campaigns/{draft}/launch")
    assert state(runtime, people, draft) == "scheduled"
    assert "Back to draft" in ann.get(f"/campaigns/{draft}").text
    ann.post(f"/campaigns/{draft}/unschedule")
    assert state(runtime, people, draft) == "draft"
    assert "It is a draft again" in ann.get(f"/campaigns/{draft}").text


# -- Watching and steering ---------------------------------------------------------------------------------------------


def test_the_figures_of_a_campaign_add_up_on_its_page(
    runtime: Runtime, people: People, ann: Visit, draft: int, peer: Peer
) -> None:
    send_all(runtime, people, draft)
    page = words(ann.get(f"/campaigns/{draft}").text)
    assert "3 of 3 accounted for" in page
    assert "Sent 3 100 %" in page
    assert "These add up to the audience of 3." in page
    assert peer.sink.book.stats()["accepted"] == 3


def test_the_progress_fetches_itself_until_nothing_can_change(
    runtime: Runtime, people: People, ann: Visit, draft: int
) -> None:
    launch.launch(runtime, people.ours, draft)
    shown = ann.get(f"/campaigns/{draft}").text
    address = html.unescape(re.findall(r'hx-get="(/campaigns/\d+/progress[^"]*)"', shown)[0])
    assert "state=sending" in address
    fragment = ann.get(address)
    assert "HX-Refresh" not in fragment.headers
    assert "every 1s" in fragment.text
    steer.pause(runtime, people.ours, draft)
    assert ann.get(address).headers["HX-Refresh"] == "true"  # other buttons are needed now
    steer.resume(runtime, people.ours, draft)
    send_range.drain(runtime)
    assert ann.get(address).headers["HX-Refresh"] == "true"
    assert "/progress" not in ann.get(f"/campaigns/{draft}").text


def test_a_campaign_whose_first_calls_are_slow_does_not_look_stuck(
    runtime: Runtime, people: People, ann: Visit, draft: int
) -> None:
    launch.launch(runtime, people.ours, draft)
    with runtime.db.begin() as conn:
        now = campaign_list.find(conn, people.ours, draft).read_at.timestamp()
    page = words(ann.get(f"/campaigns/{draft}/progress?state=sending&seen={now - 4:.2f}-0").text)
    assert "the first are on their way" in page
    with runtime.db.begin() as conn:
        conn.exec_driver_sql("UPDATE pool SET state = 'paused', reason = 'HTTP 401'")
    page = words(ann.get(f"/campaigns/{draft}/progress?state=sending&seen={now - 4:.2f}-0").text)
    assert "0 emails a second" in page


def test_the_rate_is_measured_between_what_the_page_saw_and_what_it_sees(
    runtime: Runtime, people: People, ann: Visit, draft: int
) -> None:
    launch.launch(runtime, people.ours, draft)
    with runtime.db.begin() as conn:
        conn.exec_driver_sql("UPDATE outbox SET position = 2, sent = 2, state = 'ready'")
        now = campaign_list.find(conn, people.ours, draft).read_at.timestamp()
    assert "measuring" in ann.get(f"/campaigns/{draft}/progress?state=sending").text
    seen = f"{now - 4:.2f}-0"
    page = words(ann.get(f"/campaigns/{draft}/progress?state=sending&seen={seen}").text)
    assert re.search(r"\b0\.5|\b[01] emails? a second", page)
    for forged in ("x", "1-2-3", "nan-1", "9" * 300, f"{now + 100}-0"):
        response = ann.get(f"/campaigns/{draft}/progress?state=sending&seen={forged}")
        assert response.status_code == 200
        assert "measuring" in response.text


def test_a_campaign_is_paused_resumed_and_cancelled(runtime: Runtime, people: People, ann: Visit, draft: int) -> None:
    launch.launch(runtime, people.ours, draft)
    for move, to, next_button in (("pause", "paused", "Resume"), ("resume", "sending", "Pause")):
        assert ann.post(f"/campaigns/{draft}/{move}").location == f"/campaigns/{draft}"
        assert state(runtime, people, draft) == to
        assert next_button in ann.get(f"/campaigns/{draft}").text
    assert "had gone when this page was loaded" in ann.get(f"/campaigns/{draft}").text
    ann.post(f"/campaigns/{draft}/cancel")
    assert "Cancelled. 0 of 3 emails had gone." in ann.get(f"/campaigns/{draft}").text
    ann.post(f"/campaigns/{draft}/resume")
    assert "The campaign is cancelled: not resumed." in ann.get(f"/campaigns/{draft}").text
    assert state(runtime, people, draft) == "cancelled"


def test_a_name_from_outside_stays_text_on_every_page(runtime: Runtime, people: People, ann: Visit) -> None:
    add_leads(runtime, people.ours, {"ada": "Ada"})
    evil = '"><img src=x onerror=alert(1)><script>alert(1)</script>'
    sender = add_sender(runtime, people.ours, NOWHERE)
    campaign_id = add_draft(runtime, people, name=evil, subject=evil, sender_id=sender)
    for path in ("", "/edit", "/launch", "/preview", "/recipients"):
        page = ann.get(f"/campaigns/{campaign_id}{path}").text
        assert "<img src=x" not in page, path
        assert "<script>alert" not in page, path
    assert "<img src=x" not in ann.get("/").text
