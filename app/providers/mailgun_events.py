"""What Mailgun posts to us: one event to a post, beside a signature that does not cover it.

Facts: documentation.mailgun.com, "Securing webhooks", "Webhooks", "Events", "Open and click bot detection". Since only
a time and a token are signed, a token is good for one body: the post is kept under it, and no second one is.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from app.errors import Invalid, Unverified
from app.mail import Bounce, Kind, Meaning, Reported
from app.providers.bounces import kind_of
from app.providers.ids import our_id
from app.providers.mailgun import PREFIX
from app.providers.unread import unread

OLDEST: Final = 9 * 3600.0  # seconds: it comes again for eight hours, and does not say that it signs anew
EARLIEST: Final = 300.0  # seconds that its clock may run ahead
TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,200}")

NOTHING: Final = Meaning()  # known, and none of ours
DROPPED: Final = Meaning(evidence=Kind.REFUSED, first=True)
DEFERRED: Final = Meaning(Kind.DEFERRED, Kind.SENT)
BOUNCED: Final = {kind: Meaning(Kind.BOUNCED, Kind.SENT, kind) for kind in Bounce}
KNOWN_BAD: Final = Meaning(Kind.BOUNCED, Kind.REFUSED, Bounce.HARD)
# By `event`; failed is read by the tables below.
MEANINGS: Final[Mapping[str, Meaning]] = {
    "accepted": Meaning(evidence=Kind.SENT, first=True),
    "rejected": DROPPED,
    "delivered": Meaning(Kind.DELIVERED, Kind.SENT),
    "complained": Meaning(Kind.COMPLAINED, Kind.SENT),
    "opened": Meaning(Kind.OPENED, Kind.SENT),
    "clicked": Meaning(Kind.CLICKED, Kind.SENT),
    "unsubscribed": Meaning(Kind.UNSUBSCRIBED, Kind.SENT),
    "stored": NOTHING,
    "list_member_uploaded": NOTHING,
    "list_member_upload_error": NOTHING,
    "list_uploaded": NOTHING,
}
# A permanent failure by its reason: what Mailgun did not even try, because it knew better, was never sent.
FAILURES: Final[Mapping[str, Meaning]] = {
    "suppress-bounce": KNOWN_BAD,
    "suppress-complaint": Meaning(evidence=Kind.REFUSED),
    "suppress-unsubscribe": Meaning(evidence=Kind.REFUSED),
    "espblock": BOUNCED[Bounce.BLOCKED],
    "old": BOUNCED[Bounce.SOFT],  # tried for days
    "greylisted": BOUNCED[Bounce.SOFT],
}


class MailgunWebhooks:
    """The secret is the HTTP webhook signing key."""

    def check_secret(self, secret: str) -> None:
        """Raise Invalid (pointer "secret") with a sentence, unless it may be such a key."""
        if not 16 <= len(secret) <= 200 or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise Invalid.one("secret", "Paste the HTTP webhook signing key that Mailgun shows under API security.")

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> str:
        """The token, under which one body is taken and no other. Raises Unverified."""
        try:
            signed = orjson.loads(body)["signature"]
            moment, token = str(signed["timestamp"]), str(signed["token"])
            given = [str(signed[name]) for name in ("signature", "parent-signature") if name in signed]
        except (KeyError, TypeError, ValueError):
            raise Unverified("It has no signature.") from None
        if not TOKEN.fullmatch(token) or not re.fullmatch(r"[0-9]{1,12}", moment):
            raise Unverified("Its token or its time is none.")
        right = hmac.digest(secret.encode(), f"{moment}{token}".encode(), "sha256").hex().encode()
        # One of a subaccount is signed with the main account's key as well.
        if not any(hmac.compare_digest(each.encode("utf-8", "replace"), right) for each in given):
            raise Unverified("Its signature is refused.")
        if not -EARLIEST <= time.time() - int(moment) <= OLDEST:
            raise Unverified("It was signed at another time: hours ago, or by a clock that runs ahead.")
        return token

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Raises ValueError, KeyError or TypeError for what is no such body."""
        return [_reported(orjson.loads(body)["event-data"], delivery)]


def _reported(told: Mapping[str, Any], token: str) -> Reported:
    if told["event"] != "failed" and told["event"] not in MEANINGS:
        return unread(told["event"], told, _at)
    meaning = _meaning(told)
    ids = told.get("user-variables") or {}
    return Reported(
        key=told.get("id") or token,  # an id is unique within its day, and so are our keys
        at=_at(told),
        handoff_id=our_id(ids.get(f"{PREFIX}handoff")),
        lead_id=our_id(ids.get(f"{PREFIX}lead")),
        meaning=meaning,
        ref=_inside(told, "message", "headers", "message-id").strip("<>"),
        # Google's proxy fetches pictures when a person opens the email; Apple's and scanners do without one.
        machine=_inside(told, "client-info", "bot") in ("apple", "generic"),
        url=told.get("url"),
        reason=_reason(told) if meaning.is_trouble else None,
    )


def _at(told: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(told["timestamp"], UTC)


def _meaning(told: Mapping[str, Any]) -> Meaning:
    if told["event"] != "failed":
        return MEANINGS[told["event"]]
    if told.get("severity") != "permanent":
        return DEFERRED
    return FAILURES.get(str(told.get("reason")), BOUNCED[_bounce(told)])


def _bounce(told: Mapping[str, Any]) -> Bounce:
    """By the receiver's words; a 4xx that Mailgun gave up on, or its own codes (498: no MX), is no bad address yet."""
    status = " ".join(_inside(told, "delivery-status", name) for name in ("enhanced-code", "message", "description"))
    code = _inside(told, "delivery-status", "code")
    return kind_of(status, Bounce.SOFT if code.startswith("4") else Bounce.HARD)


def _reason(told: Mapping[str, Any]) -> str | None:
    said = (
        _inside(told, "delivery-status", "message"),
        _inside(told, "delivery-status", "description"),
        _inside(told, "reject", "reason"),
        str(told.get("reason") or ""),
    )
    return next(filter(None, said), None)


def _inside(told: Mapping[str, Any], *path: str) -> str:
    """What stands there as a string, "" where nothing does: Mailgun leaves parts out, or null."""
    found: Any = told
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return "" if found is None else str(found)
