"""What Mailgun posts, in its documented format, as whole events; and a token that is good for one body."""

from __future__ import annotations

import hmac
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.errors import Invalid, Unverified
from app.flows import ingest
from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import WEBHOOKS
from app.runtime import Runtime
from tests.test_webhooks import House
from tests.web_server import running_web

BODIES = Path(__file__).with_name("bodies")
MAILGUN = WEBHOOKS["mailgun"]
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
AT = datetime(2026, 11, 22, 23, 0, 0, 250_000, tzinfo=UTC)
REF = "20261122230000.1.DF5966851B4BAA99@mg.example.com"
DROPPED = Meaning(evidence=Kind.REFUSED)


def happened(kind: Kind) -> Meaning:
    return Meaning(kind, Kind.SENT)


def bounced(kind: Bounce) -> Meaning:
    return Meaning(Kind.BOUNCED, Kind.SENT, kind)


EVENTS: list[tuple[str, Meaning, dict[str, Any]]] = [
    ("accepted", Meaning(evidence=Kind.SENT, first=True), {}),
    ("delivered", happened(Kind.DELIVERED), {}),
    (
        "failed_permanent",
        bounced(Bounce.HARD),
        {"reason": "5.1.1 The email account that you tried to reach does not exist."},
    ),
    ("failed_policy", bounced(Bounce.BLOCKED), {"reason": "5.7.1 Message rejected as spam."}),
    ("failed_temporary", happened(Kind.DEFERRED), {"reason": "4.2.0 Recipient address rejected: Greylisted"}),
    ("failed_old", bounced(Bounce.SOFT), {"reason": "Too old"}),
    ("failed_no_mx", bounced(Bounce.SOFT), {"reason": "No MX for example.com"}),
    (
        "failed_suppressed",
        Meaning(Kind.BOUNCED, Kind.REFUSED, Bounce.HARD),
        {"reason": "Not delivering to previously bounced address"},
    ),
    ("failed_unsubscribed", DROPPED, {"reason": "Not delivering to unsubscribed address"}),
    (
        "rejected",
        Meaning(evidence=Kind.REFUSED, first=True),
        {"reason": "Sandbox subdomains are for test purposes only."},
    ),
    ("opened", happened(Kind.OPENED), {}),
    ("opened_by_apple", happened(Kind.OPENED), {"machine": True}),
    ("opened_through_gmail", happened(Kind.OPENED), {}),
    ("clicked", happened(Kind.CLICKED), {"machine": True, "url": "https://example.com/offer?a=1"}),
    ("complained", happened(Kind.COMPLAINED), {}),
    ("unsubscribed", happened(Kind.UNSUBSCRIBED), {}),
    ("stored", Meaning(), {}),
]


@pytest.mark.parametrize(("number", "name", "meaning", "more"), [(n, *row) for n, row in enumerate(EVENTS, 1)])
def test_every_event_is_read_whole(number: int, name: str, meaning: Meaning, more: dict[str, Any]) -> None:
    [told] = MAILGUN.read_events((BODIES / f"mailgun_{name}.json").read_bytes(), "a token")
    assert told == Reported(f"CCXMjJ7nQi2N3BPigG{number:04}", AT, 7, 42, meaning, REF, **more)


