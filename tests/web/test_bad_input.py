"""Promises about input that nobody sends by hand: whatever an address or a form holds, the answer is never a 500."""

from __future__ import annotations

import logging
import re
import time
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import event, text

from app.errors import Invalid
from app.models import process
from app.runtime import Runtime
from tests.web.campaign_world import add_draft, add_leads
from tests.web.conftest import PASSWORD, People, Visit
from tests.web.test_house import rules
from web import assets, create_app, formats
from web.zones import AHEAD, read_moment, write_moment

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LAST_DAY = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
TOO_LARGE = [str(2**31), str(2**63), str(10**30), "1" + "0" * 5000]  # for int4, int8, both, and for Python's int()
QUERIES = [
    "q=%00",
    "domain=%00",
    "domain=a%00b.example",
    "email=%00",
    "kind=%00",
    "zone=%00",
    "next=%00",
    "state=%00",
    "after=%00",
    "from=9999-12-31",
    "from=9999-12-31&to=9999-12-31&zone=America/New_York",
    "from=0001-01-01&to=0001-01-01&zone=Asia/Tokyo",
    "to=9999-12-31",
    "endpoint=x",
    "_method=POST",
    "_anchor=x",
    "_external=1",
    "_scheme=x",
    "_x=1",
    "self=1",
    "campaign_id=x",
]
EVERYONE = '{"combinator": "and", "rules": []}'
FORMS: list[tuple[str, dict[str, str]]] = [
    ("/campaigns/new", {"name": "x", "subject": "a\0b", "html": "<p>{{ unsubscribe_url }}</p>"}),
    ("/campaigns/new", {"name": "x", "subject": "s", "html": "<p>\0{{ unsubscribe_url }}</p>"}),
    ("/campaigns/new", {"name": "x", "subject": "s", "html": "<p>{{ unsubscribe_url }}</p>", "text": "a\0b"}),
    ("/campaigns/new", {"name": "x", "text": "a\0b"}),
    ("/campaigns/new", {"name": "x", "when": "later", "start": "\0", "zone": "\0"}),
    ("/pools/new?kind=url", {"name": "x", "url": "sink+http://127.0.0.1:9/a\0b"}),
    ("/senders/new", {"name": "x", "address": "a\0@example.com", "reply_to": "\0@example.com"}),
    ("/segments/new", {"name": "x", "condition": "\0"}),
    (
        "/segments/new",
        {"name": "x", "condition": '{"combinator":"and","rules":[{"field":"email","operator":"=","value":"\\u0000"}]}'},
    ),
    ("/segments/preview", {"condition": "\0"}),
    ("/account", {"current": "\0", "new": "\0" * 20, "again": "\0" * 20}),
]
NUMBERS = ("after", "user", "campaign", "lead", "before")


# -- Static files ------------------------------------------------------------------------------------------------------


