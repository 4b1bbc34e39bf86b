"""Promises of the reports' pages: who got what, filtered, exported, and summed over days, users and domains."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest

from app.models import lead
from app.runtime import Runtime
from tests.peers import Peer
from tests.web.campaign_world import add_draft, add_leads, add_sender, send_all
from tests.web.conftest import People, Visit
from tests.web.test_campaigns import words

TODAY = datetime.now(UTC).date()


@pytest.fixture
def sent(runtime: Runtime, people: People, peer: Peer) -> int:
    """A campaign of Ann's that was sent to sixty leads, each of them with a first name that is a formula."""
    add_leads(runtime, people.ours, {f"lead{n:02}": f"=1+{n}" for n in range(60)})
    campaign_id = add_draft(runtime, people, sender_id=add_sender(runtime, people.ours, peer.url))
    send_all(runtime, people, campaign_id)
    return campaign_id


def test_the_question_of_who_sent_how_many_is_answered(people: People, ann: Visit, sent: int) -> None:
    page = words(ann.get(f"/reports?from={TODAY}&to={TODAY}&zone=UTC&user={people.ann}").text)
    assert "Ann sent 60 emails on" in page
    assert "Bob sent 0 emails on" in words(ann.get(f"/reports?from={TODAY}&to={TODAY}&user={people.bob}").text)
    assert "example.org 60 60" in page
    assert "Spring 60 60" in page


def test_a_report_can_be_asked_of_one_campaign_and_one_domain(runtime: Runtime, ann: Visit, sent: int) -> None:
    asked = f"/reports?from={TODAY}&to={TODAY}&zone=UTC"
    assert "sent 60 emails" in words(ann.get(f"{asked}&campaign={sent}&domain=Example.org").text)
    assert "sent 0 emails" in words(ann.get(f"{asked}&campaign={sent + 1}").text)
    with runtime.db.begin() as conn:
        lead.number_domains(conn, ["elsewhere.example"])
    assert "sent 0 emails to elsewhere.example" in words(ann.get(f"{asked}&domain=elsewhere.example").text)
    nobody = ann.get(f"{asked}&domain=nowhere.example")
    assert nobody.status_code == 422
    assert "No lead has an address at nowhere.example." in nobody.text


def test_yesterday_is_asked_first(ann: Visit, sent: int) -> None:
    page = ann.get("/reports").text
    assert f'name="from" value="{TODAY - timedelta(days=1)}"' in page
    assert "sent 0 emails" in words(page)


def test_days_and_zones_that_make_no_sense_are_refused(ann: Visit) -> None:
    for asked, fault in (
        (f"from={TODAY}&to={TODAY - timedelta(days=1)}", "The last day lies before the first."),
        ("zone=Middle/Earth", "There is no time zone named"),
        ("from=1900-01-01&to=2026-01-01", "days at most"),
    ):
        response = ann.get(f"/reports?{asked}")
        assert response.status_code == 422, asked
        assert fault in words(response.text), asked
    assert ann.get("/reports?from=x&to=y&user=z&campaign=%00").status_code == 200


def test_nobody_reads_the_reports_of_another_organisation(people: People, eve: Visit, sent: int) -> None:
    page = eve.get(f"/reports?from={TODAY}&to={TODAY}&user={people.ann}&campaign={sent}").text
    assert "sent 0 emails" in words(page)
    assert "Ann" not in page
    assert "Spring" not in page


def test_a_chart_is_of_the_same_figures(ann: Visit, sent: int) -> None:
    hours = ann.get(f"/campaigns/{sent}/hours.json").get_json()
    assert [bar["label"] for bar in hours["bars"]] == ["Sent"]
    assert sum(hours["bars"][0]["values"]) == 60
    days = ann.get(f"/reports/days.json?from={TODAY - timedelta(days=6)}&to={TODAY}&zone=UTC").get_json()
    assert len(days["x"]) == 7
    assert days["bars"][0]["values"] == [0, 0, 0, 0, 0, 0, 60]


def test_everybody_who_got_it_is_found_page_by_page(ann: Visit, sent: int) -> None:
    found: list[str] = []
    path: str | None = f"/campaigns/{sent}/recipients?kind=sent"
    while path:
        page = ann.get(path).text
        found += re.findall(r"(lead\d\d)<wbr>@example\.org", page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert found == [f"lead{n:02}" for n in range(60)]
    assert "Nobody" in ann.get(f"/campaigns/{sent}/recipients?kind=refused").text
    assert ann.get(f"/campaigns/{sent}/recipients?kind=x").status_code == 404


def test_the_list_is_exported_so_that_a_spreadsheet_may_open_it(
    runtime: Runtime, people: People, ann: Visit, peer: Peer
) -> None:
    add_leads(runtime, people.ours, {"=cmd": "", "ada": ""})
    campaign_id = add_draft(runtime, people, name='"; x\r\n', sender_id=add_sender(runtime, people.ours, peer.url))
    send_all(runtime, people, campaign_id)
    response = ann.get(f"/campaigns/{campaign_id}/recipients.csv?kind=sent")
    assert response.headers["Content-Disposition"] == f'attachment; filename="campaign-{campaign_id}-sent.csv"'
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["outcome"] for row in rows] == ["sent", "sent"]
    assert all(row["email"][0] not in "=+-@" for row in rows)
