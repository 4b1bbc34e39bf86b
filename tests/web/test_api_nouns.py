"""Promises of the API's nouns: what the pages can do with leads, segments, campaigns and the others, programs can."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app.mail import Kind
from app.models import event
from app.models.event import Fact, Source
from app.runtime import Runtime
from tests import world
from tests.web.conftest import People
from tests.web.programs import Program, faults, program

EVERYONE = {"combinator": "and", "rules": []}
HTML = '<p>Hello</p><p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'


@pytest.fixture
def shop(app: Flask, runtime: Runtime, people: People) -> Program:
    return program(app, runtime, people)


@pytest.fixture
def sender_id(runtime: Runtime, people: People) -> int:
    with runtime.db.begin() as conn:
        pool = {"provider": "sink", "url": runtime.vault.encrypt("sink+http://127.0.0.1:9"), "shown_url": "sink"}
        pool_id = world.insert(conn, "pool", organisation_id=people.ours, name="Pool", **pool)
        named = {"name": "Shop", "address": "shop@example.com"}
        return world.insert(conn, "sender", organisation_id=people.ours, pool_id=pool_id, **named)


def ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json


# -- Leads -------------------------------------------------------------------------------------------------------------


def test_leads_are_added_then_changed_by_their_address(shop: Program) -> None:
    ann = {"email": "Ann@Example.com", "time_zone": "europe/berlin", "attributes": {"plan": "pro", "age": 41}}
    first = ok(shop.post("/leads", [ann, {"email": "bob@example.com"}]))
    assert (first["added"], first["changed"], first["unchanged"]) == (2, 0, 0)
    again = ok(shop.post("/leads", [{"email": "bob@example.com"}, {**ann, "attributes": {"age": 42, "vip": True}}]))
    assert (again["added"], again["changed"], again["unchanged"]) == (0, 1, 1)
    assert again["ids"] == first["ids"][::-1]
    found = ok(shop.get(f"/leads/{first['ids'][0]}"))
    assert (found["email"], found["time_zone"], found["status"]) == ("ann@example.com", "Europe/Berlin", "active")
    assert found["attributes"] == {"plan": "pro", "age": 42, "vip": True}


def test_one_lead_that_is_wrong_changes_nothing_and_each_fault_has_its_place(shop: Program) -> None:
    ok(shop.post("/leads", {"email": "zoe@example.com", "attributes": {"age": 1, "born": "2001-02-03", "vip": True}}))
    wrong = faults(
        shop.post(
            "/leads",
            [
                {"email": "new@example.com", "attributes": {"age": "old"}},
                {"email": "nobody", "time_zone": "Moon/Base"},
                {"email": "new@example.com", "attributes": {"Born on": 1, "born": "tomorrow", "vip": 1}},
                {"email": "a@example.com", "attributes": {"age": 10**16, "status": "x", "": 1}},
            ],
        )
    )
    assert wrong.keys() == {
        "/0/attributes/age",
        "/1/email",
        "/1/time_zone",
        "/2/email",
        "/2/attributes/Born on",
        "/2/attributes/born",
        "/2/attributes/vip",
        "/3/attributes/age",
        "/3/attributes/status",
        "/3/attributes/",
    }
    assert [each["email"] for each in ok(shop.get("/leads"))["items"]] == ["zoe@example.com"]
    assert faults(shop.post("/leads", [])).keys() == {""}
    assert faults(shop.post("/leads", [{"email": f"{n}@example.com"} for n in range(1001)])).keys() == {""}
    assert "/attributes/age" in faults(shop.post("/leads", {"email": "a@example.com", "attributes": {"age": None}}))
    assert "/email" in faults(shop.post("/leads", {"email": "nobody"}))


def test_an_attribute_that_is_new_has_the_type_of_its_values(shop: Program) -> None:
    leads = [
        {"email": f"{n}@example.com", "attributes": {"n": n, "day": f"2026-01-0{n}", "code": f"00{n}"}} for n in (1, 2)
    ]
    ok(shop.post("/leads", leads))
    wrong = shop.post("/leads", {"email": "3@example.com", "attributes": {"n": "1", "day": "x", "code": 3}})
    assert faults(wrong).keys() == {"/attributes/n", "/attributes/day", "/attributes/code"}
    mixed = [{"email": "4@example.com", "attributes": {"m": 1}}, {"email": "5@example.com", "attributes": {"m": "b"}}]
    assert faults(shop.post("/leads", mixed)).keys() == {"/0/attributes/m"}


def test_a_lead_is_changed_by_its_number_and_erased(shop: Program) -> None:
    lead_id = ok(shop.post("/leads", {"email": "a@example.com", "attributes": {"plan": "pro", "vip": True}}))["ids"][0]
    change = {"email": "b@example.com", "time_zone": "UTC", "attributes": {"plan": None, "vip": False}}
    changed = ok(shop.patch(f"/leads/{lead_id}", change))
    assert (changed["email"], changed["time_zone"], changed["attributes"]) == ("b@example.com", "UTC", {"vip": False})
    assert ok(shop.patch(f"/leads/{lead_id}", {"time_zone": None}))["time_zone"] is None
    assert faults(shop.patch(f"/leads/{lead_id}", {"attributes": {"no": 1}})).keys() == {"/attributes/no"}
    assert shop.delete(f"/leads/{lead_id}").status_code == 204
    assert shop.get(f"/leads/{lead_id}").status_code == 404


def test_a_suppressed_address_makes_a_lead_who_is_not_mailed(shop: Program, runtime: Runtime, people: People) -> None:
    from app.models import suppression

    with runtime.db.begin() as conn:
        suppression.suppress(conn, people.ours, ["a@example.com"], "bounced")
    ok(shop.post("/leads", {"email": "a@example.com"}))
    assert ok(shop.get("/leads?prefix=a"))["items"][0]["status"] == "invalid"


# -- Segments, suppressions, senders -----------------------------------------------------------------------------------


def test_a_segment_is_written_counted_changed_and_removed(shop: Program) -> None:
    ok(shop.post("/leads", [{"email": f"{n}@example.com", "attributes": {"age": n}} for n in range(5)]))
    old = {"combinator": "and", "rules": [{"field": "attributes.age", "operator": ">=", "value": 3}]}
    answer = shop.post("/segments", {"name": "Old", "condition": old})
    made = ok(answer, 201)
    assert answer.headers["Location"] == f"/api/v1/segments/{made['id']}"
    assert ok(shop.get(f"/segments/{made['id']}/count")) == {"leads": 2}
    assert ok(shop.post("/segments/count", {"condition": EVERYONE})) == {"leads": 5}
    assert ok(shop.patch(f"/segments/{made['id']}", {"name": "Older"}))["condition"] == old
    assert faults(shop.post("/segments", {"name": "Older", "condition": EVERYONE})).keys() == {"/name"}
    assert [each["name"] for each in ok(shop.get("/segments"))["items"]] == ["Older"]
    assert shop.delete(f"/segments/{made['id']}").status_code == 204
    assert shop.get(f"/segments/{made['id']}").status_code == 404


def test_a_suppression_is_entered_and_taken_back_with_consent_where_it_was_a_wish(
    shop: Program, runtime: Runtime, people: People
) -> None:
    from app.models import suppression

    assert ok(shop.post("/suppressions", {"emails": ["A@example.com"], "note": "asked"})) == {"added": 1}
    assert ok(shop.get("/suppressions/a@example.com"))["items"][0]["source"] == "asked"
    assert shop.delete("/suppressions/a@example.com").status_code == 204
    assert shop.delete("/suppressions/a@example.com").status_code == 404
    with runtime.db.begin() as conn:
        suppression.suppress(conn, people.ours, ["b@example.com"], "complained")
    assert shop.delete("/suppressions/b@example.com").status_code == 422
    assert shop.delete("/suppressions/b@example.com?consent=true").status_code == 204
    assert ok(shop.get("/suppressions?prefix=b"))["items"] == []
    assert faults(shop.post("/suppressions", {"emails": ["x"], "sender_id": 99})).keys() == {"/emails", "/sender_id"}


def test_senders_are_listed(shop: Program, sender_id: int) -> None:
    (only,) = ok(shop.get("/senders"))["items"]
    assert (only["id"], only["address"], only["pool_state"]) == (sender_id, "shop@example.com", "active")


# -- Campaigns ---------------------------------------------------------------------------------------------------------


def test_a_campaign_is_written_launched_paused_and_cancelled(shop: Program, sender_id: int) -> None:
    ok(shop.post("/leads", [{"email": f"{n}@example.com"} for n in range(5)]))
    made = ok(shop.post("/campaigns", {"name": "May"}), 201)
    path = f"/campaigns/{made['id']}"
    assert (made["state"], made["sender_id"]) == ("draft", None)
    assert {fault["pointer"] for fault in ok(shop.get(f"{path}/check"))["faults"]} == {
        "/sender_id",
        "/html",
        "/subject",
    }
    assert faults(shop.post(f"{path}/launch")).keys() == {"/sender_id", "/html", "/subject"}
    ok(shop.patch(path, {"html": HTML, "subject": "Hello"}))
    changed = ok(shop.patch(path, {"sender_id": sender_id}))
    assert (changed["subject"], changed["sender"]) == ("Hello", "Shop")
    assert ok(shop.get(f"{path}/check")) == {"audience": 5, "exclusions": {}, "faults": []}
    launched = ok(shop.post(f"{path}/launch"), 202)
    assert (launched["state"], launched["progress"]["audience"], launched["progress"]["open"]) == ("sending", 5, 5)
    assert shop.post(f"{path}/launch").status_code == 409
    assert shop.patch(path, {"subject": "Other"}).status_code == 409
    assert ok(shop.post(f"{path}/pause"))["state"] == "paused"
    assert ok(shop.post(f"{path}/resume"))["state"] == "sending"
    assert ok(shop.post(f"{path}/cancel"))["state"] == "cancelled"
    assert ok(shop.get(f"{path}/progress"))["state"] == "cancelled"
    assert [each["id"] for each in ok(shop.get("/campaigns"))["items"]] == [made["id"]]


def test_what_is_wrong_with_a_draft_is_named(shop: Program) -> None:
    draft = {
        "name": " ",
        "sender_id": 99,
        "segment_id": 98,
        "subject": "a",
        "html": "{{ lead.no }}",
        "track_opens": "x",
    }
    assert faults(shop.post("/campaigns", draft)).keys() >= {"/name", "/sender_id", "/segment_id", "/track_opens"}
    assert faults(shop.post("/campaigns", {"name": "a", "start_at": "2026-01-01T10:00:00"})).keys() == {"/start_at"}
    assert ok(shop.get("/campaigns"))["items"] == []


def test_a_campaign_for_later_is_scheduled(shop: Program, sender_id: int) -> None:
    ok(shop.post("/leads", {"email": "a@example.com"}))
    later = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    draft = {"name": "Later", "subject": "a", "html": HTML, "sender_id": sender_id, "start_at": later.isoformat()}
    made = ok(shop.post("/campaigns", draft), 201)
    assert datetime.fromisoformat(made["start_at"]) == later
    path = f"/campaigns/{made['id']}"
    assert ok(shop.patch(path, {"name": "Much later"}))["start_at"] == made["start_at"]
    assert ok(shop.post(f"{path}/launch"), 202)["state"] == "scheduled"
    assert ok(shop.post(f"{path}/unschedule"))["state"] == "draft"


@pytest.mark.parametrize("day", ["0001-01-01T00:00:00", "1999-01-01T00:00:00", "9999-12-31T23:59:00"])
def test_days_at_the_ends_of_the_calendar_are_refused_by_name(
    shop: Program, runtime: Runtime, sender_id: int, day: str
) -> None:
    ok(shop.post("/leads", {"email": "a@example.com"}))
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    draft = {"name": "Later", "subject": "a", "html": HTML, "sender_id": sender_id, "start_at": later}
    path = f"/campaigns/{ok(shop.post('/campaigns', draft), 201)['id']}"
    east, west = f"{day}+14:00", f"{day}-12:00"  # moments that no column and no calendar holds
    for start_at in (east, west):
        assert faults(shop.patch(path, {"start_at": start_at})).keys() == {"/start_at"}
    for schedule in ({"deliver_by": west}, {"deliver_by": east}):
        assert "/schedule/deliver_by" in faults(shop.patch(path, {"schedule": schedule}))
    assert faults(shop.patch(path, {"schedule": {"own_clock": {"starts": day}}}))
    ok(shop.post(f"{path}/launch"), 202)
    for times in ({"start_at": west}, {"schedule": {"own_clock": {"starts": day, "past": "next_day"}}}):
        assert faults(shop.post(f"{path}/reschedule", times))
    ok(shop.post(f"{path}/reschedule", {}))
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET state = 'sending'"))
    for move in ({"begins": east}, {"begins": day, "own": True}, {"begins": later, "deliver_by": west}):
        assert faults(shop.post(f"{path}/move", move))
    by_own_clocks = {"begins": later.removesuffix("Z").split("+")[0], "own": True}  # it was not cut by zones
    assert faults(shop.post(f"{path}/move", by_own_clocks)).keys() == {"/own"}
    assert ok(shop.get(path))["state"] == "sending"


def test_a_draft_with_variants_and_a_schedule_is_read_as_it_was_written(shop: Program) -> None:
    later = datetime(2031, 5, 1, 8, tzinfo=UTC)
    written = {
        "name": "May",
        "subject": "Hello",
        "html": HTML,
        "variants": [{"subject": "Good day", "html": "", "text": ""}],
        "test": {"share": 30, "wait": 90, "goal": "opened"},
        "start_at": later.isoformat(),
        "schedule": {
            "deliver_by": (later + timedelta(hours=10)).isoformat(),
            "zone": "Europe/Berlin",
            "windows": {"days": [1, 2, 5], "opens": "08:00:00", "closes": "18:00:00", "own": True},
            "lateness": 60,
        },
        "repeats": {"rule": "FREQ=WEEKLY;BYDAY=MO", "skip_sent": False},
    }
    made = ok(shop.post("/campaigns", written), 201)
    assert (made["variants"], made["test"]) == (written["variants"], written["test"])
    assert made["schedule"]["windows"] == written["schedule"]["windows"]  # type: ignore[index]
    assert (made["schedule"]["zone"], made["schedule"]["lateness"]) == ("Europe/Berlin", 60)
    assert made["repeats"] == written["repeats"]
    path = f"/campaigns/{made['id']}"
    renamed = ok(shop.patch(path, {"name": "June"}))
    assert {**renamed, "name": "May"} == made
    own = {"own_clock": {"starts": "2031-05-01T09:00:00"}, "zone": "UTC"}
    changed = ok(shop.patch(path, {"schedule": own, "repeats": None}))
    assert (changed["schedule"]["own_clock"]["starts"], changed["repeats"]) == ("2031-05-01T09:00:00", None)
    wrong = {
        "variants": [{"subject": "Hello"}],
        "test": {"share": 101, "goal": "luck"},
        "schedule": {"zone": "Moon", "windows": {"days": [], "opens": "08:00:00", "closes": "18:00:00"}},
    }
    assert faults(shop.patch(path, wrong)).keys() == {
        "/variants/0/subject",
        "/test/share",
        "/test/goal",
        "/schedule/zone",
        "/schedule/windows/days",
    }


# -- Reports and webhooks ----------------------------------------------------------------------------------------------


def test_reports_have_the_figures_of_the_pages(shop: Program, runtime: Runtime, people: People, sender_id: int) -> None:
    named = {"first_name": "Ann", "plan": "pro"}
    lead_id = ok(shop.post("/leads", {"email": "a@example.com", "attributes": named}))["ids"][0]
    with runtime.db.begin() as conn:
        campaign_id = world.add_campaign(conn, people.ours, people.ann, sender_id)
        domain_id = world.row(conn, "SELECT domain_id FROM lead WHERE id = :id", id=lead_id)["domain_id"]
        event.append(
            conn,
            Source(people.ours, people.ann, campaign_id, 1),
            [Fact(lead_id, domain_id, Kind.SENT), Fact(lead_id, domain_id, Kind.OPENED)],
        )
    today = datetime.now(UTC).date()
    days = f"from={today - timedelta(days=1)}&to={today}"
    (day,) = ok(shop.get(f"/reports/days?{days}"))["items"]
    assert (date.fromisoformat(day["day"]), day["user"]) == (today, "Ann")
    assert (day["figures"]["emails"], day["figures"]["sent"], day["figures"]["opened"]) == (1, 1, 1)
    (by_campaign,) = ok(shop.get(f"/reports/campaigns?{days}"))["items"]
    assert (by_campaign["id"], by_campaign["figures"]["sent"]) == (campaign_id, 1)
    (by_domain,) = ok(shop.get(f"/reports/domains?{days}&limit=5&domain=example.com"))["items"]
    assert (by_domain["name"], by_domain["figures"]["sent"]) == ("example.com", 1)
    assert ok(shop.get(f"/campaigns/{campaign_id}/report"))["figures"]["sent"] == 1


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("", {"from", "to"}),
        ("from=x&to=2026-01-01", {"from"}),
        ("from=2026-01-02&to=2026-01-01", {"to"}),
        ("from=2026-01-01&to=2026-01-01&zone=Moon", {"zone"}),
        ("from=2026-01-01&to=2026-01-01&domain=nobody.example", {"domain"}),
        ("from=9999-12-31&to=9999-12-31", {"from"}),
    ],
)
def test_a_report_names_the_parameter_that_is_wrong(shop: Program, query: str, wrong: set[str]) -> None:
    assert faults(shop.get(f"/reports/days?{query}")).keys() == wrong


def test_a_webhook_is_added_changed_silenced_and_removed(shop: Program) -> None:
    made = ok(shop.post("/webhooks", {"name": "CRM", "url": "https://example.com/hook", "kinds": ["bounced"]}), 201)
    assert made["secret"].startswith("whsec_")
    path = f"/webhooks/{made['id']}"
    found = ok(shop.get(path))
    assert "secret" not in found and (found["host"], found["state"]) == ("example.com", "new")
    changed = ok(shop.patch(path, {"kinds": ["bounced", "complained"], "with_email": True}))
    assert (changed["kinds"], changed["with_email"], changed["name"]) == (["bounced", "complained"], True, "CRM")
    assert ok(shop.post(f"{path}/rotate"))["secret"] != made["secret"]
    assert ok(shop.post(f"{path}/disable"))["state"] == "disabled"
    assert ok(shop.post(f"{path}/enable"))["state"] == "new"
    assert ok(shop.get(f"{path}/posts")) == {"items": [], "next": None}
    inside = {"name": "In", "url": "https://10.0.0.1/", "kinds": ["no"], "campaign_id": 9}
    assert faults(shop.post("/webhooks", inside)).keys() == {"/url", "/kinds", "/campaign_id"}
    assert shop.delete(path).status_code == 204
    assert shop.get(path).status_code == 404


def test_a_campaigns_times_and_rate_are_changed_while_it_waits_and_while_it_sends(
    shop: Program, sender_id: int
) -> None:
    ok(shop.post("/leads", [{"email": f"{n}@example.com"} for n in range(5)]))
    draft = {"name": "May", "subject": "Hello", "html": HTML, "sender_id": sender_id}
    later = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    path = f"/campaigns/{ok(shop.post('/campaigns', {**draft, 'start_at': later.isoformat()}), 201)['id']}"
    assert shop.post(f"{path}/reschedule", {"start_at": later.isoformat()}).status_code == 409
    ok(shop.post(f"{path}/launch"), 202)
    times = {"start_at": (later + timedelta(hours=2)).isoformat(), "schedule": {"zone": "Europe/Berlin"}}
    assert ok(shop.post(f"{path}/reschedule", times))["state"] == "scheduled"
    assert datetime.fromisoformat(ok(shop.get(path))["start_at"]) == later + timedelta(hours=2)
    wrong = {"start_at": later.isoformat(), "schedule": {"deliver_by": later.isoformat(), "zone": "Moon"}}
    assert faults(shop.post(f"{path}/reschedule", wrong)).keys() == {"/schedule/deliver_by", "/schedule/zone"}
    assert ok(shop.post(f"{path}/rate", {"emails": 100, "per": "minute"})) == {"rate": {"emails": 100, "per": "minute"}}
    assert faults(shop.post(f"{path}/rate", {"emails": 0, "per": "week"})).keys() == {"/emails", "/per"}
    assert shop.delete(f"{path}/rate").status_code == 204
    assert ok(shop.get(f"{path}/rate")) == {"rate": None}

    path = f"/campaigns/{ok(shop.post('/campaigns', draft), 201)['id']}"
    ok(shop.post(f"{path}/launch"), 202)
    ok(shop.post(f"{path}/pause"))
    assert ok(shop.post(f"{path}/move", {"begins": later.isoformat()}))["state"] == "sending"
    assert faults(shop.post(f"{path}/move", {"begins": "2031-05-01T09:00:00"})).keys() == {"/begins"}
    early = {"begins": later.isoformat(), "deliver_by": later.isoformat()}
    assert faults(shop.post(f"{path}/move", early)).keys() == {"/deliver_by"}
    assert faults(shop.post(f"{path}/move", {**early, "own": True})).keys() == {"/begins", "/deliver_by"}


def test_a_campaign_repeats_until_it_is_told_otherwise(shop: Program, sender_id: int) -> None:
    ok(shop.post("/leads", {"email": "a@example.com"}))
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    draft = {"name": "Weekly", "subject": "Hello", "html": HTML, "sender_id": sender_id, "start_at": later}
    assert faults(shop.post("/campaigns", {**draft, "repeats": {"rule": "FREQ=SOMETIMES"}})).keys() == {"/repeats/rule"}
    made = ok(shop.post("/campaigns", {**draft, "repeats": {"rule": "FREQ=DAILY"}}), 201)
    path = f"/campaigns/{made['id']}"
    assert ok(shop.post(f"{path}/launch"), 202)["state"] == "scheduled"
    for act in ("pause", "go-on", "end"):
        ok(shop.post(f"{path}/repeats/{act}"))
    assert ok(shop.get(f"{path}/progress"))["state"] == "finished"
    assert shop.post(f"{path}/repeats/pause").status_code == 409
