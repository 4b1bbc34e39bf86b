"""Brevo, as versions of a message are taken once under their key, and come out as they were written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from email.header import decode_header, make_header
from uuid import uuid4

import pytest

from app.errors import Invalid, ProviderDown, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Content, Outcome, Parts, Refused, Unsure
from app.providers import Provider, open_provider
from app.providers.brevo import unmarked, unmarked_html
from tests.provider_peers import KEY as CALL_KEY
from tests.provider_peers import batch_of, letters_to
from tests.providers.api_peer import Reply, running
from tests.providers.brevo_peer import BrevoPeer, error, message_id
from tests.providers.vendor import BAD, KEY

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"


@pytest.fixture
def peer() -> Iterator[BrevoPeer]:
    with running(BrevoPeer()) as peer:
        yield peer


@pytest.fixture
def brevo(peer: BrevoPeer) -> Iterator[Provider]:
    provider = open_provider(f"brevo://:{KEY}@{peer.host}?tls=none", deadline=5.0)
    yield provider
    provider.close()


def accepted(*numbers: int) -> list[Outcome]:
    return [Accepted(message_id(number)) for number in numbers]


def test_a_call_carries_everything_brevo_needs(peer: BrevoPeer, brevo: Provider) -> None:
    assert brevo.send(batch_of(letters_to(ADA))) == accepted(0)
    told = peer.calls[0].json
    [version] = told.pop("messageVersions")
    assert told == {
        "sender": {"email": "news@example.com", "name": "Ada's Letters"},
        "subject": "Hello !",
        "htmlContent": "<p></p>",
        "textContent": "Hi \n",
        "headers": {"idempotencyKey": str(CALL_KEY)},
        "tags": ["campaign-3"],
        "replyTo": {"email": "answers@example.com"},
    }
    assert version == {
        "to": [{"email": ADA}],
        "subject": "Hello Ada!",
        "htmlContent": "<p>Ada</p>",
        "textContent": "Hi Ada\n",
        "headers": {
            "X-Mailin-custom": '{"campaign":"3","handoff":"7","lead":"1","run":"1"}',
            "List-Unsubscribe": "<https://mail.example.com/u/1-abcdefgh>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
    }


def test_a_thousand_go_in_one_call_and_their_order_is_kept(peer: BrevoPeer, brevo: Provider) -> None:
    letters = letters_to(*(f"lead{number}@example.com" for number in range(1000)))
    assert brevo.send(batch_of(letters)) == accepted(*range(1000))
    assert (len(peer.calls), brevo.capabilities.batch) == (1, 1000)


def test_a_call_that_comes_again_is_in_doubt_and_mails_nobody_twice(peer: BrevoPeer, brevo: Provider) -> None:
    batch = batch_of(letters_to(ADA, BOB, EVE))
    peer.script(Reply(201, cut=True))
    with pytest.raises(ProviderUnsure):
        brevo.send(batch)
    outcomes = brevo.send(batch)
    assert [type(outcome) for outcome in outcomes] == [Unsure] * 3
    assert (len(peer.calls), len(peer.sent)) == (2, 3)
    assert peer.calls[0].body == peer.calls[1].body


def test_a_call_that_never_arrived_is_sent_by_its_repeat(peer: BrevoPeer, brevo: Provider) -> None:
    batch = batch_of(letters_to(ADA, BOB))
    peer.script(Reply(502, b""))
    with pytest.raises(ProviderUnsure):
        brevo.send(batch)
    assert brevo.send(batch) == accepted(0, 1)


def test_one_bad_address_is_found_by_halves_with_keys_of_their_own(peer: BrevoPeer, brevo: Provider) -> None:
    outcomes = brevo.send(batch_of(letters_to(ADA, BAD, BOB, EVE)))
    assert [type(outcome) for outcome in outcomes] == [Accepted, Refused, Accepted, Accepted]
    assert len(peer.sent) == 3
    keys = [call.json["headers"]["idempotencyKey"] for call in peer.calls]
    assert len(set(keys)) == len(keys) > 1


def test_a_half_that_comes_again_is_in_doubt_and_its_neighbours_are_not(peer: BrevoPeer, brevo: Provider) -> None:
    refusal, again = error(400, "invalid_parameter", "email is not valid"), error(400, "duplicate_parameter", "again")
    peer.script(refusal, again)
    outcomes = brevo.send(batch_of(letters_to(ADA, BOB, EVE)))
    assert [type(outcome) for outcome in outcomes] == [Unsure, Unsure, Accepted]


def test_a_sender_that_is_not_verified_pauses_the_pool(brevo: Provider) -> None:
    with pytest.raises(ProviderRefusesUs, match="verify it or its domain"):
        brevo.send(replace(batch_of(letters_to(ADA)), from_address="news@example.org"))


MARKED = "50 % {{ off }} {% if x %} {# none #} {{{y}}}"


def test_what_looks_like_a_template_comes_out_as_it_was_written(peer: BrevoPeer, brevo: Provider) -> None:
    parts = Parts(("", ""), (0,))
    content = Content(1, parts, Parts(("<style>a{#b{c:d}}</style><p>", "</p>"), (0,)), parts)
    brevo.send(batch_of(letters_to(ADA, values=(MARKED,)), content=content))
    [sent] = peer.sent
    assert sent["subject"].replace("\u200b", "") == MARKED
    assert sent["textContent"].replace("\u200b", "") == MARKED
    assert sent["htmlContent"].replace("&#123;", "{") == f"<style>a{{ #b{{c:d}}}}</style><p>{MARKED}</p>"


def test_what_has_no_template_in_it_is_not_touched() -> None:
    for text in ("", "a{b}", "{", "}}", "{ {", "<style>a{b:c}</style>{x}"):
        assert unmarked(text) == unmarked_html(text) == text


def test_an_email_without_html_gets_its_text_as_html(peer: BrevoPeer, brevo: Provider) -> None:
    content = Content(1, Parts(("Hello",), ()), Parts(("",), ()), Parts(("a < b & c\n",), ()))
    brevo.send(replace(batch_of(letters_to(ADA), content=content), reply_to=None, from_name=""))
    assert peer.sent[0]["htmlContent"] == '<pre style="white-space: pre-wrap">a &lt; b &amp; c\n</pre>'
    assert peer.calls[0].json["sender"] == {"email": "news@example.com"}
    assert "replyTo" not in peer.calls[0].json


@pytest.mark.parametrize(
    ("name", "encoded"), [("Ada, Countess", False), ("Gr\u00fc\u00dfe", False), ("Gr\u00fc\u00dfe, Ada", True)]
)
def test_a_name_that_brevo_would_drop_comes_encoded(peer: BrevoPeer, brevo: Provider, name: str, encoded: bool) -> None:
    brevo.send(replace(batch_of(letters_to(ADA)), from_name=name))
    said = peer.calls[0].json["sender"]["name"]
    assert (said != name) is encoded
    assert str(make_header(decode_header(said))) == name


@pytest.mark.parametrize(
    ("reply", "raised", "advice"),
    [
        (error(401, "unauthorized", "Key not found"), ProviderRefusesUs, "authorised IP addresses"),
        (error(402, "not_enough_credits", "x"), ProviderRefusesUs, "buy some"),
        (error(400, "not_enough_credits", "x"), ProviderRefusesUs, "buy some"),
        (error(403, "permission_denied", "x"), ProviderRefusesUs, "does not let this API key send"),
        (error(403, "account_under_validation", "x"), ProviderRefusesUs, "still checking this account"),
        (error(429, "too_many_requests", "x"), ProviderDown, "no more calls"),
        (Reply(429, b""), ProviderDown, "HTTP 429"),
        (Reply(503, b""), ProviderDown, "HTTP 503"),
        (error(500, "duplicate_parameter", "x"), ProviderUnsure, "HTTP 500"),
        (Reply(201, {"messageId": "a"}), ProviderUnsure, "other than 2 ids"),
        (Reply(201, {"messageIds": ["a", "b", "c"]}), ProviderUnsure, "other than 2 ids"),
        (Reply(201, {"messageIds": ["a", None]}), ProviderUnsure, "other than 2 ids"),
        (Reply(201, {"messageIds": "ab"}), ProviderUnsure, "other than 2 ids"),
    ],
)
def test_an_answer_for_the_whole_call_is_an_error_of_all(
    peer: BrevoPeer, brevo: Provider, reply: Reply, raised: type[Exception], advice: str
) -> None:
    peer.script(reply)
    with pytest.raises(raised, match=advice):
        brevo.send(batch_of(letters_to(ADA, BOB)))
    assert len(peer.calls) == 1


@pytest.mark.parametrize("body", [b"", json.dumps({"code": "too_many_requests", "message": "x"}).encode()])
def test_a_limit_is_waited_for_until_it_is_reset(peer: BrevoPeer, brevo: Provider, body: bytes) -> None:
    peer.script(Reply(429, body, {"x-sib-ratelimit-reset": "23"}))
    with pytest.raises(ProviderDown) as caught:
        brevo.send(batch_of(letters_to(ADA)))
    assert caught.value.retry_in == 23.0


def test_keys_are_relied_upon_for_the_shorter_time_that_is_told(peer: BrevoPeer, brevo: Provider) -> None:
    assert brevo.capabilities.idempotent_for == 900.0
    assert not brevo.capabilities.lookup
    assert brevo.look_up(7, uuid4(), [1]) == {}


@pytest.mark.parametrize("url", ["brevo://api.brevo.com", f"brevo://:{KEY}@api.brevo.com?stream=x"])
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        open_provider(url, deadline=1.0)
    assert KEY not in str(caught.value)
