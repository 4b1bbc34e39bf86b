"""Posts of SNS: whom we believe, whose certificates we fetch, and which topic we confirm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from app.errors import Invalid, Unavailable, Unverified
from app.providers.sns import Sns, check_secret, fetch
from tests.provider_peers import peer as raw_peer
from tests.providers.api_peer import Reply, running
from tests.providers.sns_peer import (
    CURVE,
    DELIVERY,
    EARLY,
    FOREIGN,
    HUGE,
    JUNK,
    LONG,
    ORIGIN,
    SHORT,
    STALE,
    TOPIC,
    SnsPeer,
    certificate_url,
    confirmation,
    post,
)

PEM = "SimpleNotificationService-abababababababababababababababab.pem"


@pytest.fixture
def aws() -> Iterator[SnsPeer]:
    with running(SnsPeer()) as peer:
        yield peer


@pytest.fixture
def sns(aws: SnsPeer) -> Sns:
    return Sns(aws.fetch)


def ago(**since: float) -> str:
    return (datetime.now(UTC) - timedelta(**since)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["Amazon SES Email Event Notification", None])
def test_a_post_that_the_topic_signed_is_taken(sns: Sns, version: str, subject: str | None) -> None:
    assert sns.verify(post('{"a": "ü\\n"}', SignatureVersion=version, Subject=subject), TOPIC) == DELIVERY


def test_a_certificate_is_fetched_once(sns: Sns, aws: SnsPeer) -> None:
    for _ in range(3):
        sns.verify(post("{}"), TOPIC)
    assert aws.asked == [certificate_url()]


@pytest.mark.parametrize(
    "field", ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type", "Signature", "SignatureVersion"]
)
def test_whatever_is_changed_after_signing_is_refused(sns: Sns, field: str) -> None:
    changed = {"Timestamp": ago(seconds=30), "Type": "UnsubscribeConfirmation", "SignatureVersion": "1"}

    def alter(told: dict[str, str]) -> None:
        told[field] = changed.get(field, f"{told[field]}x")

    with pytest.raises(Unverified):
        sns.verify(post("{}", alter=alter), TOPIC)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(name, None) for name in ("Message", "Signature", "SigningCertURL", "SignatureVersion", "TopicArn", "Type")],
        *[(name, 7) for name in ("Message", "Signature", "SigningCertURL", "SignatureVersion", "MessageId")],
        *[("SignatureVersion", version) for version in ("3", "", "1 ", "2.0")],
        *[("Signature", signature) for signature in ("", "AAAA", "****", "é")],
        *[("Type", kind) for kind in ("", "notification", "Notification ")],
        *[("MessageId", name) for name in ("", "x" * 201, "a\nb")],
        *[
            ("Timestamp", written)
            for written in ("", "soon", "2026-11-22", "2026-11-22T00:00:00", "9999-12-31T23:59:59-23:59")
        ],
    ],
)
def test_a_post_with_a_field_of_nonsense_is_refused(sns: Sns, field: str, value: object) -> None:
    def alter(told: dict[str, object]) -> None:
        told.pop(field) if value is None else told.update({field: value})

    with pytest.raises(Unverified):
        sns.verify(post("{}", alter=alter), TOPIC)


# Eight kinds of address that are not AWS's, each a way past some check that was seen in the wild.
HOSTILE = {
    "plain http": f"http://sns.eu-west-1.amazonaws.com/{PEM}",
    "a longer host": f"https://sns.eu-west-1.amazonaws.com.evil.example/{PEM}",
    "another host": f"https://evil.example/sns.eu-west-1.amazonaws.com/{PEM}",
    "a user before the host": f"https://sns.eu-west-1.amazonaws.com@evil.example/{PEM}",
    "another port": f"https://sns.eu-west-1.amazonaws.com:8443/{PEM}",
    "a bucket at AWS": f"https://sns.eu-west-1.s3.amazonaws.com/{PEM}",
    "another path": f"https://sns.eu-west-1.amazonaws.com/?Action=Publish&x=/{PEM}",
    "a host that ends alike": f"https://evil-sns.eu-west-1.amazonaws.com/{PEM}",
    "another region": f"https://sns.us-east-1.amazonaws.com/{PEM}",
    "a line break": f"https://sns.eu-west-1.amazonaws.com/{PEM}\n",
    "a way up": f"https://sns.eu-west-1.amazonaws.com/x/../{PEM}",
    "a fragment": f"https://sns.eu-west-1.amazonaws.com/{PEM}#.pem",
    "a backslash": f"https://sns.eu-west-1.amazonaws.com\\@evil.example/{PEM}",
    "other digits": f"https://sns.eu-west-1.amazonaws.com/{PEM.replace('ab', '٣٣')}",
    "other dots": f"https://sns。eu-west-1。amazonaws。com/{PEM}",
    "capitals": f"https://SNS.EU-WEST-1.AMAZONAWS.COM/{PEM}",
    "China's domain": f"https://sns.eu-west-1.amazonaws.com.cn/{PEM}",
    "a file": f"file:///tmp/{PEM}",
    "nothing": "",
}


@pytest.mark.parametrize("url", HOSTILE.values(), ids=HOSTILE.keys())
def test_nobody_but_aws_is_asked_for_a_certificate(sns: Sns, aws: SnsPeer, url: str) -> None:
    with pytest.raises(Unverified):
        sns.verify(post("{}", SigningCertURL=url), TOPIC)
    assert aws.asked == []


@pytest.mark.parametrize(
    "name",
    [STALE, EARLY, SHORT, CURVE, JUNK, FOREIGN, "cd" * 16],
    ids=["out of date", "not yet", "short", "no RSA", "junk", "another key", "unknown"],
)
def test_a_certificate_that_will_not_do_proves_nothing(sns: Sns, name: str) -> None:
    with pytest.raises(Unverified):
        sns.verify(post("{}", SigningCertURL=certificate_url(name)), TOPIC)


def test_a_key_that_is_too_short_proves_nothing_even_if_it_signed(sns: Sns) -> None:
    with pytest.raises(Unverified, match="2048"):
        sns.verify(post("{}", bits=1024, SigningCertURL=certificate_url(SHORT)), TOPIC)


def test_a_certificate_with_much_behind_it_is_none(sns: Sns) -> None:
    with pytest.raises(Unverified, match="too large"):
        sns.verify(post("{}", SigningCertURL=certificate_url(LONG)), TOPIC)


def test_a_post_larger_than_any_of_sns_is_refused_though_it_is_signed(sns: Sns) -> None:
    with pytest.raises(Unverified, match="larger"):
        sns.verify(post("x" * (1 << 20)), TOPIC)


def test_a_certificate_without_end_is_not_read(sns: Sns) -> None:
    with pytest.raises(Unavailable):
        sns.verify(post("{}", SigningCertURL=certificate_url(HUGE)), TOPIC)
    assert not sns.keys


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_to_a_certificate_is_not_followed(sns: Sns, aws: SnsPeer, status: int) -> None:
    aws.script(Reply(status, b"", {"location": f"http://{aws.host}/SimpleNotificationService-{'ab' * 16}.pem"}))
    with pytest.raises(Unverified):
        sns.verify(post("{}"), TOPIC)
    assert len(aws.calls) == 1


@pytest.mark.parametrize("reply", [Reply(500), Reply(503), Reply(429), Reply(200, cut=True)], ids=str)
def test_while_a_certificate_cannot_be_had_sns_must_come_again(sns: Sns, aws: SnsPeer, reply: Reply) -> None:
    aws.script(reply)
    with pytest.raises(Unavailable):
        sns.verify(post("{}"), TOPIC)
    assert sns.verify(post("{}"), TOPIC) == DELIVERY


def test_a_certificate_is_not_waited_for_longer_than_sns_waits_for_us() -> None:
    def scene(connection) -> None:
        connection.recv(65536)
        for _ in range(200):
            connection.sendall(b"H")
            time.sleep(0.1)

    with raw_peer(scene) as silent:
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            fetch(f"http://127.0.0.1:{silent.port}/x.pem")
        assert time.monotonic() - begun < 6.5


OTHERS = [
    "arn:aws:sns:eu-west-1:123456789012:campaign-event",
    "arn:aws:sns:eu-west-1:999999999999:campaign-events",
    "arn:aws:sns:us-east-1:123456789012:campaign-events",
    "",
]


@pytest.mark.parametrize("topic", OTHERS)
def test_another_topic_is_refused_before_anything_is_asked(sns: Sns, aws: SnsPeer, topic: str) -> None:
    with pytest.raises(Unverified):
        sns.verify(post("{}", TopicArn=topic), TOPIC)
    with pytest.raises(Unverified):
        sns.verify(confirmation(TopicArn=topic), TOPIC)
    assert aws.asked == []


def test_the_pinned_topics_subscription_is_confirmed(sns: Sns, aws: SnsPeer) -> None:
    assert sns.verify(confirmation(), TOPIC) == DELIVERY
    [confirmed] = [url for url in aws.asked if "Action" in url]
    assert confirmed.startswith(f"{ORIGIN}/?Action=ConfirmSubscription&TopicArn=arn%3Aaws%3Asns%3A")


def test_the_address_in_a_confirmation_is_never_followed(sns: Sns, aws: SnsPeer) -> None:
    sns.verify(confirmation(SubscribeURL="http://169.254.169.254/latest/meta-data"), TOPIC)
    assert all(url.startswith(f"{ORIGIN}/") for url in aws.asked)


def test_a_confirmation_with_a_wrong_signature_confirms_nothing(sns: Sns, aws: SnsPeer) -> None:
    with pytest.raises(Unverified):
        sns.verify(confirmation(SigningCertURL=certificate_url(FOREIGN)), TOPIC)
    assert not [url for url in aws.asked if "Action" in url]


@pytest.mark.parametrize("token", ["", "x&TopicArn=arn:aws:sns:eu-west-1:1:x", "../", "a b", "é"])
def test_a_token_cannot_ask_for_anything_else(sns: Sns, aws: SnsPeer, token: str) -> None:
    with pytest.raises(Unverified):
        sns.verify(confirmation(Token=token), TOPIC)
    assert not [url for url in aws.asked if "Action" in url]


def test_a_confirmation_that_sns_could_not_take_comes_again(sns: Sns, aws: SnsPeer) -> None:
    sns.verify(post("{}"), TOPIC)
    aws.script(Reply(500))
    with pytest.raises(Unavailable):
        sns.verify(confirmation(), TOPIC)


def test_a_post_that_was_held_back_for_an_hour_is_taken_and_an_older_one_is_not(sns: Sns) -> None:
    assert sns.verify(post("{}", Timestamp=ago(minutes=60)), TOPIC) == DELIVERY
    for written in (ago(minutes=66), ago(days=2), ago(minutes=-6)):
        with pytest.raises(Unverified):
            sns.verify(post("{}", Timestamp=written), TOPIC)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"not json",
        b'{"Type": NaN}',
        b"[" * 10_000,
        b'{"a":' * 10_000,
        b'{"Type": "Notification", "MessageId": "\\ud800"}',
        b'{"Type": {"a": 1}, "MessageId": []}',
        b" " * (1 << 20) + b"{}",
    ],
    ids=["nothing", "object", "null", "list", "text", "nan", "deep", "deeper", "surrogate", "types", "large"],
)
def test_hostile_bodies_are_refused_cheaply(sns: Sns, aws: SnsPeer, body: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(Unverified):
        sns.verify(body, TOPIC)
    assert time.process_time() - begun < 0.05
    assert aws.asked == []


def test_a_field_that_stands_twice_is_read_as_it_was_signed(sns: Sns) -> None:
    body = post('{"eventType": "Send"}')
    twice = b'{"Message": "{\\"eventType\\": \\"Complaint\\"}",' + body[1:]
    assert sns.verify(twice, TOPIC) == DELIVERY
    assert orjson.loads(twice)["Message"] == '{"eventType": "Send"}'
    with pytest.raises(Unverified):
        sns.verify(body[:-1] + b',"Message": "{}"}', TOPIC)


@pytest.mark.parametrize(
    "secret", [TOPIC, "arn:aws-cn:sns:cn-north-1:123456789012:x", "arn:aws-us-gov:sns:us-gov-west-1:123456789012:x"]
)
def test_the_secret_is_a_topics_name(secret: str) -> None:
    check_secret(secret)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "campaign-events",
        f"{TOPIC}\n",
        f" {TOPIC}",
        "arn:aws:sqs:eu-west-1:123456789012:x",
        f"{TOPIC}:sub",
        "arn:aws:sns:*:1:*",
    ],
)
def test_what_is_no_topic_is_no_secret(sns: Sns, secret: str) -> None:
    with pytest.raises(Invalid, match="ARN"):
        check_secret(secret)
    with pytest.raises(Unverified):
        sns.verify(post("{}", TopicArn=secret), secret)
