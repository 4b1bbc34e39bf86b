"""The webhooks' door: what each provider must be told, and one body for one delivery."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest
from sqlalchemy import text

from app import providers
from app.flows import ingest
from app.providers.ses_events import SesWebhooks
from app.providers.sns import Sns
from app.runtime import Runtime
from tests.providers.api_peer import running
from tests.providers.sns_peer import TOPIC, SnsPeer, confirmation, post
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


def test_amazons_post_goes_from_the_door_to_the_record(
    house: House, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by the topic that the pool names; another topic, and what was altered, are refused."""
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET provider = 'ses', webhook_secret = :secret"), {"secret": secret_of(runtime)})
    at = datetime.now(UTC).isoformat()

    def event(kind: str, member: str, **facts: object) -> str:
        tags = {"handoff": [str(house.handoff_id)], "lead": [str(house.lead_ids[0])]}
        mail = {"timestamp": at, "messageId": "0102-1", "tags": tags}
        return orjson.dumps({"eventType": kind, "mail": mail, member: {"timestamp": at, **facts}}).decode()

    people = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15"
    link = {"link": "https://example.com/a", "ipAddress": "192.0.2.1"}
    told = [
        event("Delivery", "delivery"),
        event("Open", "open", userAgent=people, ipAddress="192.0.2.1"),
        event("Open", "open", userAgent="Mozilla/5.0", ipAddress="192.0.2.2"),  # Apple's, whoever reads it
        event("Click", "click", userAgent=people, **link),
        event("Click", "click", userAgent="Barracuda Sentinel (EE)", **link | {"link": "https://example.com/b"}),
    ]
    told[2] = told[2].replace(at, (datetime.fromisoformat(at) - timedelta(seconds=1)).isoformat())  # another open
    with running(SnsPeer()) as aws, running_web(runtime) as web:
        monkeypatch.setitem(providers.WEBHOOKS, "ses", SesWebhooks(Sns(aws.fetch)))  # type: ignore[index]
        door = f"{web}/webhooks/{house.token}/ses"
        for number, message in enumerate(told):
            assert httpx.post(door, content=post(message, MessageId=f"id-{number}")).status_code == 200
        assert httpx.post(door, content=post(told[0], MessageId="id-0")).status_code == 200  # SNS comes again
        assert httpx.post(door, content=confirmation()).status_code == 200
        for forged in (
            post(told[0], TopicArn=TOPIC + "x"),
            post(told[0], alter=lambda each: each.update(Message=told[1])),
            b"{}",
        ):
            assert httpx.post(door, content=forged).status_code == 401
        assert [call.query for call in aws.calls if call.path == "/"] == [
            {"Action": "ConfirmSubscription", "TopicArn": TOPIC, "Token": "2336412f37"}
        ]
    ingest.read_waiting(runtime)
    found = house.rows("SELECT kind::text, machine, count(*) FROM event GROUP BY 1, 2 ORDER BY 1, 2")
    assert found == [
        ("clicked", False, 1),
        ("clicked", True, 1),
        ("delivered", False, 1),
        ("opened", False, 1),
        ("opened", True, 1),
    ]


def secret_of(runtime: Runtime) -> bytes:
    return runtime.vault.encrypt(TOPIC)
