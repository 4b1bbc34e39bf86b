"""What SendGrid posts to us: events by the hundred, signed as a whole with a key of which we have the public half.

Facts: twilio.com/docs/sendgrid, "Event Webhook reference", "Getting started with the Event Webhook security features".
"""

from __future__ import annotations

import re
import time
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from app.errors import Invalid, Unverified
from app.mail import Bounce, Kind, Meaning, Reported
from app.providers.bounces import kind_of
from app.providers.ids import our_id
from app.providers.sendgrid import PREFIX
from app.providers.unread import unread

SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"
# SendGrid comes again for 24 hours, and does not say that it signs anew. The body is signed, and its events are told
# from their repeats for days: an old post says nothing that it did not say before.
OLDEST: Final = 25 * 3600.0  # seconds
EARLIEST: Final = 300.0  # seconds that its clock may run ahead

NOTHING: Final = Meaning()  # known, and none of ours
DROPPED: Final = Meaning(evidence=Kind.REFUSED, first=True)
BOUNCED: Final = {kind: Meaning(Kind.BOUNCED, Kind.SENT, kind) for kind in Bounce}
UNSUBSCRIBED: Final = Meaning(Kind.UNSUBSCRIBED, Kind.SENT)
# By `event`; bounce and dropped are read by the tables below.
MEANINGS: Final[Mapping[str, Meaning]] = {
    "processed": Meaning(evidence=Kind.SENT, first=True),
    "deferred": Meaning(Kind.DEFERRED, Kind.SENT),
    "delivered": Meaning(Kind.DELIVERED, Kind.SENT),
    "open": Meaning(Kind.OPENED, Kind.SENT),
    "click": Meaning(Kind.CLICKED, Kind.SENT),
    "spamreport": Meaning(Kind.COMPLAINED, Kind.SENT),
    "unsubscribe": UNSUBSCRIBED,
    "group_unsubscribe": UNSUBSCRIBED,
    "group_resubscribe": NOTHING,
    "account_status_change": NOTHING,
}
DECIDED: Final = frozenset({"bounce", "dropped"})
# A bounce by its type, and by type and classification where that knows better.
TYPES: Final[Mapping[str, Bounce]] = {"bounce": Bounce.HARD, "blocked": Bounce.BLOCKED, "expired": Bounce.SOFT}
CLASSES: Final[Mapping[tuple[str, str], Bounce]] = {
    ("bounce", "content"): Bounce.BLOCKED,
    ("bounce", "reputation"): Bounce.BLOCKED,
    ("bounce", "frequency or volume too high"): Bounce.BLOCKED,
    ("blocked", "invalid address"): Bounce.SOFT,
    ("blocked", "mailbox unavailable"): Bounce.SOFT,
    ("blocked", "technical"): Bounce.SOFT,
}
# Taken, and then not sent on, by the reason: the address is known to be no good.
DROPS: Final[Mapping[str, Meaning]] = dict.fromkeys(
    ("bounced address", "invalid"), Meaning(Kind.BOUNCED, Kind.REFUSED, Bounce.HARD, first=True)
)
OWN_REF: Final = re.compile(r"\.(?:filter|recv)[^.]*[.-].*")  # what SendGrid's machines put behind the call's id


class SendGridWebhooks:
    """The secret is the verification key as SendGrid shows it."""

    def check_secret(self, secret: str) -> None:
        """Raise Invalid (pointer "secret") with a sentence, unless it is a public key of the right kind."""
        try:
            _key(secret)
        except ValueError:
            raise Invalid.one(
                "secret",
                "Paste the verification key that SendGrid shows once the webhook is signed: it begins with MF.",
            ) from None

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> str:
        """SendGrid's posts have no ids. Raises Unverified: wrong, or not of the last day."""
        moment = headers.get(TIMESTAMP, "")
        check_signature(moment, headers.get(SIGNATURE, ""), body, secret)
        if not (moment.isascii() and moment.isdecimal() and len(moment) < 13):
            raise Unverified("Its time is none.")
        if not -EARLIEST <= time.time() - int(moment) <= OLDEST:
            raise Unverified("It was signed at another time: more than a day ago, or by a clock that runs ahead.")
        return ""

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Raises ValueError, KeyError or TypeError for what is no such body."""
        told = orjson.loads(body)
        if not isinstance(told, list):
            raise ValueError("no list of events")
        return [_reported(each) for each in told]


def check_signature(moment: str, signature: str, body: bytes, secret: str) -> None:
    """ECDSA over P-256 and SHA-256, of the time and the body as they came. Raises Unverified."""
    try:
        _key(secret).verify(b64decode(signature, validate=True), moment.encode() + body, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        raise Unverified("Its signature is refused.") from None


@lru_cache(maxsize=256)
def _key(secret: str) -> EllipticCurvePublicKey:
    """Raises ValueError."""
    plain = re.sub(r"-----[A-Z ]+-----|\s", "", secret)
    try:
        key = load_der_public_key(b64decode(plain, validate=True))
    except UnsupportedAlgorithm as error:
        raise ValueError("a key of a kind that is not known") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("another kind of key")
    return key


def _reported(told: dict[str, Any]) -> Reported:
    if told["event"] not in MEANINGS and told["event"] not in DECIDED:
        return unread(told["event"], told, _at)
    meaning = _meaning(told)
    reason = told.get("reason") or told.get("response") if meaning.is_trouble else None
    return Reported(
        key=told.get("sg_event_id") or _digest(told),
        at=_at(told),
        handoff_id=our_id(told.get(f"{PREFIX}handoff")),
        lead_id=our_id(told.get(f"{PREFIX}lead")),
        meaning=meaning,
        ref=OWN_REF.sub("", told.get("sg_message_id") or ""),
        machine=told.get("sg_machine_open") is True,
        url=told.get("url"),
        reason=str(reason) if reason else None,
    )


def _at(told: Mapping[str, Any]) -> datetime:
    return _time(told["timestamp"])


@lru_cache(maxsize=1024)
def _time(seconds: float) -> datetime:
    """The events of a post are nearly all of the same few seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def _meaning(told: Mapping[str, Any]) -> Meaning:
    match told["event"]:
        case "bounce":
            return BOUNCED[_bounce(told)]
        case "dropped":
            return DROPS.get(str(told.get("reason", "")).lower(), DROPPED)
        case event:
            return MEANINGS[event]


def _bounce(told: Mapping[str, Any]) -> Bounce:
    type_, class_ = str(told.get("type", "")).lower(), str(told.get("bounce_classification", "")).lower()
    kind = CLASSES.get((type_, class_), TYPES.get(type_, Bounce.SOFT))
    return kind_of(str(told.get("status", "")), kind) if kind is Bounce.HARD else kind


def _digest(told: Mapping[str, Any]) -> str:
    """Account events and old ones have no id: a repeat says the same."""
    return blake2b(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
