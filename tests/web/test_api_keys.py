"""Promises of keys' pages and command: a secret is shown once, admins alone make and revoke; the page is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask

from app.config import Settings
from app.models import api_key
from app.models.api_key import SCOPES
from app.runtime import Runtime
from cli.main import main
from tests.web.conftest import People, Visit
from tests.web.programs import Program
from web.api.nouns import ROUTES
from web.api.openapi import PLACES

SECRET = re.compile(r"mill_[A-Za-z0-9_-]{43}")


def make(ann: Visit, **more: object) -> str:
    page = ann.post("/api/keys/new", {"name": "Shop", "scopes": ["senders:read"], "per_minute": "60", **more})
    assert page.status_code == 200, page.text
    return SECRET.findall(page.text)[0]


def test_the_secret_is_shown_once_and_opens_what_was_ticked(ann: Visit, app: Flask) -> None:
    secret = make(ann)
    shop = Program(app, secret)
    assert shop.get("/senders").status_code == 200
    assert shop.get("/leads").status_code == 403
    listed = ann.get("/api/keys").text
    assert secret not in listed and f"{secret[:10]}…" in listed and "senders:read" in listed
    assert "no-store" in ann.get("/api/keys").headers["Cache-Control"]


def test_a_revoked_key_is_still_listed_with_who_ended_it(ann: Visit, app: Flask) -> None:
    secret = make(ann)
    assert ann.post("/api/keys/1/revoke").status_code == 302
    assert Program(app, secret).get("/senders").status_code == 401
    assert "revoked" in ann.get("/api/keys").text
    assert ann.post("/api/keys/2/revoke").status_code == 404


def test_marketers_and_other_organisations_make_and_revoke_none(ann: Visit, bob: Visit, eve: Visit, app: Flask) -> None:
    secret = make(ann)
    assert bob.get("/api/keys").status_code == bob.get("/api/keys/new").status_code == 403
    assert bob.post("/api/keys/1/revoke").status_code == 403
    assert eve.post("/api/keys/1/revoke").status_code == 404
    assert "Shop" not in eve.get("/api/keys").text
    assert Program(app, secret).get("/senders").status_code == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "Give the key a name."),
        ({"name": "x" * 81}, "80 characters at most"),
        ({"scopes": []}, "Choose at least one thing"),
        ({"scopes": ["all"]}, "There is no scope “all”"),
        ({"per_minute": "0"}, "from 1 to 1,000,000"),
        ({"per_minute": "many"}, "Not a valid integer value."),
    ],
)
def test_what_was_typed_is_kept_when_something_in_it_is_wrong(ann: Visit, change: dict[str, object], said: str) -> None:
    page = ann.post("/api/keys/new", {"name": "Shop", "scopes": ["leads:read"], "per_minute": "77", **change})
    assert page.status_code == 422
    assert said in page.text
    assert ("name" in change) or 'value="Shop"' in page.text
    assert ("scopes" in change) or re.search(r'<input checked[^>]*value="leads:read"', page.text)
    assert "No keys yet" in ann.get("/api/keys").text


def test_the_apis_page_names_every_route_for_everybody(ann: Visit, bob: Visit) -> None:
    text = bob.get("/api").text
    for route in ROUTES:
        path = PLACES.sub(r"{\2}", route.path)
        assert f">{path}<" in text
    assert "/api/keys" not in text
    assert "/api/keys" in ann.get("/api").text


def test_a_key_is_made_listed_and_revoked_by_command(
    settings: Settings, runtime: Runtime, people: People, app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_HOME": str(tmp_path),
    }
    run = CliRunner(env=environment).invoke
    several = run(main, ["api-key", "create", "Shop"])
    assert several.exit_code == 1 and "Name one of" in several.output
    ours = ["--organisation", str(people.ours)]
    made = json.loads(run(main, ["api-key", "create", "Shop", "--scope", "senders:read", "--json", *ours]).output)
    shop = Program(app, made["secret"])
    assert (shop.get("/senders").status_code, shop.get("/leads").status_code) == (200, 403)
    (listed,) = json.loads(run(main, ["api-key", "list", "--json"]).output)
    assert (listed["name"], listed["scopes"], listed["made_by"]) == ("Shop", ["senders:read"], "Ann")
    assert made["secret"] not in json.dumps(listed)
    assert run(main, ["api-key", "revoke", str(made["id"])]).exit_code == 0
    assert shop.get("/senders").status_code == 401
    assert "revoked" in run(main, ["api-key", "list"]).output
    whole = run(main, ["api-key", "create", "All", *ours, "--user", "BOB@example.com"])
    with runtime.db.begin() as conn:
        newest = api_key.find_lines(conn, people.ours)[0]
    assert list(newest.scopes) == list(SCOPES) and newest.made_by == "Bob"
    assert SECRET.search(whole.output)
    assert run(main, ["api-key", "create", "X", *ours, "--user", "eve@example.com"]).exit_code == 1
    assert run(main, ["api-key", "revoke", "99"]).exit_code == 1
