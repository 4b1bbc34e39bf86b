"""What SendGrid posts, in its documented format, as whole events; and whose signature is believed."""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import Invalid, Unverified
from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import WEBHOOKS
from app.providers.sendgrid_events import SIGNATURE, TIMESTAMP, check_signature

BODY = Path(__file__).with_name("bodies").joinpath("sendgrid.json").read_bytes()
SENDGRID = WEBHOOKS["sendgrid"]
AT = datetime(2026, 11, 22, 23, tzinfo=UTC)
REF = "euo2iKxdSayPF4YE4--I7A"
REFUSED = Meaning(evidence=Kind.REFUSED, first=True)
SIGNER, STRANGER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def event(number: int, meaning: Meaning, ref: str = REF, **more: object) -> Reported:
    return Reported(f"ZXZlbnQt{number:02}", AT, 7, 42, meaning, ref, **more)  # type: ignore[arg-type]


def happened(kind: Kind) -> Meaning:
    return Meaning(kind, Kind.SENT)


def bounced(kind: Bounce) -> Meaning:
    return Meaning(Kind.BOUNCED, Kind.SENT, kind)


EVENTS = [
    event(1, Meaning(evidence=Kind.SENT, first=True)),
    event(2, happened(Kind.DEFERRED), reason="421 4.7.0 try again later"),
    event(3, happened(Kind.DELIVERED)),
    event(4, bounced(Bounce.HARD), reason="550 5.1.1 no such user"),
    event(5, bounced(Bounce.SOFT), reason="552 5.2.2 mailbox full"),
    event(6, bounced(Bounce.BLOCKED), reason="550 5.7.1 looks like spam"),
    event(7, bounced(Bounce.SOFT), reason="unable to get mx info"),
    event(8, Meaning(Kind.BOUNCED, Kind.REFUSED, Bounce.HARD, first=True), reason="Bounced Address"),
    event(9, REFUSED, reason="Unsubscribed Address"),
    event(10, happened(Kind.OPENED)),
    event(11, happened(Kind.OPENED), machine=True),
    event(12, happened(Kind.CLICKED), url="https://example.com/offer?a=1"),
    event(13, happened(Kind.COMPLAINED)),
    event(14, happened(Kind.UNSUBSCRIBED)),
    event(15, happened(Kind.UNSUBSCRIBED), url="https://sendgrid.com/"),
    event(16, Meaning(), url="https://sendgrid.com/"),
    event(17, bounced(Bounce.HARD), ref="", reason="550 5.1.10 no such domain"),
]


def test_every_event_is_read_whole() -> None:
    told = SENDGRID.read_events(BODY, "")
    assert told[: len(EVENTS)] == EVENTS
    anonymous, account = told[len(EVENTS) :]
    assert anonymous._replace(key="") == Reported(
        "", AT, 0, 0, REFUSED, "14c5d75ce93.dfd.64b469", reason="Spam Reporting Address"
    )
    assert account == Reported("YWNjb3VudC0x", AT, 0, 0, Meaning())


def test_an_event_without_an_id_is_told_from_others_and_not_from_its_repeat() -> None:
    one = {"event": "open", "timestamp": 1795388400, "email": "a@example.com"}
    keys = [SENDGRID.read_events(orjson.dumps([each]), "")[0].key for each in (one, dict(reversed(one.items())))]
    other = SENDGRID.read_events(orjson.dumps([one | {"email": "b@example.com"}]), "")[0].key
    assert keys[0] == keys[1] != other


