"""SendGrid: substitutions that nobody can forge, calls refused with a pointer, and what each answer means."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import orjson
import pytest

from app.errors import Invalid, ProviderDown, ProviderRefusesUs
from app.mail import Accepted, Content, Letter, Parts, Refused
from app.providers import open_provider
from app.providers.sendgrid import SendGrid, write_call
from tests.provider_peers import batch_of, letters_to
from tests.providers.api_peer import Reply, running
from tests.providers.sendgrid_peer import SendGridPeer, error
from tests.providers.vendor import KEY

BOTH = Content(
    1,
    Parts(("Hello ", "!"), (0,)),
    Parts(("<p title='", "'>", " costs 100%</p>"), (1, 0)),
    Parts(("Hi ", "-", "-\n"), (0, 0)),
)


@pytest.fixture
def peer() -> Iterator[SendGridPeer]:
    with running(SendGridPeer()) as peer:
        yield peer


@pytest.fixture
def sendgrid(peer: SendGridPeer) -> Iterator[SendGrid]:
    provider = open_provider(f"sendgrid://:{KEY}@{peer.host}?tls=none", deadline=10.0)
    assert isinstance(provider, SendGrid)
    yield provider
    provider.close()


def letter(lead_id: int, *values: str) -> Letter:
    return Letter(lead_id, f"a{lead_id}@example.com", values, f"https://mail.example.com/u/{lead_id}-abcdefgh")


def test_each_letter_arrives_as_it_was_filled_here(sendgrid: SendGrid, peer: SendGridPeer) -> None:
    letters = [letter(1, "Ada &amp; Co", "x"), letter(2, "Grace", "&#39;"), letter(3, "", "ü\n")]
    batch = batch_of(letters, content=BOTH)
    assert sendgrid.send(batch) == [Accepted("mid1")] * 3
    assert [(mail["to"], mail["subject"], mail["text/html"], mail["text/plain"]) for mail in peer.sent] == [
        (each.address, *(part.fill(each.values) for part in (BOTH.subject, BOTH.html, BOTH.text))) for each in letters
    ]


def tags_of(key: int) -> set[str]:
    [told] = orjson.loads(write_call(batch_of([letter(1, "a", "b")], content=BOTH, key=UUID(int=key))))[
        "personalizations"
    ]
    return set(told["substitutions"])


def test_a_value_that_looks_like_another_calls_tag_is_text(sendgrid: SendGrid, peer: SendGridPeer) -> None:
    forged = " ".join(tags_of(7))
    assert len(tags_of(7)) == 2 and not tags_of(7) & tags_of(8)
    sendgrid.send(batch_of([letter(1, forged, "<Ada>")], content=BOTH, key=UUID(int=8)))
    assert peer.sent[0]["text/plain"] == f"Hi {forged}-{forged}-\n"


def test_a_thousand_letters_are_one_call_and_one_bad_one_is_found(sendgrid: SendGrid, peer: SendGridPeer) -> None:
    letters = letters_to(*(f"a{number}@example.com" for number in range(sendgrid.capabilities.batch)))
    assert sendgrid.send(batch_of(letters)) == [Accepted("mid1")] * 1000
    peer.sent.clear()
    letters[617] = letters[617]._replace(address="refused@example.net")
    outcomes = sendgrid.send(batch_of(letters))
    assert [place for place, outcome in enumerate(outcomes) if not isinstance(outcome, Accepted)] == [617]
    assert isinstance(outcomes[617], Refused)
    assert "[personalizations.0.to.0.email] Does not contain a valid address." in outcomes[617].reason
    assert len(peer.sent) == len({mail["to"] for mail in peer.sent}) == 999
    assert len(peer.calls) <= 1 + 1 + 20


def test_longer_values_than_are_substituted_leave_with_a_filled_body(sendgrid: SendGrid, peer: SendGridPeer) -> None:
    letters = [letter(1, "Ada", "x"), letter(2, "Grace" * 3000, "y"), letter(3, "Mary", "z"), letter(4, "Eve", "z")]
    outcomes = sendgrid.send(batch_of(letters, content=BOTH))
    assert [type(outcome) for outcome in outcomes] == [Accepted] * 4
    assert sorted((mail["to"], mail["text/html"]) for mail in peer.sent) == [
        (each.address, BOTH.html.fill(each.values)) for each in letters
    ]
    assert len(peer.calls) == 3


def test_an_empty_part_is_left_out_and_the_names_are_plain(sendgrid: SendGrid, peer: SendGridPeer) -> None:
    content = Content(1, Parts(("Hello",), ()), Parts(("<p>Hi</p>",), ()), Parts(("",), ()))
    sendgrid.send(batch_of([letter(1)], content=content))
    told = peer.calls[0].json
    assert told["content"] == [{"type": "text/html", "value": "<p>Hi</p>"}]
    assert told["from"] == {"email": "news@example.com", "name": "Ada's Letters"}
    assert told["reply_to"] == {"email": "answers@example.com"}
    assert told["tracking_settings"] == {"subscription_tracking": {"enable": False}}


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (error(401, "Maximum credits exceeded"), "credits are used up"),
        (error(401, "authorization required"), "does not know this API key"),
        (error(403, "The from address does not match a verified Sender Identity.", "from"), "Verify the sender"),
        (error(403, "access forbidden"), "give it Mail Send"),
        (error(400, "Does not contain a valid address.", "from.email"), "does not take the sender"),
        (error(400, "Does not contain a valid address.", "reply_to.email"), "reply address"),
        (error(404, "not found"), "404"),
    ],
)
def test_what_is_wrong_with_our_account_is_said_in_a_sentence(
    sendgrid: SendGrid, peer: SendGridPeer, reply: Reply, advice: str
) -> None:
    peer.script(reply)
    with pytest.raises(ProviderRefusesUs, match=advice):
        sendgrid.send(batch_of(letters_to("ada@example.com", "grace@example.com")))
    assert len(peer.calls) == 1


def test_a_limit_is_waited_for_until_it_is_reset_by_their_clock(sendgrid: SendGrid, peer: SendGridPeer) -> None:
    moment = {"x-ratelimit-limit": "600", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1445412525"}
    peer.script(Reply(429, b"{}", moment | {"date": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    with pytest.raises(ProviderDown) as caught:
        sendgrid.send(batch_of(letters_to("ada@example.com")))
    assert caught.value.retry_in == 45.0


def test_an_account_needs_a_key() -> None:
    with pytest.raises(Invalid, match="API key"):
        open_provider("sendgrid://api.sendgrid.com", deadline=1.0)
    with pytest.raises(Invalid, match="this very machine"):
        open_provider("sendgrid://:k@api.sendgrid.com?tls=none", deadline=1.0)
