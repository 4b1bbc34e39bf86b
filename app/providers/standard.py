"""Webhooks signed as the Standard Webhooks specification says: HMAC-SHA256 over id, time and body."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.errors import Invalid, Unverified

PREFIX = "whsec_"
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")
SVIX = ("svix-id", "svix-timestamp", "svix-signature")  # the same, by the names of the service that it came from
LONGEST_ID = 200  # characters


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> str:
    """The post's own id, the same in each retry. Raises Unverified: wrong, or older or newer than five minutes."""
    names = SVIX if SVIX[0] in headers else NAMES
    given = {name: headers.get(theirs, "") for name, theirs in zip(NAMES, names, strict=True)}
    try:
        Webhook(secret).verify(body, given, json_parse=False)
    except (WebhookVerificationError, ValueError) as error:  # the package lets malformed parts through as ValueError
        raise Unverified(f"Its signature is refused: {error}.") from error
    if len(given["webhook-id"]) > LONGEST_ID or not given["webhook-id"].isprintable():
        raise Unverified("Its id is no id.")
    return given["webhook-id"]


def sign(delivery: str, body: bytes, secret: str) -> dict[str, str]:
    """The headers of a post that leaves now; each retry is signed anew under the same `delivery`."""
    now = datetime.now(UTC)
    signature = Webhook(secret).sign(delivery, now, body.decode())
    return dict(zip(NAMES, (delivery, str(int(now.timestamp())), signature), strict=True))


def check_secret(secret: str) -> None:
    """Raise Invalid (pointer "secret") with a sentence, unless it is `whsec_` and the base64 of 24 to 64 bytes."""
    try:
        size = len(b64decode(secret.removeprefix(PREFIX) + "==", validate=False)) if secret.isascii() else 0
        plain = secret.removeprefix(PREFIX).rstrip("=").replace("+", "a").replace("/", "a").isalnum()
    except ValueError:
        size, plain = 0, False
    if not plain or not 24 <= size <= 64:
        raise Invalid.one(
            "secret", "A webhook secret is whsec_ and 24 to 64 bytes in base64, as the provider shows it."
        )
