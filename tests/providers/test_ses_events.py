"""What SES reports, read from bodies in its documented format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.errors import Unverified
from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import WEBHOOKS
from app.providers.ses_events import BOUNCED, DROPPED, TAKEN, SesWebhooks
from app.providers.sns import Sns
from tests.providers.api_peer import running
from tests.providers.sns_peer import DELIVERY, TOPIC, SnsPeer, confirmation, post

BODIES = Path(__file__).parent / "bodies"
REF = "0102019a2b3c4d5e-61b59c11-9236-11e6-8f96-7be8aexample-000000"
FEEDBACK = "0102019a2b3c9999-aaaaaaaa-9236-11e6-8f96-7be8aexample-000000"
SENT_AT = "2026-11-22T09:00:02.012Z"


@pytest.fixture
def webhooks() -> Iterator[SesWebhooks]:
    with running(SnsPeer()) as aws:
        yield SesWebhooks(Sns(aws.fetch))


def saved(name: str) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads((BODIES / f"ses_{name}.json").read_bytes())
    return told


def read(event: dict[str, Any]) -> Reported:
    [reported] = SesWebhooks().read_events(post(orjson.dumps(event).decode()), DELIVERY)
    return reported


def event(kind: str, written: str, meaning: Meaning, *, detail: str = "", **more: Any) -> Reported:
    at = datetime.fromisoformat(written)
    key = f"{kind}:{REF}:{written}:{detail}"
    return Reported(key=key, at=at, handoff_id=7, lead_id=12, meaning=meaning, ref=REF, **more)


IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
SEEN = {"agent": IPHONE, "address": "192.0.2.1"}
WHOLE = {
    "send": event("Send", SENT_AT, Meaning(evidence=Kind.SENT, first=True)),
    "delivery": event(
        "Delivery",
        "2026-11-22T09:00:14.133Z",
        Meaning(Kind.DELIVERED, Kind.SENT),
        reason="250 2.6.0 Message received",
    ),
    "bounce": event(
        "Bounce",
        "2026-11-22T09:01:02.669Z",
        Meaning(Kind.BOUNCED, Kind.SENT, Bounce.HARD),
        detail=FEEDBACK,
        reason="Permanent/General: smtp; 550 5.1.1 user unknown",
    ),
    "bounce_transient": event(
        "Bounce",
        "2026-11-22T09:01:02.669Z",
        Meaning(Kind.BOUNCED, Kind.SENT, Bounce.SOFT),
        detail=FEEDBACK,
        reason="Transient/MailboxFull: smtp; 552 5.2.2 mailbox full",
    ),
    "complaint": event(
        "Complaint",
        "2026-11-22T10:41:02.669Z",
        Meaning(Kind.COMPLAINED, Kind.SENT),
        detail=FEEDBACK,
        reason="abuse",
    ),
    "reject": event("Reject", SENT_AT, Meaning(evidence=Kind.REFUSED, first=True), reason="Bad content"),
    "open": event("Open", "2026-11-22T09:22:19.652Z", Meaning(Kind.OPENED, Kind.SENT), **SEEN),
    "click": event(
        "Click",
        "2026-11-22T09:23:25.570Z",
        Meaning(Kind.CLICKED, Kind.SENT),
        detail="https://example.com/offer?x=1",
        url="https://example.com/offer?x=1",
        **SEEN,
    ),
    "rendering_failure": event(
        "Rendering Failure",
        SENT_AT,
        Meaning(evidence=Kind.REFUSED, first=True),
        reason="Attribute 'v3' is not present in the rendering data.",
    ),
    "delivery_delay": event(
        "DeliveryDelay",
        "2026-11-22T09:40:25.095Z",
        Meaning(Kind.DEFERRED, Kind.SENT),
        reason="TransientCommunicationFailure: smtp; 421 4.4.1 Unable to connect to remote host",
    ),
    "subscription": event(
        "Subscription", "2026-11-22T11:52:20.529Z", Meaning(Kind.UNSUBSCRIBED, Kind.SENT), reason=None
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_each_event_is_read_whole(name: str) -> None:
    assert read(saved(name)) == WHOLE[name]


def test_a_signed_post_is_verified_and_then_read(webhooks: SesWebhooks) -> None:
    body = post(orjson.dumps(saved("click")).decode())
    assert webhooks.read_events(body, webhooks.verify({}, body, TOPIC)) == [WHOLE["click"]]


def test_an_identitys_notification_has_no_ids_and_touches_nobody() -> None:
    told = read(saved("identity_bounce"))
    assert (told.handoff_id, told.lead_id, told.ref) == (0, 0, REF)
    assert told.meaning == BOUNCED[Bounce.HARD]


BOUNCES = [
    ("Permanent", "General", "5.1.1", Bounce.HARD),
    ("Permanent", "General", None, Bounce.HARD),
    ("Permanent", "General", "5.7.1", Bounce.BLOCKED),
    ("Permanent", "General", "5.2.2", Bounce.SOFT),
    ("Permanent", "NoEmail", "5.7.1", Bounce.HARD),
    ("Permanent", "Suppressed", "5.1.1", Bounce.HARD),
    ("Permanent", "OnAccountSuppressionList", None, Bounce.HARD),
    ("Permanent", "SomethingNew", None, Bounce.HARD),
    ("Transient", "General", "4.4.7", Bounce.SOFT),
    ("Transient", "General", "5.4.4", Bounce.HARD),
    ("Transient", "General", "5.7.1", Bounce.BLOCKED),
    ("Transient", "General", None, Bounce.SOFT),
    ("Transient", "MailboxFull", "5.2.2", Bounce.SOFT),
    ("Transient", "MessageTooLarge", "5.3.4", Bounce.BLOCKED),
    ("Transient", "ContentRejected", "5.6.0", Bounce.BLOCKED),
    ("Transient", "AttachmentRejected", None, Bounce.BLOCKED),
    ("Undetermined", "Undetermined", None, Bounce.SOFT),
    ("SomethingNew", "", None, Bounce.SOFT),
]


@pytest.mark.parametrize(("sort", "detail", "status", "bounce"), BOUNCES)
def test_what_kind_of_bounce_it_is(sort: str, detail: str, status: str | None, bounce: Bounce) -> None:
    told = saved("bounce")
    told["bounce"] |= {"bounceType": sort, "bounceSubType": detail}
    told["bounce"]["bouncedRecipients"] = [{"emailAddress": "ada@example.net", "status": status}]
    assert read(told).meaning == BOUNCED[bounce]


def test_an_address_on_the_accounts_own_list_was_not_sent_to_and_does_not_complain_again() -> None:
    told = saved("complaint")
    told["complaint"]["complaintSubType"] = "OnAccountSuppressionList"
    assert read(told).meaning == DROPPED


def test_who_says_that_it_is_no_spam_does_not_complain() -> None:
    told = saved("complaint")
    told["complaint"]["complaintFeedbackType"] = "not-spam"
    assert read(told).meaning == TAKEN


def test_who_changes_topics_only_has_not_unsubscribed() -> None:
    told = saved("subscription")
    told["subscription"]["newTopicPreferences"]["unsubscribeAll"] = False
    assert read(told).meaning == Meaning()


def test_an_event_that_nobody_knows_changes_nothing_and_is_told_of() -> None:
    told = saved("send") | {"eventType": "Tomorrow"}
    found = read(told)
    assert found.meaning == Meaning()
    assert found.unread is not None and found.unread.type == "Tomorrow" and '"messageId"' in found.unread.raw


def test_what_ses_says_of_the_topic_itself_is_no_event() -> None:
    told = {"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "You have successfully subscribed …"}
    assert SesWebhooks().read_events(post(orjson.dumps(told).decode()), DELIVERY) == []


@pytest.mark.parametrize("tag", ["-1", "x", "", "7.0", "9" * 30, "٧"])
def test_a_tag_that_is_no_number_of_ours_is_nobodys(tag: str) -> None:
    told = saved("send")
    told["mail"]["tags"] |= {"handoff": [tag], "lead": []}
    assert (read(told).handoff_id, read(told).lead_id) == (0, 0)


def test_the_same_event_through_two_topics_has_one_key() -> None:
    message = orjson.dumps(saved("open")).decode()
    keys = [SesWebhooks().read_events(post(message, MessageId=name), name)[0].key for name in ("one", "two")]
    assert keys[0] == keys[1]


def test_confirmations_and_greetings_hold_no_events() -> None:
    webhooks = SesWebhooks()
    assert webhooks.read_events(confirmation(), DELIVERY) == []
    assert webhooks.read_events(post("Successfully validated SNS topic for Amazon SES event publishing."), "x") == []


@pytest.mark.parametrize(
    "message", ["{", '{"a": 1}', '{"eventType": "Send"}', '{"eventType": "Send", "mail": {"timestamp": "now"}}']
)
def test_a_message_that_is_no_event_is_set_aside(message: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        SesWebhooks().read_events(post(message), DELIVERY)


def test_a_time_without_a_zone_is_no_time() -> None:
    told = saved("open")
    told["open"]["timestamp"] = "2026-11-22T09:22:19.652"
    with pytest.raises(ValueError, match="zone"):
        read(told)


def test_ses_is_the_provider_of_its_webhooks(webhooks: SesWebhooks) -> None:
    assert isinstance(WEBHOOKS["ses"], SesWebhooks)
    with pytest.raises(Unverified):
        webhooks.verify({}, b"{}", TOPIC)
