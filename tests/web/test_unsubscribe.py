"""Promises of the way out: it needs no login and no cookie, acts on POST only, and takes no forged link."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from app.runtime import Runtime
from tests import world


@pytest.fixture
def link(runtime: Runtime) -> str:
    at = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=1, state="sending")
    with runtime.db.begin() as conn:
        lead_id = int(conn.execute(text("SELECT min(id) FROM lead")).scalar_one())
    return f"/u/{runtime.signer.unsubscribe_token(lead_id, at.campaign_id)}"


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A receiver's server: it keeps no cookies."""
    return app.test_client(use_cookies=False)


def status(runtime: Runtime) -> str:
    with runtime.db.begin() as conn:
        return str(conn.execute(text("SELECT status FROM lead")).scalar_one())


def test_a_scanner_that_follows_the_link_changes_nothing(client: FlaskClient, runtime: Runtime, link: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert client.open(link, method=method).status_code == 200
    assert "Unsubscribe" in client.get(link).text
    assert status(runtime) == "active"


def one_click(client: FlaskClient, link: str, kind: str) -> TestResponse:
    if kind == "multipart/form-data":
        return client.post(link, data={"List-Unsubscribe": "One-Click"}, content_type=kind)
    return client.post(link, data="List-Unsubscribe=One-Click", content_type=kind)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_the_receivers_button_acts_without_cookie_token_or_redirect(
    client: FlaskClient, runtime: Runtime, link: str, kind: str
) -> None:
    response = one_click(client, link, kind)
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert "You are unsubscribed" in response.text
    assert status(runtime) == "unsubscribed"
    assert one_click(client, link, kind).status_code == 200  # again, as receivers do
    assert "You are unsubscribed" in client.get(link).text


def test_a_person_who_is_logged_in_is_treated_like_anybody(runtime: Runtime, link: str, app: Flask) -> None:
    client = app.test_client()
    client.get("/login")
    assert client.post(link).status_code == 200
    assert status(runtime) == "unsubscribed"


@pytest.mark.parametrize("change", [lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"), lambda t: t[:-1], lambda t: "x"])
def test_a_forged_link_is_not_there(client: FlaskClient, runtime: Runtime, link: str, change: object) -> None:
    forged = "/u/" + change(link.removeprefix("/u/"))  # type: ignore[operator]
    assert client.get(forged).status_code == 404
    assert client.post(forged).status_code == 404
    assert status(runtime) == "active"


def test_the_page_gives_no_whole_address_away(client: FlaskClient, link: str) -> None:
    page = client.get(link).text
    assert "lead1@" not in page
    assert "l…@mail1.example.com" in page


def tracked(runtime: Runtime) -> bool:
    with runtime.db.begin() as conn:
        return not conn.execute(text("SELECT untracked FROM lead")).scalar_one()


def test_a_lead_can_ask_not_to_be_tracked_and_change_their_mind(
    client: FlaskClient, runtime: Runtime, link: str
) -> None:
    assert "Do not track me" in client.get(link).text
    page = client.post(f"{link}/tracking", data={"wanted": "0"}, follow_redirects=True)
    assert (page.status_code, "Track me again" in page.text) == (200, True)
    assert not tracked(runtime)
    assert status(runtime) == "active"  # and mail goes on
    client.post(f"{link}/tracking", data={"wanted": "1"})
    assert tracked(runtime)


def test_who_asked_not_to_be_tracked_can_still_unsubscribe_from_the_page_that_answers(
    client: FlaskClient, runtime: Runtime, link: str
) -> None:
    page = client.post(f"{link}/tracking", data={"wanted": "0"}, follow_redirects=True)
    assert page.request.path == link  # a reload asks this page again
    (action,) = set(re.findall(r'<form method="post" action="([^"]+)"', page.text)) - {f"{link}/tracking"}
    assert "You are unsubscribed" in client.post(action, data={"List-Unsubscribe": "One-Click"}).text
    assert status(runtime) == "unsubscribed"


def test_nobody_else_can_say_so_and_looking_says_nothing(client: FlaskClient, runtime: Runtime, link: str) -> None:
    forged = link[:-1] + ("A" if link[-1] != "A" else "B")
    assert client.post(f"{forged}/tracking", data={"wanted": "0"}).status_code == 404
    assert client.get(f"{link}/tracking").status_code == 405
    assert tracked(runtime)
