"""SNS on a loopback port: certificates, confirmations, and posts that a topic signed, or somebody else did."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from app.providers import sns
from tests.providers.api_peer import ApiPeer, Call, Reply

REGION = "eu-west-1"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:campaign-events"
ORIGIN = f"https://sns.{REGION}.amazonaws.com"
GOOD, STALE, SHORT, CURVE, EARLY, JUNK, HUGE, FOREIGN, LONG = (f"{'ab' * 15}{n:02x}" for n in range(9))
DELIVERY = "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"
SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


@cache
def rsa_key(bits: int, whose: str = "aws") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def certificate_url(name: str = GOOD) -> str:
    return f"{ORIGIN}/SimpleNotificationService-{name}.pem"


@cache
def certificate(name: str) -> bytes:
    """What stands behind each of the names above; FOREIGN is of another key than the one that signs."""
    key: Any = {
        SHORT: lambda: rsa_key(1024),
        CURVE: lambda: ec.generate_private_key(ec.SECP256R1()),
        FOREIGN: lambda: rsa_key(2048, "somebody"),
    }.get(name, lambda: rsa_key(2048))()
    now = datetime.now(UTC)
    begins, ends = {STALE: (-20, -10), EARLY: (10, 20)}.get(name, (-10, 10))
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 7)
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .sign(rsa_key(2048) if name in (CURVE, SHORT) else key, SHA256())
    )
    written = made.public_bytes(Encoding.PEM)
    odd = {
        JUNK: b"-----BEGIN CERTIFICATE-----\nbm8=\n",
        HUGE: b"x" * (2 << 20),
        LONG: written + b"\n" * 20_000,
    }
    return odd.get(name, written)


class SnsPeer(ApiPeer):
    """`fetch` is what a verifier is given: it asks this peer for whatever stands at AWS, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__()

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        assert url.startswith(f"{ORIGIN}/"), f"somebody else than AWS was asked: {url}"
        return sns.fetch(f"http://{self.host}{url[len(ORIGIN) :]}")

    def answer(self, call: Call) -> Reply:
        if call.path == "/":
            good = call.query == {"Action": "ConfirmSubscription", "TopicArn": TOPIC, "Token": "2336412f37"}
            return Reply(200, b"<ConfirmSubscriptionResponse/>") if good else Reply(400, b"<ErrorResponse/>")
        name = call.path.removeprefix("/SimpleNotificationService-").removesuffix(".pem")
        return Reply(200, certificate(name)) if name.startswith("abab") else Reply(404, b"")


def envelope(message: str, **changes: str | None) -> dict[str, str]:
    """An unsigned post as SNS documents it; None leaves a field out."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {
        "Type": "Notification",
        "MessageId": DELIVERY,
        "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Event Notification",
        "Message": message,
        "Timestamp": now,
        "SignatureVersion": "2",
        "SigningCertURL": certificate_url(),
        "UnsubscribeURL": f"{ORIGIN}/?Action=Unsubscribe&SubscriptionArn={TOPIC}:c9135db0",
        **changes,
    }
    return {name: value for name, value in told.items() if value is not None}


def post(
    message: str, *, alter: Callable[[dict[str, Any]], object] | None = None, bits: int = 2048, **changes: str | None
) -> bytes:
    """A post, signed by a key of that size; `alter` changes it afterwards."""
    told: dict[str, Any] = envelope(message, **changes)
    text = "".join(f"{name}\n{told[name]}\n" for name in SIGNED[told["Type"]] if name in told)
    algorithm = SHA1() if told["SignatureVersion"] == "1" else SHA256()  # noqa: S303 - what SNS does by default
    told["Signature"] = b64encode(rsa_key(bits).sign(text.encode(), padding.PKCS1v15(), algorithm)).decode()
    if alter is not None:
        alter(told)
    return orjson.dumps(told)


def confirmation(**changes: str | None) -> bytes:
    return post(
        "You have chosen to subscribe to the topic. To confirm the subscription, visit the SubscribeURL.",
        **{
            "Type": "SubscriptionConfirmation",
            "Subject": None,
            "UnsubscribeURL": None,
            "Token": "2336412f37",
            "SubscribeURL": f"{ORIGIN}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37",
            **changes,
        },
    )
