"""Resend, as a batch is taken under its key, and as its valid emails leave though others are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from app.errors import Invalid, ProviderDown, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Content, Outcome, Parts, Refused
from app.providers import Provider, open_provider
from tests.provider_peers import KEY as CALL_KEY
from tests.provider_peers import batch_of, letters_to
from tests.providers.api_peer import Reply, running
from tests.providers.resend_peer import ResendPeer, email_id, error
from tests.providers.vendor import BAD, KEY

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"


@pytest.fixture
def peer() -> Iterator[ResendPeer]:
    with running(ResendPeer()) as peer:
        yield peer


@pytest.fixture
def resend(peer: ResendPeer) -> Iterator[Provider]:
    provider = open_provider(f"resend://:{KEY}@{peer.host}?tls=none", deadline=5.0)
    yield provider
    provider.close()


def accepted(*numbers: int) -> list[Outcome]:
    return [Accepted(email_id(number)) for number in numbers]


def test_an_email_carries_everything_resend_needs(peer: ResendPeer, resend: Provider) -> None:
    assert resend.send(batch_of(letters_to(ADA))) == accepted(0)
    assert peer.sent == [
        {
            "from": '"Ada\'s Letters" <news@example.com>',
            "to": [ADA],
            "reply_to": "answers@example.com",
            "subject": "Hello Ada!",
            "html": "<p>Ada</p>",
            "text": "Hi Ada\n",
            "headers": {
                "List-Unsubscribe": "<https://mail.example.com/u/1-abcdefgh>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            },
            "tags": [
                {"name": "campaign", "value": "3"},
                {"name": "handoff", "value": "7"},
                {"name": "lead", "value": "1"},
                {"name": "run", "value": "1"},
            ],
        }
    ]
    headers = peer.calls[0].headers
    assert (headers["idempotency-key"], headers["x-batch-validation"]) == (str(CALL_KEY), "permissive")


def test_a_hundred_go_in_one_call_and_their_order_is_kept(peer: ResendPeer, resend: Provider) -> None:
    letters = letters_to(*(f"lead{number}@example.com" for number in range(100)))
    assert resend.send(batch_of(letters)) == accepted(*range(100))
    assert (len(peer.calls), resend.capabilities.batch) == (1, 100)


def test_the_same_call_under_its_key_is_taken_once_and_answered_alike(peer: ResendPeer, resend: Provider) -> None:
    batch = batch_of(letters_to(ADA, BAD, EVE))
    first = resend.send(batch)
    assert resend.send(batch) == first
    assert len(peer.sent) == 2
    assert peer.calls[0].body == peer.calls[1].body


def test_a_lost_reply_is_told_again_to_who_asks_with_its_key(peer: ResendPeer, resend: Provider) -> None:
    batch = batch_of(letters_to(ADA, BOB))
    peer.script(Reply(200, cut=True))
    with pytest.raises(ProviderUnsure):
        resend.send(batch)
    assert resend.send(batch) == accepted(0, 1)
    assert len(peer.sent) == 2


def test_a_key_that_came_with_another_body_leaves_everything_unknown(peer: ResendPeer, resend: Provider) -> None:
    resend.send(batch_of(letters_to(ADA)))
    with pytest.raises(ProviderUnsure, match="another call under this key"):
        resend.send(batch_of(letters_to(BOB)))
    assert len(peer.sent) == 1


def test_refused_emails_are_named_by_their_index_wherever_they_stand(peer: ResendPeer, resend: Provider) -> None:
    outcomes = resend.send(batch_of(letters_to(BAD, ADA, "no address", BOB, BAD)))
    assert [type(outcome) for outcome in outcomes] == [Refused, Accepted, Refused, Accepted, Refused]
    assert [outcome for outcome in outcomes if isinstance(outcome, Accepted)] == accepted(0, 1)
    assert outcomes[0] == Refused(
        "Invalid `to` field. The email address needs to follow the `email@example.com` format."
    )
    assert len(peer.calls) == 1


def test_ten_refused_one_by_one_and_none_taken_are_our_fault(resend: Provider) -> None:
    with pytest.raises(ProviderRefusesUs, match="Every one of 10"):
        resend.send(batch_of(letters_to(*[BAD] * 10)))


def test_a_call_that_is_refused_as_a_whole_is_halved_under_keys_of_its_own(peer: ResendPeer, resend: Provider) -> None:
    peer.script(error(422, "missing_required_field", "The `subject` is missing."))
    assert resend.send(batch_of(letters_to(ADA, BOB, EVE))) == accepted(0, 1, 2)
    keys = [call.headers["idempotency-key"] for call in peer.calls]
    assert len(set(keys)) == 3
    assert keys[0] == str(CALL_KEY)


def test_a_domain_that_is_not_verified_pauses_the_pool(resend: Provider) -> None:
    with pytest.raises(ProviderRefusesUs, match="verify its domain there"):
        resend.send(replace(batch_of(letters_to(ADA)), from_address="news@example.org"))


def test_what_is_empty_is_left_out(peer: ResendPeer, resend: Provider) -> None:
    content = Content(1, Parts(("Hello",), ()), Parts(("",), ()), Parts(("Hi",), ()))
    letters = [each._replace(unsubscribe_url="") for each in letters_to(ADA)]
    resend.send(replace(batch_of(letters, content=content), reply_to=None, from_name=""))
    assert set(peer.sent[0]) == {"from", "to", "subject", "text", "tags"}
    assert peer.sent[0]["from"] == "news@example.com"


def test_a_name_cannot_add_an_address_or_a_line(peer: ResendPeer, resend: Provider) -> None:
    resend.send(replace(batch_of(letters_to(ADA)), from_name='Eve" <eve@example.com>,\r\nBcc: \\'))
    assert peer.sent[0]["from"] == '"Eve\\" <eve@example.com>,  Bcc: \\\\" <news@example.com>'


@pytest.mark.parametrize(
    ("reply", "raised", "advice"),
    [
        (error(401, "missing_api_key", "x"), ProviderRefusesUs, "put one that may send"),
        (error(401, "restricted_api_key", "x"), ProviderRefusesUs, "put one that may send"),
        (error(403, "invalid_api_key", "x"), ProviderRefusesUs, "put one that may send"),
        (error(403, "suspended_api_key", "x"), ProviderRefusesUs, "ask its support why"),
        (error(403, "validation_error", "x"), ProviderRefusesUs, "verify its domain"),
        (error(422, "invalid_from_address", "x"), ProviderRefusesUs, "mend it"),
        (error(409, "concurrent_idempotent_requests", "x"), ProviderUnsure, "still working"),
        (error(429, "rate_limit_exceeded", "x"), ProviderDown, "no more calls"),
        (error(429, "monthly_quota_exceeded", "x"), ProviderRefusesUs, "quota of the month"),
        (error(500, "application_error", "x"), ProviderUnsure, "HTTP 500"),
        (error(500, "validation_error", "x"), ProviderUnsure, "HTTP 500"),
        (error(418, "teapot", "x"), ProviderRefusesUs, "Every one of 10"),
        (Reply(200, {"data": [{"id": "a"}]}), ProviderUnsure, "1 ids and 0 errors for 10 letters"),
        (Reply(200, {"data": [{"id": "a"}] * 9, "errors": [{"index": 10, "message": "x"}]}), ProviderUnsure, "9 ids"),
        (Reply(200, {"data": [{"id": "a"}] * 9 + [{"id": None}]}), ProviderUnsure, "an id that is none"),
    ],
)
def test_an_answer_for_the_whole_call_is_an_error_of_all(
    peer: ResendPeer, resend: Provider, reply: Reply, raised: type[Exception], advice: str
) -> None:
    peer.script(*[reply] * 19)  # a refused call of ten is made nineteen times
    with pytest.raises(raised, match=advice):
        resend.send(batch_of(letters_to(*(f"lead{number}@example.com" for number in range(10)))))


def test_a_quota_of_the_day_is_tried_again_after_an_hour(peer: ResendPeer, resend: Provider) -> None:
    peer.script(error(429, "daily_quota_exceeded", "You have reached your daily email quota."))
    with pytest.raises(ProviderDown, match="quota of the day") as caught:
        resend.send(batch_of(letters_to(ADA)))
    assert caught.value.retry_in == 3600.0


def test_nothing_can_be_asked_and_keys_live_a_day(peer: ResendPeer, resend: Provider) -> None:
    assert resend.look_up(7, uuid4(), [1]) == {}
    assert not resend.capabilities.lookup
    assert resend.capabilities.idempotent_for == 86400.0
    assert not peer.calls


@pytest.mark.parametrize("url", ["resend://api.resend.com", f"resend://:{KEY}@api.resend.com?stream=x"])
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        open_provider(url, deadline=1.0)
    assert KEY not in str(caught.value)
