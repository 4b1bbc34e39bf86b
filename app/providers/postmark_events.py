"""What Postmark posts to us: one event to a post, unsigned, behind a secret that was typed into its console.

Facts: postmarkapp.com/developer/webhooks and "Bounce types".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import shared_secret
from app.providers.agents import said
from app.providers.ids import our_id
from app.providers.unread import unread

NOTHING: Final = Meaning()
TAKEN: Final = Meaning(evidence=Kind.SENT)
DEFERRED: Final = Meaning(Kind.DEFERRED, Kind.SENT)
HARD, SOFT, BLOCKED = (Meaning(Kind.BOUNCED, Kind.SENT, kind) for kind in (Bounce.HARD, Bounce.SOFT, Bounce.BLOCKED))
COMPLAINED: Final = Meaning(Kind.COMPLAINED, Kind.SENT)
UNSUBSCRIBED: Final = Meaning(Kind.UNSUBSCRIBED, Kind.SENT)

# By RecordType; Bounce and SubscriptionChange are read by the tables below.
MEANINGS: Final[Mapping[str, Meaning]] = {
    "Delivery": Meaning(Kind.DELIVERED, Kind.SENT, first=True),
    "Open": Meaning(Kind.OPENED, Kind.SENT),
    "Click": Meaning(Kind.CLICKED, Kind.SENT),
    "SpamComplaint": COMPLAINED,
}
# By TypeCode of a bounce; some are no bounces at all, but answers that came to the sender's address.
BOUNCES: Final[Mapping[int, Meaning]] = {
    1: HARD,  # HardBounce
    2: DEFERRED,  # Transient: Postmark goes on trying
    16: UNSUBSCRIBED,  # Unsubscribe: somebody answered so
    32: TAKEN,  # Subscribe
    64: TAKEN,  # AutoResponder
    128: TAKEN,  # AddressChange
    256: SOFT,  # DnsError
    512: BLOCKED,  # SpamNotification: the content was taken for spam, by no person
    1024: NOTHING,  # OpenRelayTest
    2048: SOFT,  # Unknown
    4096: SOFT,  # SoftBounce
    8192: BLOCKED,  # VirusNotification
    16384: TAKEN,  # ChallengeVerification
    100000: HARD,  # BadEmailAddress
    100001: COMPLAINED,  # SpamComplaint
    100002: BLOCKED,  # ManuallyDeactivated: by a person at Postmark or in its console
    100003: NOTHING,  # Unconfirmed
    100006: BLOCKED,  # Blocked: by the receiver, for content or reputation
    100007: NOTHING,  # SMTPApiError
    100008: NOTHING,  # InboundError
    100009: BLOCKED,  # DMARCPolicy
    100010: NOTHING,  # TemplateRenderingFailed
}
TIMES: Final = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")
DECIDED: Final = frozenset({"Bounce", "SubscriptionChange"})
REASONS: Final = ("Details", "Description", "SuppressionReason")


class PostmarkWebhooks:
    """Delivery, Bounce, SpamComplaint, Open, Click and SubscriptionChange."""

    check_secret = staticmethod(shared_secret.check_secret)

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> str:
        """Postmark's posts have no ids. Raises Unverified."""
        shared_secret.verify(headers, secret)
        return ""

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Raises ValueError, KeyError or TypeError for what is no such body."""
        return [_reported(orjson.loads(body))]


def _reported(told: Mapping[str, Any]) -> Reported:
    if told["RecordType"] not in MEANINGS and told["RecordType"] not in DECIDED:
        return unread(told["RecordType"], told, _at)
    meaning = _meaning(told)
    ids = told.get("Metadata")
    ids = ids if isinstance(ids, dict) else {}
    return Reported(
        key=_key(told),
        at=_at(told),
        handoff_id=our_id(ids.get("handoff")),
        lead_id=our_id(ids.get("lead")),
        meaning=meaning,
        ref=told.get("MessageID") or "",
        url=told.get("OriginalLink"),
        reason=_first(told, REASONS),
        agent=said(told, "UserAgent"),
        address=said(told.get("Geo"), "IP"),
    )


def _at(told: Mapping[str, Any]) -> datetime:
    at = datetime.fromisoformat(_first(told, TIMES) or "no time")
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at


def _first(told: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((told[name] for name in names if told.get(name)), None)


def _meaning(told: Mapping[str, Any]) -> Meaning:
    match told["RecordType"]:
        case "Bounce":
            return BOUNCES.get(told["TypeCode"], SOFT)
        case "SubscriptionChange":
            # Suppressions for bounces and complaints are told of by events of their own, and by our ids.
            left = told["SuppressSending"] and told.get("SuppressionReason") == "ManualSuppression"
            return UNSUBSCRIBED if left and told.get("Origin") == "Recipient" else NOTHING
        case record:
            return MEANINGS[record]


def _key(told: Mapping[str, Any]) -> str:
    """Bounces and complaints have an ID. Others are told apart by what they say: a repeat says the same."""
    if told.get("ID"):
        return f"{told['RecordType']}:{told['ID']}"
    names = ("RecordType", "MessageID", "Recipient", *TIMES, "OriginalLink", "SuppressSending")
    return ":".join(str(told.get(name, "")) for name in names)
