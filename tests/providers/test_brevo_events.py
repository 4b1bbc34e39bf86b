"""What Brevo posts, in its documented format, one by one and batched, as whole events."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.errors import Unverified
from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import WEBHOOKS

BODIES = Path(__file__).with_name("bodies")
BREVO = WEBHOOKS["brevo"]
SENT = Kind.SENT
REF = "<202611051633.27287306012@smtp-relay.mailin.fr>"
AT = datetime(2026, 11, 5, 16, 33, 54, 907000, UTC)
EPOCH = round(AT.timestamp() * 1000)
SECRET = "a-token-of-our-own-making"


def told(name: str, **changes: Any) -> dict[str, Any]:
    return {**json.loads((BODIES / f"brevo_{name}.json").read_bytes()), **changes}


def read_one(name: str, **changes: Any) -> Reported:
    [event] = BREVO.read_events(json.dumps(told(name, **changes)).encode(), "")
    return event


def event(name: str, meaning: Meaning, link: str = "", **more: Any) -> Reported:
    key = f"{name}:{REF}:ada@example.com:{EPOCH}:{EPOCH // 1000}:{link}"
    return Reported(key, AT, 7, 42, meaning, ref=REF, **more)


def bounced(kind: Bounce) -> Meaning:
    return Meaning(Kind.BOUNCED, SENT, kind)


OPENED = Meaning(Kind.OPENED, SENT)
LINK = "https://example.com/offer?a=1"
EVENTS = {
    "request": event("request", Meaning(evidence=SENT, first=True)),
    "delivered": event("delivered", Meaning(Kind.DELIVERED, SENT)),
    "deferred": event(
        "deferred",
        Meaning(Kind.DEFERRED, SENT),
        reason="450 4.2.1 The user you are trying to contact is receiving mail too quickly",
    ),
    "soft_bounce": event(
        "soft_bounce", bounced(Bounce.SOFT), reason="undefined Unable to find MX of domain example.com"
    ),
    "hard_bounce": event(
        "hard_bounce",
        bounced(Bounce.HARD),
        reason="RecipientError: 550 5.5.0 Requested action not taken: mailbox unavailable.",
    ),
    "blocked": event("blocked", bounced(Bounce.BLOCKED), reason="blocked : due to blacklist user"),
    "invalid_email": event("invalid_email", bounced(Bounce.HARD)),
    "error": event("error", bounced(Bounce.SOFT), reason="Error in transfer"),
    "spam": event("spam", Meaning(Kind.COMPLAINED, SENT)),
    "opened": event("opened", OPENED),
    "unique_opened": event("unique_opened", OPENED),
    "proxy_open": event("proxy_open", OPENED, machine=True),
    "click": event("click", Meaning(Kind.CLICKED, SENT), LINK, url=LINK),
    "unsubscribed": event("unsubscribed", Meaning(Kind.UNSUBSCRIBED, SENT)),
}


@pytest.mark.parametrize("name", EVENTS)
def test_a_saved_body_is_one_whole_event(name: str) -> None:
    assert read_one(name) == EVENTS[name]


def test_a_batch_of_events_is_read_in_its_order() -> None:
    body = json.dumps([told(name) for name in EVENTS]).encode()
    assert BREVO.read_events(body, "") == list(EVENTS.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("complaint", Meaning(Kind.COMPLAINED, SENT)),
        ("unsubscribe", Meaning(Kind.UNSUBSCRIBED, SENT)),
        ("unique_proxy_open", OPENED),
        ("list_addition", Meaning()),
    ],
)
def test_other_names_of_events_are_known_or_change_nothing(name: str, expected: Meaning) -> None:
    assert read_one("spam", event=name).meaning == expected


def test_seconds_in_the_place_of_milliseconds_are_seconds() -> None:
    assert read_one("delivered", ts_epoch=EPOCH // 1000).at == AT.replace(microsecond=0)
    assert read_one("delivered", ts_epoch=None).at == AT.replace(microsecond=0)


@pytest.mark.parametrize("custom", [None, "", "x", "[1]", "some_custom_header", '{"handoff": "a"}', 7])
def test_an_email_of_somebody_else_has_none_of_our_ids(custom: object) -> None:
    event = read_one("delivered", **{"X-Mailin-custom": custom})
    assert (event.handoff_id, event.lead_id) == (0, 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b'["delivered"]',
        b'{"event": "delivered"}',
        b'{"event": "delivered", "ts_epoch": "soon"}',
        b'{"event": "delivered", "ts_epoch": 1e300}',
    ],
)
def test_what_is_no_event_cannot_be_read(raw: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        BREVO.read_events(raw, "")


def test_only_who_shows_the_secret_may_post() -> None:
    basic = b64encode(f"brevo:{SECRET}".encode()).decode()
    for headers in ({"authorization": f"Bearer {SECRET}"}, {"authorization": f"Basic {basic}"}):
        assert BREVO.verify(headers, b"{}", SECRET) == ""
    for headers in ({}, {"authorization": "Bearer nothing"}, {"api-key": SECRET}):
        with pytest.raises(Unverified):
            BREVO.verify(headers, b"{}", SECRET)
