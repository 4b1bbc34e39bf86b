"""Amazon SNS, the messenger of SES: its signatures, the certificates behind them, and how a topic is confirmed.

Facts: docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS messages", "Parsing message formats". A good
signature says only that some AWS account's topic posted: the topic itself is the pool's secret.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Final
from urllib.parse import quote

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509 import load_pem_x509_certificate

from app.errors import Invalid, ProviderError, Unavailable, Unverified
from app.providers.address import tls_context
from app.providers.http import Http
from app.uptime import uptime

ARN: Final = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:[A-Za-z0-9_-]{1,256}", re.ASCII
)
DOMAINS: Final = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
CERTIFICATE: Final = re.compile(r"/SimpleNotificationService-[0-9a-f]{1,64}\.pem", re.ASCII)
TOKEN: Final = re.compile(r"[0-9A-Za-z]{1,1024}", re.ASCII)
HASHES: Final[Mapping[str, HashAlgorithm]] = {"1": SHA1(), "2": SHA256()}  # noqa: S303 - a topic's default is 1
# What is signed, by type, in this order; a Subject is left out where there is none.
CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED: Final[Mapping[str, Sequence[str]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": CONFIRMATION,
    "UnsubscribeConfirmation": CONFIRMATION,
}
# SNS comes again for an hour with the same time in the post; repeats are told by the keys of events.
OLDEST: Final = timedelta(minutes=65)
AHEAD: Final = timedelta(minutes=5)
LARGEST: Final = 1 << 20  # bytes of a post: SNS carries 256 KiB, escaped twice
LARGEST_CERTIFICATE: Final = 1 << 14  # bytes
LONGEST_ID: Final = 200  # characters
KEPT: Final = 64  # certificates: a region has one for years
FETCH: Final = 5.0  # seconds; SNS itself waits for fifteen

Fetch = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Topic:
    """A pinned topic, and the only host that its certificates and confirmations come from."""

    arn: str
    host: str

    @classmethod
    def read(cls, arn: str) -> Topic:
        """Raises ValueError where it is no standard topic's name."""
        found = ARN.fullmatch(arn)
        if found is None:
            raise ValueError("no ARN of a topic")
        return cls(arn, f"sns.{found[2]}.{DOMAINS[found[1]]}")


def fetch(url: str) -> bytes:
    """What stands there, at most 1 MiB, within five seconds, no redirect followed.

    Raises Unavailable where it may be there later, Unverified where it is not.
    """
    http = Http(url, tls_context(None) if url.startswith("https:") else None)
    try:
        answer = http.get("", ((b"user-agent", b"millrace"),), uptime() + FETCH)
    except ProviderError as error:
        raise Unavailable(f"SNS cannot be reached now: {error}") from error
    finally:
        http.close()
    if answer.status >= 500 or answer.status == 429 or not answer.whole:
        raise Unavailable(f"SNS answered {answer.status}.")
    if answer.status != 200:
        raise Unverified(f"SNS knows nothing of it: HTTP {answer.status}.")
    return answer.body


