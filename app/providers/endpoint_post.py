"""Posts to users' endpoints: one signed POST each, by the Standard Webhooks specification, to where a stranger chose.

The host is resolved here and connected to only where the whole internet could reach it (app.providers.public), each
time anew; a redirect is not followed, for it would lead past that.
"""

from __future__ import annotations

import secrets
import ssl
from base64 import b64encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from standardwebhooks.webhooks import Webhook

from app.errors import Invalid, ProviderDown, ProviderRefusesUs, ProviderUnsure
from app.providers.address import tls_context
from app.providers.http import Http, retry_after
from app.providers.public import is_public, resolver
from app.uptime import uptime

LONGEST: Final = 2000  # characters of an address
SHOWN: Final = 300  # characters of an answer that are kept for people
GONE: Final = 410
INSIDE: Final = "Its host is at no public address. Only who runs Millrace may allow it."


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answered: a status, None where nothing came; `said` is for people, and never has the address.

    `retry_in` is in seconds, where it named a time.
    """

    status: int | None
    said: str
    retry_in: float | None = None

    @property
    def taken(self) -> bool:
        """Any 2xx is a receipt."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """It wants no more, ever (RFC 9110 §15.5.11; the specification says to disable it)."""
        return self.status == GONE


def new_secret() -> str:
    """A secret of 32 random bytes, as Standard Webhooks writes them."""
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


def read_host(url: str, private: Collection[str]) -> str:
    """The host of an endpoint's address. Raises Invalid, pointer "url", with a sentence about what is wrong.

    `private`: hosts that the operator allows wherever they are, over http:// too. Names are looked up when a post is
    made, every time; here only what can be seen.
    """
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise Invalid.one("url", "This is no web address.") from None
    if parts.scheme not in ("http", "https") or not host or any(not "!" <= letter <= "~" for letter in url):
        raise Invalid.one("url", "Enter a web address that begins with https://.")
    if len(url) > LONGEST:
        raise Invalid.one("url", f"The address is longer than {LONGEST:,} characters.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise Invalid.one("url", "Leave out user, password and #: posts are signed, that is how they are known.")
    if resolver(host, private) is not None:
        if parts.scheme != "https":
            raise Invalid.one("url", "Addresses must begin with https://: what is posted has your leads in it.")
        if host == "localhost" or (_is_number(host) and not is_public(host)):
            raise Invalid.one("url", "This host is at no public address. Only who runs Millrace may allow it.")
    return host


def post(
    url: str, key: str, body: bytes, signing: Sequence[str], *, private: Collection[str], deadline: float
) -> Reply:
    """Post a JSON body, over within `deadline` seconds; `key` is its webhook-id, the same at every try. Never raises.

    Each secret of `signing` makes a signature.
    """
    now = datetime.now(UTC)
    signatures = " ".join(Webhook(secret).sign(key, now, body.decode()) for secret in signing)
    headers = [
        (b"content-type", b"application/json"),
        (b"user-agent", b"Millrace"),
        (b"accept", b"*/*"),
        (b"connection", b"close"),
        (b"webhook-id", key.encode("ascii")),
        (b"webhook-timestamp", b"%d" % int(now.timestamp())),
        (b"webhook-signature", signatures.encode("ascii")),
    ]
    host = urlsplit(url).hostname or ""
    http = Http(url, _tls() if url.startswith("https:") else None, resolver(host, private))
    try:
        answer = http.post(body, headers, uptime() + deadline)
    except ProviderRefusesUs:  # its text names the address that was found: nobody may look up our own network here
        return Reply(None, INSIDE)
    except ProviderDown as error:
        return Reply(None, f"It cannot be reached. {error}"[:SHOWN])
    except ProviderUnsure:
        return Reply(None, f"It gave no answer within {deadline:g} seconds, or hung up.")
    finally:
        http.close()
    said = _plain(answer.body)
    if 300 <= answer.status < 400:
        said = "It redirects, which is not followed: enter the address that it leads to."
    return Reply(answer.status, said, retry_after(answer.headers))


@cache
def _tls() -> ssl.SSLContext:
    """Reading the authorities takes longer than a post."""
    return tls_context(None)


def _is_number(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _plain(body: bytes) -> str:
    """The begin of an answer in one line, without what would steer a terminal."""
    text = body[: 4 * SHOWN].decode("utf-8", "replace")
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:SHOWN]