@pytest.mark.parametrize("body", [b"{}", b"[{}]", b"[1]", b"null", b"", b'[{"event": "open", "timestamp": "soon"}]'])
def test_what_is_no_such_body_is_said(body: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        SENDGRID.read_events(body, "")


# -- The signature -----------------------------------------------------------------------------------------------------


def public(signer: ec.EllipticCurvePrivateKey = SIGNER) -> str:
    der = signer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(der).decode()


def signed(body: bytes, *, signer: ec.EllipticCurvePrivateKey = SIGNER, ago: float = 0.0) -> dict[str, str]:
    moment = str(int(time.time() - ago))
    signature = signer.sign(moment.encode() + body, ec.ECDSA(SHA256()))
    return {SIGNATURE: b64encode(signature).decode(), TIMESTAMP: moment}


def test_a_signature_made_by_sendgrid_itself_is_right() -> None:
    """The example in the tests of its own libraries."""
    body = (
        b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","sg_event_id":"ZHJvcC0xMDk5NDkxOS1MU'
        b'npYbF9OSFN0T0doUTRrb2ZTbV9BLTA","sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-1'
        b'8-5F5FC76C-9.0","smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]'
        b"\r\n"
    )
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8"
        "eNEc6wEA3F+g=="
    )
    signature = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
    check_signature("1600112502", signature, body, key)
    with pytest.raises(Unverified):
        check_signature("1600112502", signature, body.rstrip(), key)
    [told] = SENDGRID.read_events(body, "")
    assert told.ref == "LRzXl_NHStOGhQ4kofSm_A"


@pytest.mark.parametrize("ago", [-200, 0, 3600, 24 * 3600])
def test_a_post_of_the_last_day_is_taken_whenever_it_is_tried_again(ago: float) -> None:
    assert SENDGRID.verify(signed(BODY, ago=ago), BODY, public()) == ""


def test_whatever_was_changed_is_refused() -> None:
    good = signed(BODY)
    wrong = b64encode(SIGNER.sign(good[TIMESTAMP].encode() + BODY, ec.ECDSA(SHA384()))).decode()
    forged: list[tuple[dict[str, str], bytes]] = [
        ({}, BODY),
        (good, BODY + b" "),
        (good, BODY.replace(b"ada@", b"eve@")),
        (good, b""),
        (signed(BODY, signer=STRANGER), BODY),
        (signed(BODY, ago=26 * 3600), BODY),
        (signed(BODY, ago=-400), BODY),
        (good | {TIMESTAMP: str(int(good[TIMESTAMP]) + 1)}, BODY),
        (good | {TIMESTAMP: ""}, BODY),
        (good | {SIGNATURE: ""}, BODY),
        (good | {SIGNATURE: "%%%"}, BODY),
        (good | {SIGNATURE: "ü"}, BODY),
        (good | {SIGNATURE: good[SIGNATURE] + "\n"}, BODY),
        (good | {SIGNATURE: b64encode(b64decode(good[SIGNATURE])[:-1]).decode()}, BODY),
        (good | {SIGNATURE: wrong}, BODY),
    ]
    for headers, body in forged:
        with pytest.raises(Unverified):
            SENDGRID.verify(headers, body, public())


@pytest.mark.parametrize("moment", ["nan", "-1", "9" * 400, "1e9", "１２"])
def test_a_signed_time_that_is_none_is_refused(moment: str) -> None:
    signature = b64encode(SIGNER.sign(moment.encode() + BODY, ec.ECDSA(SHA256()))).decode()
    with pytest.raises(Unverified):
        SENDGRID.verify({SIGNATURE: signature, TIMESTAMP: moment}, BODY, public())


def test_only_the_public_key_of_the_right_kind_is_a_secret() -> None:
    SENDGRID.check_secret(public())
    SENDGRID.check_secret(f"-----BEGIN PUBLIC KEY-----\n{public()}\n-----END PUBLIC KEY-----\n")
    other = rsa.generate_private_key(65537, 2048).public_key()
    for wrong in (
        "",
        "SG.key",
        "ü",
        public()[:-8],
        public(ec.generate_private_key(ec.SECP384R1())),
        b64encode(other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode(),
    ):
        with pytest.raises(Invalid, match="verification key"):
            SENDGRID.check_secret(wrong)