def test_another_persons_email_through_the_same_domain_is_not_ours() -> None:
    body = json.loads((BODIES / "mailgun_delivered.json").read_bytes())
    for theirs in ({}, {"millrace_lead": "%recipient.x%", "millrace_handoff": "7 "}, None):
        body["event-data"] |= {"user-variables": theirs, "id": None, "message": None}
        [told] = MAILGUN.read_events(json.dumps(body).encode(), "a token")
        assert told == Reported("a token", AT, 0, 0, happened(Kind.DELIVERED))


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"", b'{"event-data": {}}', b'{"event-data": {"event": 1}}'])
def test_what_is_no_such_body_is_said(body: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        MAILGUN.read_events(body, "a token")


# -- The signature -----------------------------------------------------------------------------------------------------


def signature(moment: str, token: str, key: str = KEY) -> dict[str, str]:
    digest = hmac.digest(key.encode(), f"{moment}{token}".encode(), "sha256").hex()
    return {"timestamp": moment, "token": token, "signature": digest}


def post(*, key: str = KEY, ago: float = 0.0, token: str = "t" * 50, **event: Any) -> dict[str, Any]:
    return {"signature": signature(str(int(time.time() - ago)), token, key), "event-data": event}


def verify(told: Any) -> str:
    return MAILGUN.verify({}, told if isinstance(told, bytes) else json.dumps(told).encode(), KEY)


@pytest.mark.parametrize("ago", [-200, 0, 3600, 8 * 3600])
def test_a_signed_token_is_the_name_of_its_post(ago: float) -> None:
    assert verify(post(ago=ago)) == "t" * 50


def test_a_subaccounts_post_is_signed_with_the_main_accounts_key_as_well() -> None:
    theirs = post(key="the key of the subaccount")
    ours = signature(theirs["signature"]["timestamp"], "t" * 50)["signature"]
    theirs["signature"]["parent-signature"] = ours
    assert verify(theirs) == "t" * 50


def test_whatever_was_changed_is_refused() -> None:
    good = post()["signature"]
    forged: list[Any] = [
        b"",
        b"null",
        b"[]",
        b"\xff",
        {},
        {"signature": None},
        {"signature": {}},
        post(key="another key of somebody"),
        post(ago=10 * 3600),
        post(ago=-400),
        post(token=""),
        post(token="t" * 300),
        post(token="a\0" * 20),
        {"signature": good | {"token": "u" * 50}},
        {"signature": good | {"timestamp": str(int(good["timestamp"]) + 1)}},
        {"signature": good | {"timestamp": good["timestamp"] + "0", "token": good["token"][1:]}},
        {"signature": good | {"signature": ""}},
        {"signature": good | {"signature": None}},
        {"signature": good | {"signature": "ü"}},
        {"signature": good | {"signature": good["signature"][:-1]}},
        {"signature": signature("nan", "t" * 50)},
        {"signature": signature("9" * 400, "t" * 50)},
    ]
    for told in forged:
        with pytest.raises(Unverified):
            verify(told)


def test_a_signing_key_is_one_word() -> None:
    MAILGUN.check_secret(KEY)
    for wrong in ("", "short", "two words and more of them", "ü" * 32, "k" * 300):
        with pytest.raises(Invalid, match="signing key"):
            MAILGUN.check_secret(wrong)


def test_a_captured_token_vouches_for_no_second_body(runtime: Runtime) -> None:
    house = House(runtime)
    with runtime.db.begin() as conn:
        conn.execute(
            text("UPDATE pool SET provider = 'mailgun', webhook_secret = :secret"),
            {"secret": runtime.vault.encrypt(KEY)},
        )
    ids = {"millrace_handoff": str(house.handoff_id), "millrace_lead": str(house.lead_ids[0])}
    first = post(event="delivered", id="one", timestamp=time.time(), **{"user-variables": ids})
    forged = first | {"event-data": first["event-data"] | {"event": "complained", "id": "two"}}
    a_day_off = forged | {"event-data": forged["event-data"] | {"timestamp": time.time() - 86400, "id": "three"}}
    with running_web(runtime) as web:
        for body in (first, forged, a_day_off, first):
            assert httpx.post(f"{web}/webhooks/{house.token}/mailgun", json=body).status_code == 200
            ingest.read_waiting(runtime)
        assert httpx.post(f"{web}/webhooks/{house.token}", json=post(key="wrong")).status_code == 406
    assert house.figures() == {"delivered": 1}
    assert house.suppressed() == []
    assert house.rows("SELECT count(*) FROM webhook") == [(1,)]
