"""What Brevo posts to us: an event, or up to five hundred in a list; unsigned, behind a secret typed into its console.

Facts: developers.brevo.com, "Transactional webhooks", "Batched webhooks", "Secure webhook calls".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import shared_secret
from app.providers.ids import our_id
from app.providers.unread import unread

NOTHING: Final = Meaning()  # known, and none of ours
OPENED: Final = Meaning(Kind.OPENED, Kind.SENT)
COMPLAINED: Final = Meaning(Kind.COMPLAINED, Kind.SENT)
UNSUBSCRIBED: Final = Meaning(Kind.UNSUBSCRIBED, Kind.SENT)
HARD, SOFT, BLOCKED = (Meaning(Kind.BOUNCED, Kind.SENT, kind) for kind in (Bounce.HARD, Bounce.SOFT, Bounce.BLOCKED))
# "request" comes even of an email that is blocked then: what Brevo took and did not send is a bounce, not a refusal, so
# that the order of its events does not matter.
MEANINGS: Final[Mapping[str, Meaning]] = {
    "request": Meaning(evidence=Kind.SENT, first=True),
    "sent": Meaning(evidence=Kind.SENT, first=True),
    "delivered": Meaning(Kind.DELIVERED, Kind.SENT),
    "deferred": Meaning(Kind.DEFERRED, Kind.SENT),
    "soft_bounce": SOFT,
    "hard_bounce": HARD,
    "invalid_email": HARD,
    "blocked": BLOCKED,  # on Brevo's own list, or the sender is not liked
    "error": SOFT,
    "spam": COMPLAINED,
    "complaint": COMPLAINED,
    "opened": OPENED,
    "unique_opened": OPENED,
    "proxy_open": OPENED,
    "unique_proxy_open": OPENED,
    "click": Meaning(Kind.CLICKED, Kind.SENT),
    "unsubscribe": UNSUBSCRIBED,
    "unsubscribed": UNSUBSCRIBED,
    "list_addition": NOTHING,
    "contact_updated": NOTHING,
    "contact_deleted": NOTHING,
}
MACHINES: Final = frozenset({"proxy_open", "unique_proxy_open"})  # Apple's privacy proxy, that opens everything
MILLISECONDS: Final = 10**11  # a number of seconds that is this large lies beyond the year 5000


class BrevoWebhooks:
    """Every event of transactional email; mind to tick "first opening" and "known open" both."""

    check_secret = staticmethod(shared_secret.check_secret)

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> str:
        """Brevo's posts have no ids. Raises Unverified."""
        shared_secret.verify(headers, secret)
        return ""

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Raises ValueError, KeyError or TypeError for what is no such body."""
        told = orjson.loads(body)
        return [_reported(each) for each in (told if isinstance(told, list) else [told])]


def _reported(told: Mapping[str, Any]) -> Reported:
    kind, ids = told["event"], _ids(told)
    if kind not in MEANINGS:
        return unread(kind, told, _at)
    return Reported(
        key=":".join(
            str(told.get(name, "")) for name in ("event", "message-id", "email", "ts_epoch", "ts_event", "link")
        ),
        at=_at(told),
        handoff_id=our_id(ids.get("handoff")),
        lead_id=our_id(ids.get("lead")),
        meaning=MEANINGS[kind],
        ref=told.get("message-id") or "",
        machine=kind in MACHINES,
        url=told.get("link"),
        reason=str(told.get("reason") or "").strip() or None,
    )


def _at(told: Mapping[str, Any]) -> datetime:
    """By ts_epoch, in milliseconds, the one field that is surely UTC; some come with seconds there, or without."""
    at = told.get("ts_epoch") or told.get("ts_event") or told["ts"]
    if isinstance(at, bool) or not isinstance(at, int | float):
        raise TypeError("a time that is no number")
    try:
        return datetime.fromtimestamp(at / 1000 if at >= MILLISECONDS else at, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("a time that no clock shows") from error


def _ids(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ours came in a header that others use as they like."""
    try:
        ids = orjson.loads(told.get("X-Mailin-custom") or "null")
    except orjson.JSONDecodeError:
        return {}
    return ids if isinstance(ids, dict) else {}