class Sns:
    """Verifies posts of pinned topics; the certificates that it fetched are kept. Thread-safe."""

    def __init__(self, fetch: Fetch = fetch) -> None:
        self.fetch = fetch
        self.keys: dict[str, tuple[RSAPublicKey, datetime]] = {}
        self.fetching = Lock()  # the first posts of a topic come together, and one certificate is enough for all

    def verify(self, body: bytes, secret: str) -> str:
        """The MessageId of a post that the pinned topic signed; a confirmation of that topic is answered.

        Raises Unverified; Unavailable where a certificate or a confirmation must wait for SNS.
        """
        topic, told = _topic(secret), _envelope(body)
        names = [name for name in SIGNED[told["Type"]] if name in told]
        if not hmac.compare_digest(told.get("TopicArn", "").encode(), topic.arn.encode()):
            raise Unverified("It comes from another topic than the pool's.")
        _check_time(told.get("Timestamp", ""))
        self._check_signature(topic, told, "".join(f"{name}\n{told[name]}\n" for name in names).encode())
        if told["Type"] == "SubscriptionConfirmation":
            self._confirm(topic, told.get("Token", ""))
        return told["MessageId"]

    def _check_signature(self, topic: Topic, told: Mapping[str, str], signed: bytes) -> None:
        algorithm = HASHES.get(told.get("SignatureVersion", ""))
        if algorithm is None:
            raise Unverified("Its signature is of a version that nobody knows.")
        try:
            signature = b64decode(told.get("Signature", ""), validate=True)
        except ValueError:
            raise Unverified("Its signature is none.") from None
        key = self._key(topic, told.get("SigningCertURL", ""))
        try:
            key.verify(signature, signed, PKCS1v15(), algorithm)
        except InvalidSignature:
            raise Unverified("Its signature is wrong.") from None

    def _key(self, topic: Topic, url: str) -> RSAPublicKey:
        """The key behind a certificate of the topic's own region; nobody else is asked for one."""
        origin = f"https://{topic.host}"
        if not url.startswith(origin) or not CERTIFICATE.fullmatch(url[len(origin) :]):
            raise Unverified("Its certificate is not from SNS in the topic's region.")
        known = self.keys.get(url)
        if known is None:
            with self.fetching:
                known = self.keys.get(url) or self._fetch_key(url)
        key, until = known
        if until <= datetime.now(UTC):
            raise Unverified("Its certificate is out of date.")
        return key

    def _fetch_key(self, url: str) -> tuple[RSAPublicKey, datetime]:
        written = self.fetch(url)
        try:
            if len(written) > LARGEST_CERTIFICATE:
                raise ValueError("too large")
            certificate = load_pem_x509_certificate(written)
            key = certificate.public_key()
        except (ValueError, TypeError) as error:
            raise Unverified(f"Its certificate is none: {error}.") from error
        if not isinstance(key, RSAPublicKey) or key.key_size < 2048:
            raise Unverified("Its certificate holds no RSA key of 2048 bits.")
        if certificate.not_valid_before_utc > datetime.now(UTC):
            raise Unverified("Its certificate is not valid yet.")
        if len(self.keys) >= KEPT:
            self.keys.clear()
        self.keys[url] = key, certificate.not_valid_after_utc
        return self.keys[url]

    def _confirm(self, topic: Topic, token: str) -> None:
        """By an address of our own making: the one in the post is never followed."""
        if not TOKEN.fullmatch(token):
            raise Unverified("Its token is none.")
        arn = quote(topic.arn, safe="")
        self.fetch(f"https://{topic.host}/?Action=ConfirmSubscription&TopicArn={arn}&Token={token}")


def check_secret(secret: str) -> None:
    """Raise Invalid (pointer "secret") with a sentence, unless it names a topic."""
    try:
        Topic.read(secret)
    except ValueError:
        raise Invalid.one(
            "secret",
            "Type the ARN of the SNS topic that SES's events go to: arn:aws:sns:eu-west-1:123456789012:name. "
            "Only this topic is listened to, and its subscription is confirmed by itself.",
        ) from None


def _topic(secret: str) -> Topic:
    try:
        return Topic.read(secret)
    except ValueError as error:
        raise Unverified("The pool's secret is no topic.") from error


def _envelope(body: bytes) -> dict[str, str]:
    """The post's strings by name; whatever else is in it is left out. Raises Unverified."""
    if len(body) > LARGEST:
        raise Unverified("It is larger than any post of SNS.")
    try:
        told: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unverified("It is no JSON.") from error
    strings = {name: value for name, value in told.items() if isinstance(value, str)} if isinstance(told, dict) else {}
    delivery = strings.get("MessageId", "")
    if strings.get("Type") not in SIGNED or not 0 < len(delivery) <= LONGEST_ID or not delivery.isprintable():
        raise Unverified("It is no post of SNS; raw message delivery must be off.")
    return strings


def _check_time(written: str) -> None:
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        at = datetime.min
    if at.tzinfo is None:
        raise Unverified("It has no time.")
    if not -AHEAD < datetime.now(UTC) - at < OLDEST:
        raise Unverified("It is too old, or from the future.")
