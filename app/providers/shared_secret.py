"""Webhooks that nobody signs: the provider shows a secret that was typed into its console, by one of three ways."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Mapping
from typing import Final

from app.errors import Invalid, Unverified

HEADER: Final = "x-webhook-secret"
SHORTEST, LONGEST = 16, 200  # characters


def verify(headers: Mapping[str, str], secret: str) -> None:
    """Raise Unverified unless the secret is shown: as a password, as a bearer token, or in X-Webhook-Secret.

    A secret `user:password` is both halves of Basic authentication (RFC 7617); one without a colon is the password of
    whatever user. Compared in constant time.
    """
    shown = [headers[HEADER]] if HEADER in headers else []
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        shown.append(credentials.strip())
    elif scheme.lower() == "basic":
        shown.append(_basic(credentials, whole=":" in secret))
    if not any(hmac.compare_digest(each.encode(), secret.encode()) for each in shown):
        raise Unverified("It shows another secret than ours." if shown else "It shows no secret.")


def check_secret(secret: str) -> None:
    """Raise Invalid (pointer "secret") with a sentence, unless nobody would guess it and a header can hold it."""
    typed = secret.isascii() and secret.isprintable() and " " not in secret
    if not typed or not SHORTEST <= len(secret) <= LONGEST:
        raise Invalid.one(
            "secret",
            f"Make up a secret of {SHORTEST} to {LONGEST} letters, digits and signs, or user:password, and type the "
            "same into the provider's console.",
        )


def _basic(credentials: str, *, whole: bool) -> str:
    try:
        said = b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return said if whole else said.partition(":")[2]
