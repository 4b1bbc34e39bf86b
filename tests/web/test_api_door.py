"""Promises of the API's door: no key, no answer; what a key may do, it may; what is wrong is said, and where."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask import Flask
from openapi_spec_validator import validate
from sqlalchemy import text

from app.config import Settings
from app.flows import api_keys
from app.models import api_key
from app.models.api_key import SCOPES
from app.runtime import Runtime
from tests.web.conftest import People, Visit
from tests.web.programs import ROOT, Program, faults, program
from web import create_app
from web.api.nouns import ROUTES
from web.api.openapi import PLACES
from web.api.reading import NO_NUL
from web.api.route import BODY_LIMIT


@pytest.fixture
def shop(app: Flask, runtime: Runtime, people: People) -> Program:
    return program(app, runtime, people)


def test_no_route_answers_without_a_key_nor_to_one_without_its_scope(
    app: Flask, runtime: Runtime, people: People
) -> None:
    nobody = Program(app, "x")
    lacking = {scope: program(app, runtime, people, *(other for other in SCOPES if other != scope)) for scope in SCOPES}
    for route in ROUTES:
        path = PLACES.sub("1", route.path)
        for header in (
            {"Authorization": ""},
            {"Authorization": "Bearer mill_nothing"},
            {"Authorization": "Basic eDp5"},
        ):
            refused = nobody.call(route.method, path, **header)
            assert refused.status_code == 401, route
            assert refused.headers["WWW-Authenticate"].startswith('Bearer realm="millrace"')
            assert refused.mimetype == "application/problem+json"
        refused = lacking[route.scope].call(route.method, path)
        assert refused.status_code == 403, route
        assert f'scope="{route.scope}"' in refused.headers["WWW-Authenticate"]


def test_a_login_is_no_key_and_a_key_is_no_login(ann: Visit, shop: Program) -> None:
    assert ann.get(f"{ROOT}/senders").status_code == 401
    assert ann.client.post(f"{ROOT}/leads", json={"email": "a@example.com"}).status_code == 401
    assert shop.client.get("/leads", headers=shop.headers).status_code == 302
    answer = shop.get("/senders")
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers


def test_a_revoked_key_is_answered_nothing_from_then_on(
    shop: Program, runtime: Runtime, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    assert shop.get("/senders").status_code == 200
    with runtime.db.begin() as conn:
        (line,) = api_key.find_lines(conn, people.ours)
    assert line.last_used_at is not None
    api_keys.revoke(runtime, people.ours, line.id, people.ann)
    assert shop.get("/senders").status_code == 401


def test_what_is_revoked_or_changed_is_so_in_every_process(
    app: Flask, settings: Settings, runtime: Runtime, people: People
) -> None:
    made = api_keys.create(runtime, people.ours, people.ann, "Shop", ["senders:read", "leads:read"])
    other = Runtime(settings)
    programs = [Program(app, made.secret), Program(create_app(other), made.secret)]
    assert [each.get("/leads").status_code for each in programs] == [200, 200]
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE api_key SET scopes = '{senders:read}'"))
    time.sleep(api_keys.KNOWN_FOR)
    assert [each.get("/leads").status_code for each in programs] == [403, 403]
    api_keys.revoke(runtime, people.ours, made.id, people.ann)
    assert [each.get("/senders").status_code for each in programs] == [401, 401]
    other.close()


def test_only_the_hash_of_a_secret_is_kept(runtime: Runtime, people: People) -> None:
    made = api_keys.create(runtime, people.ours, people.ann, "Shop", ["leads:read"])
    with runtime.db.begin() as conn:
        kept = str(conn.execute(text("SELECT * FROM api_key")).mappings().one())
    assert made.secret[len(api_keys.PREFIX) + 5 :] not in kept


def test_what_is_another_organisations_is_not_there(app: Flask, runtime: Runtime, people: People) -> None:
    ours, theirs = program(app, runtime, people), program(app, runtime, people, theirs=True)
    made = ours.post("/segments", {"name": "All", "condition": {"combinator": "and", "rules": []}}).json
    lead = ours.post("/leads", {"email": "ann@example.com"}).json
    assert made is not None and lead is not None
    for path in (f"/segments/{made['id']}", f"/leads/{lead['ids'][0]}"):
        assert ours.get(path).status_code == 200
        assert theirs.get(path).status_code == 404
        assert theirs.delete(path).status_code == 404
        assert ours.get(path).status_code == 200
    assert theirs.get("/leads").json == {"items": [], "next": None}


@pytest.mark.parametrize("wrong", ["x", 2**31, 2**80, 0, "-1"])
def test_an_id_that_is_nobodys_is_not_found(shop: Program, wrong: object) -> None:
    answer = shop.get(f"/campaigns/{wrong}")
    assert answer.status_code == 404
    assert answer.mimetype == "application/problem+json"


def test_what_is_no_route_is_told_as_json(shop: Program) -> None:
    for answer, status in ((shop.get("/nothing"), 404), (shop.post("/senders", {}), 405)):
        assert answer.status_code == status
        assert answer.mimetype == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "where", "said"),
    [
        ({"name": "a", "condition": {}, "colour": "red"}, "/colour", "There is no such field."),
        ({"name": "a"}, "/condition", "This is needed."),
        ({"name": 5, "condition": {}}, "/name", "This must be a text."),
        ({"name": "a\0b", "condition": {}}, "/name", NO_NUL),
        ({"name": "a", "condition": {"a\0": {}}}, "/condition/a\0", NO_NUL),
        (["a"], "", "This must be an object."),
        (
            {"name": "a", "condition": {"combinator": "and", "rules": [{"field": "attributes.no", "operator": "is"}]}},
            "/condition/rules/0/field",
            None,
        ),
    ],
)
def test_what_is_wrong_is_named_by_a_pointer(shop: Program, body: Any, where: str, said: str | None) -> None:
    found = faults(shop.post("/segments", body))
    assert where in found
    assert said is None or found[where] == said
    assert shop.get("/segments").json == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("path", "body", "where", "said"),
    [
        ("/messages", {"to": "a@example.com", "send_at": "2030-01-01T09:00:00"}, "/send_at", "Say its time zone, too"),
        ("/messages", {"to": "a@example.com", "send_at": "soon"}, "/send_at", "This must be a time"),
        ("/messages", [{"to": "a@example.com"}] * 1001, "", "1,000 at most, and here are 1,001"),
        ("/messages", [], "", "at least 1"),
        ("/segments", {"name": "a" * 500, "condition": {}}, "/name", "characters at most"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(shop: Program, path: str, body: Any, where: str, said: str) -> None:
    assert said in faults(shop.post(path, body))[where]


def test_nothing_deeper_than_two_dozen_levels_is_taken(shop: Program) -> None:
    condition: Any = {"combinator": "and", "rules": []}
    for _ in range(30):
        condition = {"combinator": "and", "rules": [condition]}
    assert "deeper" in next(iter(faults(shop.post("/segments", {"name": "a", "condition": condition})).values()))
    bottomless = b'{"name": "a", "condition": ' + b"[" * 100_000
    kind = "application/json"
    answer = shop.client.post(f"{ROOT}/segments", data=bottomless, headers=shop.headers, content_type=kind)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("raw", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b'{"name": "\xff"}', "application/json", 400),
        (rb'{"name": "\ud800", "condition": {}}', "application/json", 400),
        (b"name=a", "application/x-www-form-urlencoded", 415),
        (b"{}", "", 415),
        (b" " * (BODY_LIMIT + 1), "application/json", 413),
    ],
)
def test_what_is_no_json_of_a_bounded_size_is_refused(shop: Program, raw: bytes, kind: str, status: int) -> None:
    answer = shop.client.post(f"{ROOT}/segments", data=raw, headers=shop.headers, content_type=kind)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"


def test_a_parameter_that_is_not_known_or_wrong_is_named(shop: Program) -> None:
    assert faults(shop.get("/leads?limit=0&colour=red")).keys() == {"limit", "colour"}
    assert faults(shop.get("/leads?limit=201"))["limit"] == "This is 200 or less."
    assert faults(shop.get("/leads?limit=1&limit=2")).keys() == {"limit"}
    assert shop.get("/senders?limit=1").status_code == 422
    for cursor in ("x", "e30", "W10", "Ii0xIg", "LTE", "MWU5OQ", "%00", "9" * 900):
        assert "after" in faults(shop.get(f"/leads?after={cursor}")), cursor
        assert "after" in faults(shop.get(f"/suppressions?after={cursor}")), cursor


def test_a_list_is_read_page_by_page_to_its_end(shop: Program) -> None:
    emails = [f"lead{n}@example.com" for n in range(7)]
    assert shop.post("/leads", [{"email": email} for email in emails]).status_code == 200
    assert shop.post("/suppressions", {"emails": emails}).json == {"added": 7}
    for path in ("/leads", "/suppressions"):
        found, following = [], f"{path}?limit=3"
        while following:
            answer = shop.get(following)
            found += [each["email"] for each in answer.json["items"]]  # type: ignore[index]
            link = answer.headers.get("Link", "")
            following = link.partition(">")[0].removeprefix(f"<{ROOT}")
            assert bool(following) == (answer.json["next"] is not None)  # type: ignore[index]
        assert found == emails


def test_who_asks_too_often_is_told_when_to_come_again(app: Flask, runtime: Runtime, people: People) -> None:
    eager = program(app, runtime, people, per_minute=3)
    first = eager.get("/senders")
    assert first.headers["RateLimit-Policy"] == '"minute";q=3;w=60'
    assert first.headers["RateLimit"].startswith('"minute";r=2;t=')
    answers = [eager.get("/senders") for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused  # a new minute may have begun, once
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
    assert ";r=0;" in refused[0].headers["RateLimit"]
    assert program(app, runtime, people, per_minute=3).get("/senders").status_code == 200


def test_while_redis_is_away_requests_are_answered_and_the_log_says_so(
    settings: Settings, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    lonely = Runtime(replace(settings, redis_url="redis://127.0.0.1:1/0"))
    with caplog.at_level(logging.WARNING, "web.api.rate"):
        shop = program(create_app(lonely), lonely, people, per_minute=1)
        assert [shop.get("/senders").status_code for _ in range(3)] == [200] * 3
    assert len([record for record in caplog.records if "not counted" in record.message]) == 1
    assert "RateLimit" not in shop.get("/senders").headers
    lonely.close()


def test_the_document_is_valid_and_names_every_route(app: Flask, people: People) -> None:
    answer = app.test_client().get(f"{ROOT}/openapi.json")
    document = orjson.loads(answer.data)
    validate(document)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, PLACES.sub(r"{\2}", route.path)) for route in ROUTES}
    served = {
        (method, rule.rule.removeprefix(ROOT))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(ROOT)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served - {("GET", "/openapi.json")} == {(route.method, route.path) for route in ROUTES}
    assert {route.scope for route in ROUTES} <= set(SCOPES)
