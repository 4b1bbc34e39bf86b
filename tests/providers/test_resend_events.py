"""What Resend posts, in its documented format, as whole events; signed by the names of Svix and of the standard."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.errors import Unverified
from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import WEBHOOKS, standard

BODIES = Path(__file__).with_name("bodies")
RESEND = WEBHOOKS["resend"]
SECRET = "whsec_" + b64encode(b"thirty-two bytes of a secret key").decode()
SENT = Kind.SENT


def body(name: str, **data: Any) -> bytes:
    told = json.loads((BODIES / f"resend_{name}.json").read_bytes())
    return json.dumps({**told, "data": {**told["data"], **data}}).encode()


def event(meaning: Meaning, **more: Any) -> Reported:
    at = datetime(2026, 11, 5, 16, 33, 54, 907000, UTC)
    return Reported("msg_1", at, 7, 42, meaning, ref="56761188-7520-42d8-8898-ff6fc54ce618", **more)


SEEN = {"agent": "Mozilla/5.0", "address": "198.51.100.7"}
EVENTS = {
    "sent": event(Meaning(evidence=SENT, first=True)),
    "delivered": event(Meaning(Kind.DELIVERED, SENT)),
    "delivery_delayed": event(Meaning(Kind.DEFERRED, SENT)),
    "complained": event(Meaning(Kind.COMPLAINED, SENT)),
    "bounced": event(
        Meaning(Kind.BOUNCED, SENT, Bounce.HARD),
        reason="The recipient's email address is on the suppression list because it has a recent history of producing "
        "hard bounces.",
    ),
    "opened": event(Meaning(Kind.OPENED, SENT), **SEEN),
    "clicked": event(Meaning(Kind.CLICKED, SENT), url="https://example.com/offer?a=1", **SEEN),
    "failed": event(Meaning(Kind.BOUNCED, SENT, Bounce.BLOCKED), reason="reached_daily_quota"),
    "suppressed": event(
        Meaning(Kind.BOUNCED, SENT, Bounce.HARD),
        reason="Resend has suppressed sending to this address because it is on the account-level suppression list.",
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_a_saved_body_is_one_whole_event(name: str) -> None:
    assert RESEND.read_events(body(name), "msg_1") == [EVENTS[name]]


@pytest.mark.parametrize(
    ("bounce", "expected"),
    [
        ({"type": "Permanent", "subType": "General"}, Bounce.HARD),
        ({"type": "Permanent", "subType": "NoEmail"}, Bounce.HARD),
        ({"type": "Transient", "subType": "General"}, Bounce.SOFT),
        ({"type": "Transient", "subType": "MailboxFull"}, Bounce.SOFT),
        ({"type": "Transient", "subType": "MessageTooLarge"}, Bounce.BLOCKED),
        ({"type": "Transient", "subType": "ContentRejected"}, Bounce.BLOCKED),
        ({"type": "Transient", "subType": "AttachmentRejected"}, Bounce.BLOCKED),
        ({"type": "Permanent", "subType": "MessageRejected"}, Bounce.BLOCKED),
        ({"type": "Undetermined", "subType": "Undetermined"}, Bounce.SOFT),
        ({"message": "An older body says no more."}, Bounce.HARD),
        (None, Bounce.HARD),
    ],
)
def test_a_bounce_means_what_its_type_says(bounce: dict[str, str] | None, expected: Bounce) -> None:
    [told] = RESEND.read_events(body("bounced", bounce=bounce), "m")
    assert told.meaning.bounce is expected


def test_tags_are_read_as_an_object_and_as_a_list() -> None:
    tags = [{"name": "handoff", "value": "7"}, {"name": "lead", "value": "42"}]
    assert RESEND.read_events(body("sent", tags=tags), "msg_1") == [EVENTS["sent"]]
    [stranger] = RESEND.read_events(body("sent", tags=None), "m")
    assert (stranger.handoff_id, stranger.lead_id) == (0, 0)


def test_a_type_that_nobody_knows_changes_nothing() -> None:
    raw = body("sent").replace(b"email.sent", b"contact.created")
    assert RESEND.read_events(raw, "m")[0].meaning == Meaning()


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"created_at": "2026-11-05T16:33:54Z", "type": "email.sent", "data": 1}']
)
def test_what_is_no_event_cannot_be_read(raw: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        RESEND.read_events(raw, "")


def svix(raw: bytes, delivery: str = "msg_1") -> dict[str, str]:
    signed = standard.sign(delivery, raw, SECRET)
    return {name.replace("webhook-", "svix-"): value for name, value in signed.items()}


def test_a_post_signed_by_svix_is_verified_and_named() -> None:
    raw = body("sent")
    assert RESEND.verify(svix(raw), raw, SECRET) == "msg_1"
    assert RESEND.verify(standard.sign("msg_2", raw, SECRET), raw, SECRET) == "msg_2"


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
def test_a_post_without_one_of_its_headers_is_refused(name: str) -> None:
    raw = body("sent")
    with pytest.raises(Unverified):
        RESEND.verify({**svix(raw), name: ""}, raw, SECRET)
    with pytest.raises(Unverified):
        RESEND.verify({each: value for each, value in svix(raw).items() if each != name}, raw, SECRET)


def test_an_altered_an_old_and_a_stranger_s_post_are_refused() -> None:
    raw = body("sent")
    other = "whsec_" + b64encode(b"another thirty-two bytes of keys").decode()
    for headers, posted, secret in (
        (svix(raw), raw + b" ", SECRET),
        ({**svix(raw), "svix-id": "msg_2"}, raw, SECRET),
        ({**svix(raw), "svix-timestamp": "1700000000"}, raw, SECRET),
        (svix(raw), raw, other),
    ):
        with pytest.raises(Unverified):
            RESEND.verify(headers, posted, secret)
