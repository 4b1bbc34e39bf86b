"""What Amazon SES reports through SNS: one event to a post, with our ids in the tags of its email.

Facts: docs.aws.amazon.com/ses, "Contents of event data that Amazon SES publishes to Amazon SNS". Only events of a
configuration set carry tags; the feedback notifications of an identity do not, and match nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import sns
from app.providers.agents import said
from app.providers.bounces import kind_of
from app.providers.ids import our_id
from app.providers.sns import Sns
from app.providers.unread import unread

NOTHING: Final = Meaning()
TAKEN: Final = Meaning(evidence=Kind.SENT)
DROPPED: Final = Meaning(evidence=Kind.REFUSED, first=True)
BOUNCED: Final = {kind: Meaning(Kind.BOUNCED, Kind.SENT, kind) for kind in Bounce}
UNSUBSCRIBED: Final = Meaning(Kind.UNSUBSCRIBED, Kind.SENT)

# By the event's type; the member that holds its own facts, and what it means. None: decided below.
EVENTS: Final[Mapping[str, tuple[str, Meaning | None]]] = {
    "Send": ("send", Meaning(evidence=Kind.SENT, first=True)),
    "Delivery": ("delivery", Meaning(Kind.DELIVERED, Kind.SENT)),
    "Reject": ("reject", DROPPED),  # a virus was found in it
    "Rendering Failure": ("failure", DROPPED),  # a variable was missing
    "DeliveryDelay": ("deliveryDelay", Meaning(Kind.DEFERRED, Kind.SENT)),
    "Open": ("open", Meaning(Kind.OPENED, Kind.SENT)),
    "Click": ("click", Meaning(Kind.CLICKED, Kind.SENT)),
    "Bounce": ("bounce", None),
    "Complaint": ("complaint", None),
    "Subscription": ("subscription", None),
}
# Told of mail that comes in, and of a topic that was set up: known, and none of ours.
OTHERS: Final = frozenset({"Received", "AmazonSnsSubscriptionSucceeded"})
SEEN: Final = ("Open", "Click")  # whose machines SES does not tell from people
# By bounceType and bounceSubType; the first row of a type is for sub types that are not here.
BOUNCES: Final[Mapping[tuple[str, str], Meaning]] = {
    ("Permanent", ""): BOUNCED[Bounce.HARD],
    ("Permanent", "UnsubscribedRecipient"): UNSUBSCRIBED,
    ("Transient", ""): BOUNCED[Bounce.SOFT],
    ("Transient", "MessageTooLarge"): BOUNCED[Bounce.BLOCKED],
    ("Transient", "ContentRejected"): BOUNCED[Bounce.BLOCKED],
    ("Transient", "AttachmentRejected"): BOUNCED[Bounce.BLOCKED],
    ("Undetermined", ""): BOUNCED[Bounce.SOFT],
}
# Sub types so general that the receiver's own status code says more (RFC 3463).
GENERAL: Final = ("General", "Undetermined")
NO_ROUTE: Final = "5.4.4"  # the domain is not there; SES calls it transient, and it stays so
# Words of a complaint that are none: on the account's own list it was not sent at all, not-spam is the contrary.
LISTED: Final = "OnAccountSuppressionList"
PRAISE: Final = "not-spam"
REASONS: Final = ("reason", "errorMessage", "delayType", "complaintFeedbackType", "smtpResponse")


class SesWebhooks:
    """SNS posts of a pinned topic. The certificates that are fetched come from AWS alone, and are kept."""

    check_secret = staticmethod(sns.check_secret)

    def __init__(self, messenger: Sns | None = None) -> None:
        self.sns = messenger or Sns()

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> str:
        """The post's MessageId; `secret` is the topic's ARN. Raises Unverified, and Unavailable: SNS comes again."""
        return self.sns.verify(body, secret)

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Raises ValueError, KeyError or TypeError for what is no such body."""
        told = orjson.loads(body)
        message = told["Message"]
        if told["Type"] != "Notification" or not message.lstrip().startswith("{"):
            return []  # a confirmation, or "Successfully validated SNS topic …"
        event = orjson.loads(message)
        kind = event.get("eventType") or event["notificationType"]
        return [] if kind in OTHERS else [_reported(kind, event)]


def _reported(kind: str, event: Mapping[str, Any]) -> Reported:
    if kind not in EVENTS:
        return unread(kind, event, lambda event: _at(event["mail"]["timestamp"]))
    mail = event["mail"]
    member, meaning = EVENTS[kind]
    facts = event.get(member) or {}
    written = facts.get("timestamp") or mail["timestamp"]
    link = facts.get("link")
    return Reported(
        key=f"{kind}:{mail['messageId']}:{written}:{facts.get('feedbackId') or link or ''}",
        at=_at(written),
        handoff_id=_tag(mail, "handoff"),
        lead_id=_tag(mail, "lead"),
        meaning=_meaning(kind, facts) if meaning is None else meaning,
        ref=mail["messageId"],
        url=link,
        reason=_reason(facts),
        agent=said(facts, "userAgent") if kind in SEEN else "",
        address=said(facts, "ipAddress") if kind in SEEN else "",
    )


def _at(written: str) -> datetime:
    at = datetime.fromisoformat(written)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at


def _tag(mail: Mapping[str, Any], name: str) -> int:
    """0 where there are no tags, or they are not ours."""
    tags = mail.get("tags") or {}
    values = tags.get(name) or [0]
    return our_id(values[0])


def _meaning(kind: str, facts: Mapping[str, Any]) -> Meaning:
    match kind:
        case "Bounce":
            return _bounce(facts)
        case "Complaint":
            if facts.get("complaintSubType") == LISTED:
                return DROPPED
            return TAKEN if facts.get("complaintFeedbackType") == PRAISE else Meaning(Kind.COMPLAINED, Kind.SENT)
        case _:
            return UNSUBSCRIBED if (facts.get("newTopicPreferences") or {}).get("unsubscribeAll") is True else NOTHING


def _bounce(facts: Mapping[str, Any]) -> Meaning:
    sort, detail = facts["bounceType"], facts.get("bounceSubType", "")
    meaning = BOUNCES.get((sort, detail)) or BOUNCES.get((sort, "")) or BOUNCED[Bounce.SOFT]
    status = _recipient(facts).get("status") or ""
    if meaning.bounce is None or detail not in GENERAL:
        return meaning
    return BOUNCED[Bounce.HARD if status == NO_ROUTE else kind_of(status, meaning.bounce)]


def _recipient(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one recipient of whom a bounce or a delay tells: an email of ours has no other."""
    told = facts.get("bouncedRecipients") or facts.get("delayedRecipients") or [{}]
    return dict(told[0])


def _reason(facts: Mapping[str, Any]) -> str | None:
    words = [facts[name] for name in REASONS if facts.get(name)]
    if "bounceType" in facts:
        words.append(f"{facts['bounceType']}/{facts.get('bounceSubType', '')}")
    words.append(_recipient(facts).get("diagnosticCode") or "")
    return ": ".join(str(word) for word in words if word)[:300] or None
