"""What Postmark posts, in its documented format, as whole events; and who may post at all."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.errors import Invalid, Unverified
from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import WEBHOOKS
from app.providers.postmark_events import BOUNCES

BODIES = Path(__file__).with_name("bodies")
POSTMARK = WEBHOOKS["postmark"]
AT = datetime(2026, 11, 5, 16, 33, 54, 907025, UTC)
REF = "00000000-0000-0000-0000-00000000a042"
SECRET = "correct-horse-battery"


def body(name: str, **changes: Any) -> bytes:
    return json.dumps(json.loads((BODIES / f"postmark_{name}.json").read_bytes()) | changes).encode()


def event(key: str, meaning: Meaning, **more: Any) -> Reported:
    return Reported(key=key, at=AT, handoff_id=7, lead_id=42, meaning=meaning, ref=REF, **more)


def key_of(record: str, *rest: str) -> str:
    return ":".join((record, REF, "ada@example.com", *rest))


SEEN = {"agent": "Mozilla/5.0 (Macintosh)", "address": "198.51.100.7"}
TIME = "2026-11-05T16:33:54.9070259Z"
EVENTS = [
    (
        "delivery",
        event(
            key_of("Delivery", TIME, "", "", "", "", ""),
            Meaning(Kind.DELIVERED, Kind.SENT, first=True),
            reason="250 2.0.0 OK: queued",
        ),
    ),
    (
        "bounce",
        event(
            "Bounce:4323372036854775807",
            Meaning(Kind.BOUNCED, Kind.SENT, Bounce.HARD),
            reason="smtp;550 5.1.1 The email account that you tried to reach does not exist.",
        ),
    ),
    ("complaint", event("SpamComplaint:42", Meaning(Kind.COMPLAINED, Kind.SENT), reason="Feedback loop")),
    ("open", event(key_of("Open", "", "", TIME, "", "", ""), Meaning(Kind.OPENED, Kind.SENT), **SEEN)),
    (
        "click",
        event(
            key_of("Click", "", "", TIME, "", "https://example.com/offer?a=1", ""),
            Meaning(Kind.CLICKED, Kind.SENT),
            url="https://example.com/offer?a=1",
            **SEEN,
        ),
    ),
    (
        "subscription_change",
        event(
            key_of("SubscriptionChange", "", "", "", "2026-11-05T16:33:54.907025Z", "", "True"),
            Meaning(Kind.UNSUBSCRIBED, Kind.SENT),
            reason="ManualSuppression",
        ),
    ),
]


@pytest.mark.parametrize(("name", "expected"), EVENTS, ids=[name for name, _ in EVENTS])
def test_a_saved_body_is_one_whole_event(name: str, expected: Reported) -> None:
    assert POSTMARK.read_events(body(name), "") == [expected]


@pytest.mark.parametrize(
    ("code", "kind", "bounce"),
    [
        (1, Kind.BOUNCED, Bounce.HARD),
        (2, Kind.DEFERRED, None),
        (16, Kind.UNSUBSCRIBED, None),
        (64, None, None),
        (512, Kind.BOUNCED, Bounce.BLOCKED),
        (4096, Kind.BOUNCED, Bounce.SOFT),
        (100000, Kind.BOUNCED, Bounce.HARD),
        (100001, Kind.COMPLAINED, None),
        (100006, Kind.BOUNCED, Bounce.BLOCKED),
        (100009, Kind.BOUNCED, Bounce.BLOCKED),
        (31337, Kind.BOUNCED, Bounce.SOFT),
    ],
)
def test_a_bounce_means_what_its_type_code_says(code: int, kind: Kind | None, bounce: Bounce | None) -> None:
    [told] = POSTMARK.read_events(body("bounce", TypeCode=code), "")
    assert (told.meaning.kind, told.meaning.bounce) == (kind, bounce)


def test_only_bad_addresses_are_hard_bounces() -> None:
    assert [code for code, meaning in BOUNCES.items() if meaning.bounce is Bounce.HARD] == [1, 100000]


@pytest.mark.parametrize(
    "changes",
    [
        {"SuppressionReason": "HardBounce"},
        {"SuppressionReason": "SpamComplaint"},
        {"Origin": "Customer", "MessageID": None, "Metadata": {}},
        {"SuppressSending": False, "SuppressionReason": None, "MessageID": None, "Metadata": {}},
    ],
)
def test_a_change_of_subscription_that_no_recipient_asked_for_unsubscribes_nobody(changes: dict[str, Any]) -> None:
    [told] = POSTMARK.read_events(body("subscription_change", **changes), "")
    assert told.meaning == Meaning()


def test_an_email_of_somebody_else_has_none_of_our_ids() -> None:
    for metadata in (None, {}, {"handoff": "x", "lead": "-1"}, ["7", "42"]):
        [told] = POSTMARK.read_events(body("delivery", Metadata=metadata), "")
        assert (told.handoff_id, told.lead_id) == (0, 0)


def test_a_record_that_nobody_knows_changes_nothing() -> None:
    [told] = POSTMARK.read_events(body("delivery", RecordType="Teleported"), "")
    assert told.meaning == Meaning()


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"null", b'{"RecordType": "Delivery"}', b"\xff"])
def test_what_is_no_event_cannot_be_read(raw: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        POSTMARK.read_events(raw, "")


def test_a_time_without_a_zone_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="zone"):
        POSTMARK.read_events(body("delivery", DeliveredAt="2026-11-05T16:33:54"), "")


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    "headers",
    [basic(f"anybody:{SECRET}"), {"authorization": f"Bearer {SECRET}"}, {"x-webhook-secret": SECRET}],
)
def test_whoever_shows_the_secret_may_post(headers: dict[str, str]) -> None:
    assert POSTMARK.verify(headers, b"{}", SECRET) == ""


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Basic %%%"},
        {"authorization": f"Digest {SECRET}"},
        {"authorization": "Bearer"},
        basic(SECRET),
        basic("anybody:"),
        basic(f"anybody:{SECRET}x"),
        {"x-webhook-secret": SECRET[:-1]},
        {"x-webhook-secret": "gr\u00fc\u00dfe"},
    ],
)
def test_nobody_else_may_post(headers: dict[str, str]) -> None:
    with pytest.raises(Unverified):
        POSTMARK.verify(headers, b"{}", SECRET)


def test_a_secret_with_a_user_needs_that_user() -> None:
    secret = f"postmark:{SECRET}"
    POSTMARK.verify(basic(secret), b"{}", secret)
    with pytest.raises(Unverified):
        POSTMARK.verify(basic(f"somebody:{SECRET}"), b"{}", secret)


@pytest.mark.parametrize(
    "secret", ["", "short", "with a space in it all", "gr\u00fc\u00dfe aus M\u00fcnchen" * 2, "a" * 201]
)
def test_a_secret_that_can_be_guessed_or_not_be_sent_is_refused(secret: str) -> None:
    with pytest.raises(Invalid):
        POSTMARK.check_secret(secret)


def test_a_long_secret_is_taken() -> None:
    POSTMARK.check_secret(SECRET)
