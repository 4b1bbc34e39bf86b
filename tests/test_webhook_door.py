"""The webhooks' door: what each provider must be told, and one body for one delivery."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from sqlalchemy import text

from app.runtime import Runtime
from tests.test_webhooks import House, body_of, signed
from tests.web_server import running_web


@pytest.fixture
def house(runtime: Runtime) -> House:
    return House(runtime)


def test_another_body_under_a_delivery_that_was_taken_is_not_kept(house: House, runtime: Runtime) -> None:
    first, second = body_of(house.event("delivered")), body_of(house.event("complained"))
    with running_web(runtime) as web:
        for body in (first, second):
            answer = httpx.post(f"{web}/webhooks/{house.token}/sink", content=body, headers=signed(body, name="msg_7"))
            assert answer.status_code == 200
    assert house.rows("SELECT convert_from(body, 'UTF8') FROM webhook") == [(first.decode(),)]


@pytest.mark.parametrize(("provider", "status"), [("sink", 401), ("mailgun", 406), ("brevo", 401)])
def test_a_refusal_is_said_in_the_providers_own_way(house: House, runtime: Runtime, provider: str, status: int) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET provider = :provider"), {"provider": provider})
    with running_web(runtime) as web:
        answer = httpx.post(f"{web}/webhooks/{house.token}", content=b"{}")
    assert (answer.status_code, answer.content) == (status, b"")
    assert house.rows("SELECT count(*) FROM webhook") == [(0,)]


def test_a_pool_without_a_secret_says_nothing_that_ends_the_tries(house: House, runtime: Runtime) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET provider = 'mailgun', webhook_secret = NULL"))
    with running_web(runtime) as web:
        assert httpx.post(f"{web}/webhooks/{house.token}/mailgun", content=b"{}").status_code == 401


def test_while_the_database_is_away_each_provider_is_told_to_come_again(runtime: Runtime) -> None:
    away = Runtime(replace(runtime.settings, database_url="postgresql://nobody@127.0.0.1:9/none"))
    try:
        with running_web(away) as web:
            said = {
                path: httpx.post(f"{web}/webhooks/{'0' * 32}{path}", content=b"{}", timeout=30)
                for path in ("", "/mailgun", "/brevo", "/nobody")
            }
    finally:
        away.close()
    assert {path: answer.status_code for path, answer in said.items()} == {
        "": 503,
        "/mailgun": 503,
        "/brevo": 429,
        "/nobody": 503,
    }
    assert {answer.headers["retry-after"] for answer in said.values()} == {"5"}
