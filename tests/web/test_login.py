"""Promises of the door: who may enter, for how long, and what a thief or a guesser gets."""

from __future__ import annotations

import dataclasses
import statistics
import time

import pytest
from flask import Flask

from app.config import Settings
from app.errors import Conflict, Invalid
from app.flows import login
from app.models.user import Login
from app.runtime import Runtime
from tests.web.conftest import PASSWORD, People, Visit
from web import create_app


def test_address_and_password_open_the_house(stranger: Visit) -> None:
    response = stranger.log_in(" Ann@Example.com ")
    assert (response.status_code, response.location) == (302, "/")
    assert "Ann" in stranger.get("/account").text


@pytest.mark.parametrize("email, password", [("ann@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("", "")])
def test_anything_else_does_not(stranger: Visit, email: str, password: str) -> None:
    assert stranger.log_in(email, password).status_code == 422
    assert stranger.get("/account").status_code == 302


def test_an_unknown_address_and_a_wrong_password_get_the_same_answer(stranger: Visit) -> None:
    unknown, wrong = stranger.log_in("nobody@example.com", "x"), stranger.log_in("bob@example.com", "x")
    sentence = "do not belong together"
    assert sentence in unknown.text
    assert sentence in wrong.text


def test_time_does_not_tell_which_addresses_have_an_account(runtime: Runtime, people: People) -> None:
    def seconds(email: str) -> float:
        started = time.process_time()
        login.log_in(runtime.db, email, "wrong password")
        return time.process_time() - started

    seconds("nobody@example.com")  # the hash that nobody's passwords are compared with is made once
    times = [(seconds("nobody@example.com"), seconds("bob@example.com")) for _ in range(5)]
    unknown, known = (statistics.median(column) for column in zip(*times, strict=True))
    assert unknown == pytest.approx(known, rel=0.3)


def test_a_session_from_before_the_login_does_not_survive_it(app: Flask, stranger: Visit) -> None:
    with stranger.client.session_transaction() as session:
        session["planted"] = "by somebody else"
    stranger.log_in("ann@example.com")
    with stranger.client.session_transaction() as session:
        assert "planted" not in session


def test_a_cookie_kept_from_before_the_logout_opens_nothing(app: Flask, ann: Visit) -> None:
    kept = ann.client.get_cookie("millrace")
    assert kept is not None
    ann.post("/logout")
    thief = app.test_client()
    thief.set_cookie("millrace", kept.value)
    assert thief.get("/account").status_code == 302


def test_a_changed_password_ends_every_other_login(app: Flask, ann: Visit, people: People) -> None:
    elsewhere = Visit(app.test_client())
    elsewhere.log_in("ann@example.com")
    changed = ann.post("/account", {"current": PASSWORD, "new": "a millstone and a pond"})
    assert changed.status_code == 302
    assert ann.get("/account").status_code == 200
    assert elsewhere.get("/account").status_code == 302
    assert Visit(app.test_client()).log_in("ann@example.com").status_code == 422
    assert Visit(app.test_client()).log_in("ann@example.com", "a millstone and a pond").status_code == 302


@pytest.mark.parametrize(
    "current, new, sentence",
    [
        ("wrong", "a millstone and a pond", "not your password"),
        (PASSWORD, "short", "at least 10"),
        (PASSWORD, "aaaaaaaaaaaa", "harder to guess"),
        (PASSWORD, "long enough " * 30, "at most 256"),
    ],
)
def test_a_bad_new_password_changes_nothing(ann: Visit, current: str, new: str, sentence: str) -> None:
    response = ann.post("/account", {"current": current, "new": new})
    assert response.status_code == 422
    assert sentence in response.text
    assert ann.get("/account").status_code == 200


def test_the_table_holds_no_token_that_opens_anything(runtime: Runtime, ann: Visit) -> None:
    with ann.client.session_transaction() as cookie:
        token = cookie["_user_id"]
    with runtime.db.session() as session:
        kept = session.query(Login).one()
    assert token.encode() not in kept.token_hash
    assert login.who(runtime.db, token) is not None
    assert login.who(runtime.db, kept.token_hash.hex()) is None


def test_a_disabled_person_is_out_at_once(runtime: Runtime, ann: Visit, people: People) -> None:
    with runtime.db.session() as session:
        from app.models.user import User

        user = session.get_one(User, people.ann)
        user.disabled_at = user.created_at
    assert ann.get("/account").status_code == 302
    assert ann.log_in("ann@example.com").status_code == 422


def test_the_eleventh_guess_in_a_minute_is_not_looked_at(app: Flask, people: People) -> None:
    guesser = Visit(app.test_client())
    answers = [guesser.log_in("ann@example.com", f"guess {n}").status_code for n in range(10)]
    assert answers == [422] * 10
    refused = guesser.log_in("ann@example.com")  # the right one by now
    assert refused.status_code == 429
    assert refused.headers["Retry-After"]
    assert Visit(app.test_client()).log_in("bob@example.com").status_code == 302


def test_guessing_is_limited_while_redis_is_away(settings: Settings, people: People) -> None:
    runtime = Runtime(dataclasses.replace(settings, redis_url="redis://127.0.0.1:1/0"))
    guesser = Visit(create_app(runtime).test_client())
    answers = [guesser.log_in("ann@example.com", f"guess {n}").status_code for n in range(11)]
    runtime.close()
    assert answers == [422] * 10 + [429]


@pytest.mark.parametrize(
    "wanted, given",
    [
        ("/account?a=1", "/account?a=1"),
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("account", "/"),
        ("/x\\..\\y", "/"),
        ("", "/"),
    ],
)
def test_the_way_back_stays_in_the_house(stranger: Visit, wanted: str, given: str) -> None:
    assert stranger.log_in("ann@example.com", next=wanted).location == given
    assert stranger.get("/login", query_string={"next": wanted}).location == given


def test_cookies_are_out_of_reach_and_secure_over_https(settings: Settings, people: People) -> None:
    runtime = Runtime(dataclasses.replace(settings, base_url="https://mail.example.com"))
    client = create_app(runtime).test_client()
    response = client.get("/login", base_url="https://mail.example.com")
    runtime.close()
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-millrace=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert response.headers["Strict-Transport-Security"]


def test_an_account_is_made_once_and_checked(runtime: Runtime) -> None:
    made = login.create_user(runtime.db, email="New@Example.com", name="New", password=PASSWORD, role="admin")
    assert made.email == "new@example.com"
    with pytest.raises(Conflict):
        login.create_user(runtime.db, email="new@example.com", name="Again", password=PASSWORD)
    with pytest.raises(Invalid) as caught:
        login.create_user(runtime.db, email="no address", name=" ", password=PASSWORD, role="owner")
    assert [fault.pointer for fault in caught.value.faults] == ["email", "name", "role"]
