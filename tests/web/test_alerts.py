"""Promises of the alerts' pages: what is open is seen by its own people, wherever they are, and can be dismissed."""

from __future__ import annotations

import pytest

from app.errors import Unavailable
from app.flows import pools
from app.models import alert
from app.models.alert import Alert, Kind
from app.runtime import Runtime
from tests.web.campaign_world import NOWHERE, add_draft
from tests.web.conftest import People, Visit
from web import alert_count


@pytest.fixture(autouse=True)
def counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_count, "LASTS", 0.0)


@pytest.fixture
def campaign_id(runtime: Runtime, people: People) -> int:
    """A campaign with an open alert."""
    campaign_id = add_draft(runtime, people, name="Spring <b>")
    raise_it(runtime, Kind.UNKNOWN, campaign_id, "37 leads are <i>unknown</i>.")
    return campaign_id


def raise_it(runtime: Runtime, kind: Kind, subject: int, message: str = "It is so.") -> None:
    with runtime.db.begin() as conn:
        alert.raise_alert(conn, kind, subject, message)


def the_open_one(runtime: Runtime, organisation_id: int) -> Alert:
    with runtime.db.begin() as conn:
        (found,) = alert.find_open(conn, organisation_id)
    return found


def test_an_open_alert_says_what_since_when_how_often_and_what_to_do(
    bob: Visit, runtime: Runtime, campaign_id: int
) -> None:
    raise_it(runtime, Kind.UNKNOWN, campaign_id, "41 leads are unknown.")
    page = bob.get("/alerts").text
    assert "It is not known whether some emails were sent" in page
    assert "41 leads are unknown." in page
    assert "found 2 times" in page
    assert f'href="/campaigns/{campaign_id}"' in page
    assert "Spring &lt;b&gt;" in page
    assert "wait for evidence" in page
    assert "<time" in page


def test_what_people_wrote_is_not_markup(ann: Visit, campaign_id: int) -> None:
    assert "<i>unknown</i>" not in ann.get("/alerts").text


def test_where_nothing_is_open_all_is_well(ann: Visit) -> None:
    page = ann.get("/alerts").text
    assert "All is well" in page
    assert 'class="count"' not in page


def test_the_badge_counts_what_is_open_on_every_page(ann: Visit, runtime: Runtime, campaign_id: int) -> None:
    assert 'aria-label="1 open"' in ann.get("/leads").text
    raise_it(runtime, Kind.SUMS_DIFFER, campaign_id)
    assert 'aria-label="2 open"' in ann.get("/leads").text


def test_the_badge_is_counted_once_in_a_few_seconds(
    ann: Visit, runtime: Runtime, campaign_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_count, "LASTS", 60.0)
    assert 'aria-label="1 open"' in ann.get("/leads").text
    raise_it(runtime, Kind.SUMS_DIFFER, campaign_id)
    assert 'aria-label="1 open"' in ann.get("/leads").text


def test_a_dismissed_alert_is_below_with_who_did_it(
    bob: Visit, ann: Visit, runtime: Runtime, people: People, campaign_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_count, "LASTS", 60.0)
    found = the_open_one(runtime, people.ours)
    ann.get("/alerts")
    response = ann.post(f"/alerts/{found.id}/dismiss")
    assert (response.status_code, response.location) == (302, "/alerts")
    page = ann.get("/alerts").text
    assert 'class="count"' not in page
    assert "Dismissed by Ann" in page
    assert "still stands" in page
    assert ann.post(f"/alerts/{found.id}/dismiss").status_code == 302
    with runtime.db.begin() as conn:
        alert.clear(conn, Kind.UNKNOWN, campaign_id)
    assert "still stands" not in bob.get("/alerts").text


def test_it_takes_the_token_of_a_page_to_dismiss(
    ann: Visit, runtime: Runtime, people: People, campaign_id: int
) -> None:
    found = the_open_one(runtime, people.ours)
    assert ann.client.post(f"/alerts/{found.id}/dismiss").status_code == 400
    assert the_open_one(runtime, people.ours).id == found.id


def test_anothers_alert_is_neither_seen_nor_dismissed(
    eve: Visit, runtime: Runtime, people: People, campaign_id: int
) -> None:
    found = the_open_one(runtime, people.ours)
    page = eve.get("/alerts").text
    assert "All is well" in page
    assert 'class="count"' not in page
    assert eve.post(f"/alerts/{found.id}/dismiss").status_code == 404
    assert the_open_one(runtime, people.ours).dismissed_at is None


@pytest.mark.parametrize("number", ["0", "99999999", "9223372036854775807", "99999999999999999999999"])
def test_a_number_that_is_no_alerts_is_not_found(ann: Visit, campaign_id: int, number: str) -> None:
    assert ann.post(f"/alerts/{number}/dismiss").status_code == 404


def test_what_is_over_is_paged(ann: Visit, runtime: Runtime, campaign_id: int) -> None:
    for number in range(30):
        raise_it(runtime, Kind.SUMS_DIFFER, campaign_id, f"figure {number} differs")
        with runtime.db.begin() as conn:
            alert.clear(conn, Kind.SUMS_DIFFER, campaign_id)
    first = ann.get("/alerts").text
    assert "figure 29 differs" in first
    assert "figure 4 differs" not in first
    following = first.split('rel="next"')[0].rpartition('href="')[2].split('"')[0]
    second = ann.get(following).text
    assert "figure 4 differs" in second
    assert "37 leads" not in second  # what is open stands on the first page
    assert ann.get("/alerts?after=1").status_code == 200


@pytest.mark.parametrize("after", ["x", "-1", "99999999999999999999999999"])
def test_a_page_that_does_not_exist_is_no_error_of_ours(ann: Visit, campaign_id: int, after: str) -> None:
    assert ann.get(f"/alerts?after={after}").status_code in (200, 404)


def test_a_campaigns_page_shows_its_own_alerts_only(
    ann: Visit, runtime: Runtime, people: People, campaign_id: int
) -> None:
    other = add_draft(runtime, people, name="Other")
    assert "37 leads" in ann.get(f"/campaigns/{campaign_id}").text
    assert "37 leads" not in ann.get(f"/campaigns/{other}").text


def test_the_senders_page_shows_the_pools_alerts(
    ann: Visit, runtime: Runtime, people: People, campaign_id: int
) -> None:
    pool = pools.add_pool(runtime, people.ours, "Transactional", NOWHERE)
    raise_it(runtime, Kind.POOL_DOWN, pool, "It has been down for an hour.")
    page = ann.get("/senders").text
    assert "It has been down for an hour." in page
    assert "37 leads" not in page


def test_a_page_that_tells_of_an_error_asks_nothing_of_the_database(
    ann: Visit, campaign_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann.get("/leads")

    def away(*_: object) -> int:
        raise Unavailable("The database cannot be reached.")

    monkeypatch.setattr(alert, "count_open", away)
    response = ann.get("/leads/0")
    assert response.status_code == 404
    assert 'aria-label="1 open"' in response.text
