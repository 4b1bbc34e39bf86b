"""Postmark, as a batch is taken, refused letter by letter, and asked about afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from app.errors import Invalid, ProviderDown, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Deferred, Kind, Refused, Unsure
from app.providers import Provider, open_provider, shown
from tests.provider_peers import KEY, batch_of, letters_to
from tests.providers.api_peer import Reply, running
from tests.providers.postmark_peer import TOKEN, PostmarkPeer, error, message_id, said

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"


@pytest.fixture
def peer() -> Iterator[PostmarkPeer]:
    with running(PostmarkPeer()) as peer:
        yield peer


@pytest.fixture
def postmark(peer: PostmarkPeer) -> Iterator[Provider]:
    provider = open_provider(peer.url, deadline=5.0)
    yield provider
    provider.close()


def test_a_message_carries_everything_postmark_needs(peer: PostmarkPeer, postmark: Provider) -> None:
    assert postmark.send(batch_of(letters_to(ADA))) == [Accepted(message_id(0))]
    assert peer.sent == [
        {
            "From": '"Ada\'s Letters" <news@example.com>',
            "To": ADA,
            "Subject": "Hello Ada!",
            "HtmlBody": "<p>Ada</p>",
            "TextBody": "Hi Ada\n",
            "MessageStream": "broadcast",
            "ReplyTo": "answers@example.com",
            "Headers": [
                {"Name": "List-Unsubscribe", "Value": "<https://mail.example.com/u/1-abcdefgh>"},
                {"Name": "List-Unsubscribe-Post", "Value": "List-Unsubscribe=One-Click"},
            ],
            "Metadata": {"campaign": "3", "handoff": "7", "lead": "1", "run": "1", "key": KEY.hex},
        }
    ]


def test_five_hundred_go_in_one_call_and_their_order_is_kept(peer: PostmarkPeer, postmark: Provider) -> None:
    letters = letters_to(*(f"lead{number}@example.com" for number in range(500)))
    assert postmark.send(batch_of(letters)) == [Accepted(message_id(number)) for number in range(500)]
    assert len(peer.calls) == 1
    assert postmark.capabilities.batch == 500


def test_the_same_batch_is_the_same_bytes(peer: PostmarkPeer, postmark: Provider) -> None:
    for _ in range(2):
        postmark.send(batch_of(letters_to(ADA, BOB)))
    assert peer.calls[0].body == peer.calls[1].body


def test_who_cannot_be_mailed_is_refused_and_the_others_are_mailed(peer: PostmarkPeer, postmark: Provider) -> None:
    peer.inactive = {BOB}
    outcomes = postmark.send(batch_of(letters_to(ADA, BOB, "no address", EVE)))
    assert [type(outcome) for outcome in outcomes] == [Accepted, Refused, Refused, Accepted]
    assert isinstance(outcomes[1], Refused)
    assert outcomes[1].reason.startswith("406: You tried to send to recipient(s)")
    assert len(peer.calls) == 1


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (300, "Invalid email address", Refused),
        (402, "Invalid JSON", Refused),
        (403, "Incompatible JSON", Refused),
        (406, "Inactive recipient", Refused),
        (411, "Forbidden attachment type", Refused),
        (701, "A code that nobody knows", Refused),
        (100, "Maintenance", Deferred),
        (300, "Invalid 'From' address: not a verified sender signature.", Deferred),
        (400, "Sender signature not found", Deferred),
        (401, "Sender signature not confirmed", Deferred),
        (405, "Not allowed to send", Deferred),
        (412, "Account is pending", Deferred),
        (413, "Account may not send", Deferred),
        (429, "Rate limit exceeded", Deferred),
        (1235, "No such stream", Deferred),
        (1236, "No sending stream", Deferred),
        ("0", "A code that is no number", Unsure),
    ],
)
def test_each_code_of_a_letter_is_an_outcome_beside_one_that_was_taken(
    peer: PostmarkPeer, postmark: Provider, code: int, text: str, expected: type
) -> None:
    taken = {**said(0, "OK", ADA), "MessageID": "m"}
    peer.script(Reply(200, [taken, said(code, text, BOB)]))
    outcomes = postmark.send(batch_of(letters_to(ADA, BOB)))
    assert [type(outcome) for outcome in outcomes] == [Accepted, expected]


@pytest.mark.parametrize(
    ("code", "text", "advice"),
    [
        (300, "Invalid 'From' address: not a verified sender signature.", "Confirm the sender's domain"),
        (405, "Not allowed to send", "credits may be used up"),
        (412, "Account is pending", "ask there for its approval"),
        (413, "Account may not send", "ask its support why"),
        (1235, "No such stream", "name one of this server's"),
    ],
)
def test_what_every_letter_says_of_our_account_pauses_the_pool(
    peer: PostmarkPeer, postmark: Provider, code: int, text: str, advice: str
) -> None:
    peer.script(Reply(200, [said(code, text, ADA), said(code, text, BOB)]))
    with pytest.raises(ProviderRefusesUs, match=advice):
        postmark.send(batch_of(letters_to(ADA, BOB)))


def test_ten_refused_one_by_one_and_none_taken_are_our_fault(peer: PostmarkPeer, postmark: Provider) -> None:
    addresses = [f"lead{number}@example.com" for number in range(10)]
    peer.inactive = set(addresses)
    with pytest.raises(ProviderRefusesUs, match="Every one of 10 letters"):
        postmark.send(batch_of(letters_to(*addresses)))


def test_a_stream_of_the_url_is_sent_through(peer: PostmarkPeer) -> None:
    provider = open_provider(f"{peer.url}&stream=news-2", deadline=5.0)
    with pytest.raises(ProviderRefusesUs, match="name one of this server's"):
        provider.send(batch_of(letters_to(ADA)))
    peer.streams.add("news-2")
    assert provider.send(batch_of(letters_to(ADA))) == [Accepted(message_id(0))]
    provider.close()


@pytest.mark.parametrize(
    ("reply", "raised"),
    [
        (error(401, 10, "Bad token"), ProviderRefusesUs),
        (error(422, 412, "Pending"), ProviderRefusesUs),
        (error(422, 100, "Maintenance"), ProviderDown),
        (error(422, 429, "Slow down"), ProviderDown),
        (Reply(429, b""), ProviderDown),
        (Reply(503, b""), ProviderDown),
        (Reply(500, {"ErrorCode": 10, "Message": "who knows"}), ProviderUnsure),
        (Reply(200, [{**said(0, "OK", ADA), "MessageID": "m"}]), ProviderUnsure),
        (Reply(200, {"ErrorCode": 0}), ProviderUnsure),
        (Reply(200, b"<html>"), ProviderUnsure),
        (
            Reply(200, [{**said(0, "OK", BOB), "MessageID": "m"}, {**said(0, "OK", ADA), "MessageID": "n"}]),
            ProviderUnsure,
        ),
        (Reply(200, [said(0, "OK", ADA), said(0, "OK", BOB)]), ProviderUnsure),
        (Reply(200, b"", cut=True), ProviderUnsure),
    ],
)
def test_an_answer_for_the_whole_call_is_an_error_of_all(
    peer: PostmarkPeer, postmark: Provider, reply: Reply, raised: type[Exception]
) -> None:
    peer.script(reply)
    with pytest.raises(raised) as caught:
        postmark.send(batch_of(letters_to(ADA, BOB)))
    assert TOKEN not in f"{caught.value!s} {caught.value!r}"


def test_a_refused_call_is_halved(peer: PostmarkPeer, postmark: Provider) -> None:
    peer.script(error(422, 403, "Incompatible JSON"), error(422, 403, "Incompatible JSON"))
    outcomes = postmark.send(batch_of(letters_to(ADA, BOB)))
    assert [type(outcome) for outcome in outcomes] == [Refused, Accepted]


def test_leads_of_a_lost_call_are_found_by_our_ids(peer: PostmarkPeer, postmark: Provider) -> None:
    peer.inactive = {BOB}
    peer.script(Reply(200, cut=True))
    with pytest.raises(ProviderUnsure):
        postmark.send(batch_of(letters_to(ADA, BOB, EVE)))
    assert postmark.look_up(7, KEY, [1, 2, 3]) == {1: Kind.SENT, 3: Kind.SENT}
    assert postmark.look_up(7, KEY, [3, 4]) == {3: Kind.SENT}
    assert postmark.look_up(8, KEY, [1, 2, 3]) == {}


def test_calls_of_another_installation_with_our_number_are_not_taken_for_ours(
    peer: PostmarkPeer, postmark: Provider
) -> None:
    postmark.send(batch_of(letters_to(ADA), key=uuid4()))
    assert postmark.look_up(7, KEY, [1]) == {}


def test_halves_are_found_by_the_key_of_the_whole(peer: PostmarkPeer, postmark: Provider) -> None:
    peer.script(error(422, 403, "Incompatible JSON"))
    postmark.send(batch_of(letters_to(ADA, BOB)))
    assert postmark.look_up(7, KEY, [1, 2]) == {1: Kind.SENT, 2: Kind.SENT}


@pytest.mark.parametrize("reply", [Reply(200, b"["), Reply(200, {}), Reply(200, {"Messages": [{"Metadata": None}]})])
def test_a_search_without_sense_says_nothing(peer: PostmarkPeer, postmark: Provider, reply: Reply) -> None:
    peer.script(reply)
    with pytest.raises(ProviderUnsure):
        postmark.look_up(7, UUID(int=1), [1])


@pytest.mark.parametrize(
    ("url", "said_of_it"),
    [
        ("postmark://api.postmarkapp.com", "needs the API key"),
        (f"postmark://user:{TOKEN}@api.postmarkapp.com", "needs the API key"),
        (f"postmark://:{TOKEN}@api.postmarkapp.com?tls=none", "travel readable"),
        (f"postmark://:{TOKEN}@api.postmarkapp.com?stream=a b", "needs a host"),
        (f"postmark://:{TOKEN}@api.postmarkapp.com?stream=", "the ID of a message stream"),
        (f"postmark://:{TOKEN}@api.postmarkapp.com?batch=5", "unknown"),
        ("postmark://:a%0Ab@api.postmarkapp.com", "characters in it"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_a_sentence(url: str, said_of_it: str) -> None:
    with pytest.raises(Invalid, match=said_of_it) as caught:
        open_provider(url, deadline=1.0)
    assert TOKEN not in str(caught.value)


def test_the_token_is_shown_nowhere(postmark: Provider, peer: PostmarkPeer) -> None:
    assert TOKEN not in shown(peer.url)
    assert TOKEN not in repr(postmark)