def test_a_page_stands_without_its_static_files_and_a_warning_says_what_to_run(
    runtime: Runtime, people: People, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = create_app(runtime)
    bare.static_folder = str(tmp_path)
    assets.init_app(bare)  # again, for a folder with nothing in it
    browser = bare.test_client()
    with caplog.at_level(logging.WARNING):
        assert [browser.get(path).status_code for path in ("/login", "/none", "/login")] == [200, 404, 200]
    said = [record.getMessage() for record in caplog.records if record.name == "web.assets"]
    assert "The static file app.css cannot be read: run make assets." in said
    assert len(said) == len(set(said))
    (tmp_path / "app.css").write_text("body {}")
    assert "/static/app.css?v=" in browser.get("/login").text


# -- Before the login --------------------------------------------------------------------------------------------------


def test_an_address_with_a_control_character_is_a_wrong_login(stranger: Visit) -> None:
    stranger.get("/login")
    wrong = stranger.post("/login", {"email": "no@example.com", "password": PASSWORD}).status_code
    for email in ["ann@example.com\0", "\0", "a\x01nn@example.com", "\ud800"]:
        sent = {"email": email.encode("utf-8", "surrogatepass"), "password": PASSWORD}
        assert stranger.post("/login", sent).status_code == wrong, email
    assert stranger.get("/leads").status_code == 302


def test_a_fragment_from_no_address_still_sends_the_whole_page_to_the_login(stranger: Visit) -> None:
    for here in ["http://[x", "http://[::1", "//[", "http://a]b/", "\x7f", "x" * 5000]:
        response = stranger.client.get("/leads", headers={"HX-Request": "true", "HX-Current-URL": here})
        assert response.status_code == 200
        assert response.headers["HX-Redirect"].startswith("/login")


# -- Moments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written", ["9999-12-31T23:59", f"{NOW + AHEAD + timedelta(days=2):%Y-%m-%dT%H:%M}", "2099-01-01T00:00"]
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_start_that_lies_too_many_years_ahead_is_refused_by_name(written: str, zone: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_moment(written, zone, NOW)
    assert [fault.pointer for fault in refused.value.faults] == ["start"]
    latest = NOW + AHEAD - timedelta(days=2)
    assert abs(read_moment(f"{latest:%Y-%m-%dT%H:%M}", zone, NOW) - latest) < timedelta(days=1)


@pytest.mark.parametrize("moment", [LAST_DAY, datetime(1, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
def test_a_moment_at_the_end_of_the_calendar_is_written_all_the_same(moment: datetime, zone: str) -> None:
    assert formats.in_zone(moment, zone).endswith((f"({zone})", "(UTC)"))
    assert write_moment(moment, zone)
    assert "<time" in formats.when(moment.replace(tzinfo=ZoneInfo(zone)))


def test_a_draft_for_the_end_of_the_calendar_is_refused_beside_its_field(ann: Visit) -> None:
    ann.get("/campaigns/new")
    values = {"name": "Late", "when": "later", "start": "9999-12-31T23:59", "zone": "America/New_York"}
    values |= {"sender": "", "segment": ""}
    response = ann.post("/campaigns/new", values)
    assert response.status_code == 422
    assert "years ahead: choose an earlier day" in response.text


# -- Numbers in addresses ----------------------------------------------------------------------------------------------


def test_an_id_that_no_column_holds_is_nobodys(app: Flask, ann: Visit) -> None:
    of_numbers = [(rule, method) for rule, method in rules(app) if "<int:" in rule.rule]
    assert of_numbers
    for (rule, method), number in product(of_numbers, TOO_LARGE):
        visit = ann.get if method == "GET" else ann.post
        assert visit(re.sub("<int:[^>]+>", number, rule.rule)).status_code in (404, 405), (rule, method, len(number))


def test_a_query_with_a_number_that_no_column_holds_breaks_no_page(
    app: Flask, runtime: Runtime, people: People, ann: Visit
) -> None:
    add_leads(runtime, people.ours, {"ada": "Ada"})
    campaign_id = add_draft(runtime, people)
    for path, name, number in product(_readable(app, campaign_id), NUMBERS, TOO_LARGE):
        status = ann.get(f"{path}?{name}={number}&kind=sent").status_code
        assert status < 500, (path, name, len(number))


def test_any_other_fault_of_data_is_still_ours(runtime: Runtime, people: People) -> None:
    broken = create_app(runtime)

    def breaks() -> str:
        with runtime.db.session() as session:
            process.alive(session.connection(), "\0")
        return ""

    broken.view_functions["health.healthz"] = breaks
    assert broken.test_client().get("/healthz").status_code == 500


# -- Text --------------------------------------------------------------------------------------------------------------


def test_no_query_breaks_a_page(app: Flask, runtime: Runtime, people: People, ann: Visit) -> None:
    add_leads(runtime, people.ours, {f"lead{n:02}": "Ada" for n in range(51)})
    campaign_id = add_draft(runtime, people)
    for path, query in product(_readable(app, campaign_id), QUERIES):
        assert ann.get(f"{path}?{query}").status_code < 500, (path, query)


def test_a_report_of_days_beyond_the_calendar_is_refused_and_says_why(ann: Visit) -> None:
    beyond = ["from=9999-12-31", "from=9999-12-31&to=9999-12-31", "from=0001-01-01&to=0001-01-02"]
    for path, query in product(["/reports", "/reports/days.json"], beyond):
        response = ann.get(f"{path}?{query}")
        assert response.status_code == 422
        assert "outside of the years 2000 to 2200" in response.text


def test_nobody_has_an_address_at_a_domain_with_a_control_character(ann: Visit) -> None:
    response = ann.get("/reports?domain=a%00b")
    assert response.status_code == 422
    assert "No lead has an address at" in response.text


def test_the_next_page_keeps_the_search_and_no_word_that_steers_addresses(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    add_leads(runtime, people.ours, {f"lead{n:02}": "Ada" for n in range(51)})
    page = ann.get("/leads?q=lead&endpoint=x&_method=POST&_anchor=x&_external=1&_scheme=gopher").text
    following = page.split('" rel="next"')[0].rsplit('href="', 1)[1]
    assert following.startswith("/leads?")
    assert "q=lead" in following
    assert "after=" in following
    for word in ("endpoint", "_", "gopher", "#"):
        assert word not in following


@pytest.mark.parametrize(
    "path, values, fault",
    [
        ("/campaigns/new", {"name": "a\0b"}, "The name has a NUL character"),
        ("/pools/new?kind=url", {"name": "a\0b", "url": "sink+http://127.0.0.1:9"}, "in one line"),
        ("/segments/new", {"name": "a\0b", "condition": EVERYONE}, "Give the segment"),
    ],
)
def test_a_name_with_a_nul_is_refused_beside_its_field(
    ann: Visit, path: str, values: dict[str, str], fault: str
) -> None:
    ann.get(path)
    response = ann.post(path, {"batch": "50", "when": "now", "sender": "", "segment": "", **values})
    assert response.status_code == 422
    assert fault in response.text


def test_no_text_with_a_nul_breaks_a_form(ann: Visit) -> None:
    ann.get("/campaigns/new")
    fixed = {"batch": "50", "when": "now", "sender": "", "segment": ""}
    for path, values in FORMS:
        assert ann.post(path, fixed | values).status_code < 500, (path, values)


# -- Slow questions ----------------------------------------------------------------------------------------------------


def test_nobody_is_looked_for_where_the_count_has_found_nobody(runtime: Runtime, ann: Visit) -> None:
    asked: list[str] = []
    event.listen(runtime.reports.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert "<strong>0</strong>" in ann.post("/segments/preview", {"condition": EVERYONE}).text
    assert [statement.startswith("SELECT count(") for statement in asked if "FROM lead" in statement] == [True]


def test_a_preview_that_finds_no_time_answers_within_its_two_seconds(runtime: Runtime, ann: Visit) -> None:
    ann.get("/campaigns/new")
    with runtime.db.begin() as conn:
        conn.execute(text("LOCK TABLE lead"))  # whoever counts or looks now waits
        began = time.monotonic()
        page = ann.post("/segments/preview", {"condition": EVERYONE}).text
        took = time.monotonic() - began
    assert "Still counting" in page
    assert took < 3.5


def _readable(app: Flask, campaign_id: int) -> list[str]:
    """Every page's path, without those of a lead, an import or a segment, which take no query."""
    readable = [rule for rule, method in rules(app) if method == "GET" and rule.arguments <= {"campaign_id"}]
    return [rule.rule.replace("<int:campaign_id>", str(campaign_id)) for rule in readable]
