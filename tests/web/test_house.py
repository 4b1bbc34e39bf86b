"""Promises about every route, read off the map of addresses: a new route is held to them without being named here."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from werkzeug.routing import Rule

from app.flows import (
    api_keys,
    edit_campaign,
    endpoints,
    import_leads,
    message_templates,
    messages,
    pools,
    segments,
    senders,
)
from app.flows.edit_campaign import Draft
from app.flows.message_templates import TemplateDraft
from app.flows.messages import NewMessage
from app.models import alert, lead, shaping, stream
from app.models.alert import Kind
from app.runtime import Runtime
from tests import world
from tests.web.conftest import People, Visit
from web import create_app
from web.visitor import PUBLIC

EVERYONE = {"combinator": "and", "rules": []}
# RFC 8058 §3.1: the mailbox provider posts without cookies or tokens; a provider's webhook brings a signature.
NO_TOKEN = {"unsubscribe.act", "unsubscribe.track", "webhooks.take"}


def a_lead(runtime: Runtime, organisation_id: int) -> int:
    with runtime.db.begin() as conn:
        domain = lead.number_domains(conn, ["example.org"])["example.org"]
        return world.merge(conn, organisation_id, [f"theirs@example.org\t{domain}\t\\N\t{{}}\n"]).added[0]


def an_alert(runtime: Runtime, people: People) -> int:
    pool_id = pools.add_pool(runtime, people.theirs, "Alarming", "sink+http://127.0.0.1:9025")
    with runtime.db.begin() as conn:
        alert.raise_alert(conn, Kind.POOL_DOWN, pool_id, "It is down.")
        return alert.find_open(conn, people.theirs)[0].id


def an_endpoint(runtime: Runtime, people: People) -> int:
    return endpoints.add(runtime, people.theirs, endpoints.Entry("Theirs", "https://hooks.example.com/")).id


def a_rule(runtime: Runtime, people: People) -> str:
    with runtime.db.begin() as conn:
        shaping.set_rule(conn, people.theirs, shaping.Rule("", "*", "slow down", None, 3600))
        return shaping.list_rules(conn, people.theirs)[0].key


def a_key(runtime: Runtime, people: People) -> int:
    return api_keys.create(runtime, people.theirs, people.eve, "Theirs", ["leads:read"]).id


def a_shaping(runtime: Runtime, people: People) -> int:
    pool_id = pools.add_pool(runtime, people.theirs, "Slow", "sink+http://127.0.0.1:9025")
    with runtime.db.begin() as conn:
        shaping.begin(conn, pool_id, "google", next(iter(shaping.SHIPPED.values())), "421 slow down", 1)
        return shaping.find_lines(conn, pool_id)[0].id


def a_message(runtime: Runtime, people: People) -> str:
    pool_id = pools.add_pool(runtime, people.theirs, "Their messages'", "sink+http://127.0.0.1:9025")
    senders.add_sender(runtime, people.theirs, pool_id, "Their messages", "messages@example.com")
    asked = NewMessage("kim@example.org", subject="Hello", text="Hello", sender="messages@example.com")
    with runtime.db.begin() as conn:
        return messages.accept(conn, people.theirs, people.eve, [asked]).ids[0]


def a_stream(runtime: Runtime, people: People) -> int:
    with runtime.db.begin() as conn:
        return stream.list_streams(conn, people.theirs)[0].id


# What another organisation has, for every kind of number that an address may hold.
THEIRS: dict[str, Callable[[Runtime, People], object]] = {
    "campaign_id": lambda runtime, people: edit_campaign.create(
        runtime, people.theirs, people.eve, Draft("Theirs", subject="Hello", html="<p>{{ unsubscribe_url }}</p>")
    ),
    "import_id": lambda runtime, people: import_leads.receive(
        runtime, people.theirs, people.eve, "theirs.csv", io.BytesIO(b"email\n")
    ),
    "alert_id": an_alert,
    "endpoint_id": an_endpoint,
    "lead_id": lambda runtime, people: a_lead(runtime, people.theirs),
    "segment_id": lambda runtime, people: segments.create(runtime, people.theirs, "Theirs", EVERYONE),
    "sender_id": lambda runtime, people: senders.add_sender(
        runtime,
        people.theirs,
        pools.add_pool(runtime, people.theirs, "Their sender's", "sink+http://127.0.0.1:9025"),
        "Theirs",
        "theirs@example.com",
    ),
    "pool_id": lambda runtime, people: pools.add_pool(runtime, people.theirs, "Theirs", "smtp://127.0.0.1:9025"),
    "key": a_rule,
    "key_id": a_key,
    "act": lambda runtime, people: "pause",  # one of its words, and nobody's
    "shaping_id": a_shaping,
    "message_id": a_message,
    "stream_id": a_stream,  # of the message
    "template_id": lambda runtime, people: message_templates.create(
        runtime, people.theirs, people.eve, TemplateDraft("Theirs", "Hello", "<p>Hello</p>")
    ),
}


WORDS = {"act": "pause"}  # where an address holds a word, one that it may be


def rules(app: Flask) -> Iterator[tuple[Rule, str]]:
    """Every rule with every method that a browser may use on it: programs have a door and promises of their own."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/v1/"):
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method


