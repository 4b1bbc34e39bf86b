"""What Resend posts to us: one event to a post, signed by Svix as Standard Webhooks says.

Facts: resend.com/docs/webhooks. Kinds of bounces are those of SES, which it stands on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import standard
from app.providers.agents import said
from app.providers.ids import our_id
from app.providers.unread import unread

NOTHING: Final = Meaning()  # known, and none of ours
HARD, SOFT, BLOCKED = (Meaning(Kind.BOUNCED, Kind.SENT, kind) for kind in (Bounce.HARD, Bounce.SOFT, Bounce.BLOCKED))
# What Resend took and then did not send is a bounce, not a refusal: the order of its events must not matter.
MEANINGS: Final[Mapping[str, Meaning]] = {
    "email.sent": Meaning(evidence=Kind.SENT, first=True),
    "email.delivered": Meaning(Kind.DELIVERED, Kind.SENT),
    "email.delivery_delayed": Meaning(Kind.DEFERRED, Kind.SENT),
    "email.bounced": HARD,  # a permanent one, unless the tables below know better
    "email.complained": Meaning(Kind.COMPLAINED, Kind.SENT),
    "email.opened": Meaning(Kind.OPENED, Kind.SENT),
    "email.clicked": Meaning(Kind.CLICKED, Kind.SENT),
    "email.failed": BLOCKED,  # a quota, a domain: no fault of the address
    "email.suppressed": HARD,  # it bounced for good, or complained, before
    "email.scheduled": NOTHING,
    "email.received": NOTHING,
    **{f"{noun}.{did}": NOTHING for noun in ("contact", "domain") for did in ("created", "updated", "deleted")},
}
BOUNCES: Final[Mapping[str, Meaning]] = {"Permanent": HARD, "Transient": SOFT, "Undetermined": SOFT}
# What was not liked about the email, by subType; it says nothing of the address.
CONTENT: Final = frozenset({"MessageTooLarge", "ContentRejected", "AttachmentRejected", "MessageRejected"})


class ResendWebhooks:
    """email.sent, delivered, delivery_delayed, bounced, complained, opened, clicked, failed and suppressed."""

    check_secret = staticmethod(standard.check_secret)

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> str:
        """The post's svix-id, the same in each retry. Raises Unverified."""
        return standard.verify(headers, body, secret)

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Raises ValueError, KeyError or TypeError for what is no such body."""
        return [_reported(orjson.loads(body), delivery)]


def _reported(told: Mapping[str, Any], delivery: str) -> Reported:
    if told["type"] not in MEANINGS:
        return unread(told["type"], told, _at)
    at = _at(told)
    data = told["data"]
    if not isinstance(data, dict):
        raise TypeError("an event without its data")
    ids, click = _ids(data.get("tags")), _part(data, "click")
    seen = click or data.get("open")
    return Reported(
        key=delivery,
        at=at,
        handoff_id=our_id(ids.get("handoff")),
        lead_id=our_id(ids.get("lead")),
        meaning=_meaning(told["type"], _part(data, "bounce")),
        ref=data.get("email_id") or "",
        url=click.get("link"),
        reason=_reason(data),
        agent=said(seen, "userAgent"),
        address=said(seen, "ipAddress"),
    )


def _at(told: Mapping[str, Any]) -> datetime:
    at = datetime.fromisoformat(told["created_at"])
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone: {told['created_at']}")
    return at


def _meaning(kind: str, bounce: Mapping[str, Any]) -> Meaning:
    if kind != "email.bounced" or not bounce:
        return MEANINGS[kind]
    return BLOCKED if bounce.get("subType") in CONTENT else BOUNCES.get(bounce.get("type", ""), HARD)


def _reason(data: Mapping[str, Any]) -> str | None:
    for part, name in (("bounce", "message"), ("failed", "reason"), ("suppressed", "message")):
        if said := _part(data, part).get(name):
            return str(said)
    return None


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = data.get(name)
    return part if isinstance(part, dict) else {}


def _ids(tags: Any) -> Mapping[str, Any]:
    """Tags are documented as an object, and were a list of names and values before."""
    if isinstance(tags, list):
        return {tag["name"]: tag["value"] for tag in tags}
    return tags if isinstance(tags, dict) else {}
