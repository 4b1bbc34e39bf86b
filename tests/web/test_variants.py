"""The pages of A/B tests: writing variants, seeing them, watching the test, choosing by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from app.flows import choose_winner, send_range, track
from app.flows.edit_variants import Parts, TestDraft
from app.models import track as tracking
from app.models import variant
from app.models.track import Hit
from app.runtime import Runtime
from tests.peers import running_sink
from tests.web.campaign_world import HTML, SUBJECT, add_draft, add_leads, add_sender, send_all
from tests.web.conftest import People, Visit

FORM = {
    "name": "Tested",
    "subject": "Hello",
    "html": HTML,
    "when": "now",
    "zone": "UTC",
    "unknown_policy": "hold",
    "track_opens": "on",
    "track_clicks": "on",
    "test_share": "30",
    "test_wait": "90",
    "test_unit": "minutes",
    "test_goal": "opened",
    **{f"{part}_{letter}": "" for letter in "bcde" for part in ("subject", "html", "text")},
}


def written(runtime: Runtime) -> list[tuple[object, ...]]:
    with runtime.db.begin() as conn:
        rows = conn.execute(text("SELECT variant, subject, html, compiled IS NOT NULL FROM content ORDER BY variant"))
        return [tuple(row) for row in rows]


def test_variants_are_saved_shown_again_and_taken_away(runtime: Runtime, people: People, ann: Visit) -> None:
    add_leads(runtime, people.ours, {})
    saved = ann.post(
        "/campaigns/new", FORM | {"subject_b": "Good day", "subject_c": "Hi", "html_c": f"<h1>!</h1>{HTML}"}
    )
    assert saved.status_code == 302
    edit = saved.headers["Location"]
    assert written(runtime) == [
        (0, "Hello", HTML, True),
        (1, "Good day", "", True),
        (2, "Hi", f"<h1>!</h1>{HTML}", True),
    ]
    page = ann.get(edit).text
    assert 'value="Good day"' in page and 'value="30"' in page and 'value="90"' in page
    assert page.count('<details class="variant" open>') == 2
    emptied = ann.post(edit, FORM | {"subject_c": "Hi"})  # B was emptied: C moves up
    assert emptied.status_code == 302
    assert written(runtime) == [(0, "Hello", HTML, True), (1, "Hi", "", True)]
    ann.post(edit, FORM)
    assert len(written(runtime)) == 1
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM variant_test")).scalar_one() == 0


@pytest.mark.parametrize(
    ("more", "field", "fault"),
    [
        ({"subject_b": "Hi {{ lead.frist_name }}"}, "subject_b", "There is no lead.frist_name"),
        ({"html_b": "<p>{% if %}</p>"}, "html_b", "Line 1"),
        ({"subject_b": "Hello"}, "subject_b", "Variant B says the same as variant A"),
        ({"subject_b": "Hi", "subject_c": "Hi"}, "subject_c", "Variant C says the same as variant B"),
        ({"subject_b": "Hi", "text_b": "So"}, "text_b", "A text of its own needs an HTML of its own"),
        ({"subject_b": "Hi", "test_share": "0"}, "test_share", "from 1 to 100 percent"),
        ({"subject_b": "Hi", "test_share": "many"}, "test_share", "Not a valid integer"),
        ({"subject_b": "Hi", "test_wait": "99999999999999999999"}, "test_wait", "30 days at most"),
        ({"subject_b": "Hi", "test_wait": "-1"}, "test_wait", "30 days at most"),
        ({"subject_b": "Hi", "test_goal": "bought"}, "test_goal", "Choose one of these"),
        ({"subject_b": "Hi", "track_opens": "off"}, "test_goal", "Opens of this campaign are not tracked"),
        ({"subject_b": "x" * 501}, "subject_b", "500"),
    ],
)
def test_what_is_wrong_with_a_variant_is_said_at_its_field_and_nothing_is_lost(
    runtime: Runtime, people: People, ann: Visit, more: dict[str, str], field: str, fault: str
) -> None:
    add_leads(runtime, people.ours, {})
    refused = ann.post("/campaigns/new", FORM | {"subject_d": "Kept as typed", "html_d": HTML + "<!-- kept -->"} | more)
    assert refused.status_code == 422
    [part] = [piece for piece in refused.text.split('id="') if piece.startswith(f'{field}-fault"')]
    assert fault in part
    assert "Kept as typed" in refused.text and "&lt;!-- kept --&gt;" in refused.text
    assert written(runtime) == []


def test_a_variant_needs_the_unsubscribe_link_too(runtime: Runtime, people: People, ann: Visit) -> None:
    add_leads(runtime, people.ours, {"ann": "Ann", "bob": "Bob"})
    sender = add_sender(runtime, people.ours)
    draft = add_draft(runtime, people, sender_id=sender, variants=[Parts("", "<p>Nothing to leave by</p>")])
    page = ann.get(f"/campaigns/{draft}/launch")
    assert "Variant B has no unsubscribe link" in page.text
    assert "20 percent of 2 leads are too few to try 2 variants" in page.text
    assert ann.post(f"/campaigns/{draft}/launch").status_code == 422


def test_each_variant_can_be_seen_before(runtime: Runtime, people: People, ann: Visit, eve: Visit) -> None:
    leads = add_leads(runtime, people.ours, {"ann": "Ann"})
    draft = add_draft(runtime, people, variants=[Parts("Other"), Parts("", f"<h1>Big</h1>{HTML}")])
    page = ann.get(f"/campaigns/{draft}/preview?variant=B").text
    assert "<h2>Other</h2>" in page and "Variant C" in page
    frame = f"/campaigns/{draft}/preview/{leads['ann@example.org']}.html"
    assert "<h1>Big</h1>" in ann.get(f"{frame}?variant=C").text
    assert "<h1>Big</h1>" not in ann.get(f"{frame}?variant=B").text
    assert ann.get(f"{frame}?variant=D").status_code == 404
    assert eve.get(f"{frame}?variant=B").status_code == 404
    alone = add_draft(runtime, people, name="Alone")
    assert "Variant" not in ann.get(f"/campaigns/{alone}/preview").text


def test_a_copy_has_the_variants_and_the_test(runtime: Runtime, people: People, ann: Visit) -> None:
    test = TestDraft(50, timedelta(days=2), "opened")
    draft = add_draft(runtime, people, variants=[Parts("Other")], test=test)
    copied = ann.post(f"/campaigns/{draft}/duplicate").headers["Location"]
    page = ann.get(copied).text
    assert 'value="Other"' in page and 'value="50"' in page and 'value="2"' in page
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM variant_test WHERE wait = '2 days'")).scalar_one() == 2


def test_the_page_follows_a_test_to_its_winner(runtime: Runtime, people: People, ann: Visit, eve: Visit) -> None:
    add_leads(runtime, people.ours, {f"lead{n}": "" for n in range(60)})
    with running_sink() as peer:
        sender = add_sender(runtime, people.ours, peer.url)
        draft = add_draft(
            runtime,
            people,
            sender_id=sender,
            variants=[Parts("Other")],
            test=TestDraft(50, timedelta(hours=1)),
            track_clicks="on",
            html=HTML + '<a href="https://shop.example.com/">Shop</a>',
        )
        before = ann.get(f"/campaigns/{draft}/launch").text
        assert "2 variants, about 15 leads each" in before and "hardly any difference will show" in before
        send_all(runtime, people, draft)
        choose_winner.choose_due(runtime)
        page = ann.get(f"/campaigns/{draft}").text
        assert "the rest waits for the winner of the test" in page and "2 variants, on 50 percent" in page
        part = ann.get(f"/campaigns/{draft}/variants").text
        assert "Nobody has clicked yet." in part and "Send B to the rest now" in part
        assert eve.get(f"/campaigns/{draft}/variants").status_code == 404
        assert eve.post(f"/campaigns/{draft}/variants/choose", {"variant": "A"}).status_code == 404

        with runtime.db.begin() as conn:
            leads = conn.execute(
                text("SELECT unnest(lead_ids), settled_at + interval '1 minute' FROM handoff WHERE variant = 1 LIMIT 3")
            ).all()
            tracking.keep(conn, [Hit(draft, lead, 1, at, None) for lead, at in leads])
        track.read_hits(runtime, wait=-3600)
        part = ann.get(f"/campaigns/{draft}/variants").text
        assert "B is ahead, but there is not enough to tell." in part

        assert ann.post(f"/campaigns/{draft}/variants/choose", {"variant": "E"}).status_code == 302
        assert "There is no such variant." in ann.get(f"/campaigns/{draft}").text
        assert ann.post(f"/campaigns/{draft}/variants/choose", {"variant": "A"}).status_code == 302
        assert "The rest gets variant A." in ann.get(f"/campaigns/{draft}").text
        ann.post(f"/campaigns/{draft}/variants/choose", {"variant": "B"})
        assert "Variant A was chosen already." in ann.get(f"/campaigns/{draft}").text
        send_range.drain(runtime)
    part = ann.get(f"/campaigns/{draft}/variants").text
    assert "Ann chose A for the rest" in part and "the rest included" in part
    with runtime.db.begin() as conn:
        found = variant.find(conn, draft)
        sent = {each.variant: 0 for each in variant.tally(conn, draft)}
        for each in variant.tally(conn, draft):
            sent[each.variant] += each.sent
    assert found is not None and found.winner == 0
    assert f'<td class="number">{sent[0]}</td>' in part and sum(sent.values()) == 60


def test_a_campaign_without_variants_says_nothing_of_tests(runtime: Runtime, people: People, ann: Visit) -> None:
    add_leads(runtime, people.ours, {"ann": "Ann"})
    with running_sink() as peer:
        draft = add_draft(runtime, people, sender_id=add_sender(runtime, people.ours, peer.url), subject=SUBJECT)
        send_all(runtime, people, draft)
    assert "A/B test" not in ann.get(f"/campaigns/{draft}").text
    assert "A/B test" not in ann.get(f"/campaigns/{draft}/variants").text