def address(app: Flask, rule: Rule, values: dict[str, object]) -> str:
    with app.test_request_context():
        return app.url_for(rule.endpoint, **{name: values.get(name, WORDS.get(name, 1)) for name in rule.arguments})


def test_every_page_but_the_public_ones_needs_a_login(app: Flask, stranger: Visit) -> None:
    closed = [(rule, method) for rule, method in rules(app) if rule.endpoint not in PUBLIC]
    assert closed
    for rule, method in closed:
        response = stranger.client.open(address(app, rule, {}), method=method)
        assert response.status_code == 302, (rule, method)
        assert response.location.startswith("/login"), (rule, method)


def test_a_fragment_asked_for_after_the_logout_sends_the_whole_page_to_the_login(stranger: Visit) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://localhost/leads?q=a"}
    response = stranger.client.get("/leads", headers=headers)
    assert response.headers["HX-Redirect"] == "/login?next=/leads"


def test_a_program_without_a_login_gets_a_problem_in_json(stranger: Visit) -> None:
    response = stranger.client.get("/segments/schema.json", headers={"Accept": "application/json"})
    assert (response.status_code, response.mimetype) == (401, "application/problem+json")
    assert response.get_json()["title"]


def test_every_change_needs_the_token_of_a_page(app: Flask, ann: Visit) -> None:
    unsafe = [rule for rule, method in rules(app) if method == "POST" and rule.endpoint not in NO_TOKEN]
    assert unsafe
    for rule in unsafe:
        for data in ({}, {"csrf_token": "forged"}):
            assert ann.client.post(address(app, rule, {}), data=data).status_code == 400, rule


def test_what_another_organisation_has_is_not_there(
    app: Flask, runtime: Runtime, people: People, ann: Visit, eve: Visit
) -> None:
    values: dict[str, object] = {name: make(runtime, people) for name, make in THEIRS.items()}
    of_objects = [(rule, method) for rule, method in rules(app) if rule.arguments and rule.endpoint not in PUBLIC]
    assert of_objects
    for rule, method in of_objects:
        assert rule.arguments <= values.keys(), f"{rule} has an argument that this test makes nothing for"
        visit = ann.get if method == "GET" else ann.post
        assert visit(address(app, rule, values)).status_code == 404, (rule, method)
    for rule, method in of_objects:  # and that it is there for those who have it
        if method == "GET":
            assert eve.get(address(app, rule, values)).status_code == 200, rule


def test_every_response_carries_the_headers(app: Flask, runtime: Runtime, stranger: Visit, ann: Visit) -> None:
    pages = [address(app, rule, {}) for rule, method in rules(app) if method == "GET" and rule.endpoint != "static"]
    for visit in (stranger, ann):
        for path in [*pages, "/static/app.css", "/static/none", "/none", "/leads/0", "/login/"]:
            headers = visit.client.get(path, buffered=True).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy, path
            assert "unsafe-inline" not in policy, path
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["Referrer-Policy"] == "same-origin", path
            assert headers["X-Frame-Options"] == "DENY", path
            assert "Permissions-Policy" in headers, path
    for response in (ann.client.post("/leads"), ann.client.post("/logout"), ann.client.open("/", method="TRACE")):
        assert "Content-Security-Policy" in response.headers


def test_pages_are_not_kept_and_static_files_are(ann: Visit) -> None:
    page = ann.get("/leads")
    assert page.headers["Cache-Control"] == "no-store"
    style = page.text.split('rel="stylesheet" href="')[1].split('"')[0]
    assert "immutable" in ann.client.get(style, buffered=True).headers["Cache-Control"]
    assert "immutable" not in ann.client.get(style.split("?")[0], buffered=True).headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/leads", "/account", "/segments/new", "/pools/new", "/login"])
def test_no_page_has_a_style_or_a_script_inside(ann: Visit, stranger: Visit, path: str) -> None:
    page = (stranger if path == "/login" else ann).get(path).text
    assert "<style" not in page
    assert " style=" not in page
    assert " onclick=" not in page
    assert page.count("<script") == page.count("<script src=")


def test_a_marketer_connects_no_provider(bob: Visit) -> None:
    assert bob.get("/pools/new").status_code == 403
    assert bob.post("/pools/new?kind=url", {"name": "x", "url": "sink+http://127.0.0.1:1"}).status_code == 403


def test_a_lost_database_is_a_503_and_not_a_500(app: Flask, runtime: Runtime, stranger: Visit, ann: Visit) -> None:
    assert stranger.get("/healthz").status_code == 200
    runtime.db.pool.close()
    for visit, path in ((stranger, "/healthz"), (ann, "/leads"), (ann, "/none")):
        response = visit.client.get(path)
        assert response.status_code in (503, 404), path
    assert stranger.get("/healthz").headers["Retry-After"]


def test_an_error_that_nobody_foresaw_tells_nothing(app: Flask, runtime: Runtime) -> None:
    broken = create_app(runtime)

    def breaks() -> str:
        raise RuntimeError("a secret of the inside")

    broken.view_functions["health.healthz"] = breaks
    response = broken.test_client().get("/healthz")
    assert response.status_code == 500
    assert "secret of the inside" not in response.text


def test_a_title_from_outside_stays_text(ann: Visit, runtime: Runtime, people: People) -> None:
    segments.create(runtime, people.ours, '"><script>alert(1)</script>', EVERYONE)
    page = ann.get("/segments").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
