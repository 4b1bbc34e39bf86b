"""Mailgun: variables that nobody can forge, one form for a thousand, and what each answer means."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from app.errors import Invalid, ProviderDown, ProviderRefusesUs
from app.mail import Accepted, Content, Letter, Outcome, Parts, Refused
from app.providers import open_provider
from app.providers.mailgun import Mailgun, fields_of
from tests.provider_peers import batch_of, letters_to
from tests.providers.api_peer import Reply, running
from tests.providers.mailgun_peer import DOMAIN, MailgunPeer, form_of, said
from tests.providers.vendor import KEY

ALL = Content(
    1,
    Parts(("Hello ", "!"), (0,)),
    Parts(("<p style='width:100%' title='", "'>", "% off %recipient.name% %unsubscribe_url% 5%</p>"), (1, 0)),
    Parts(("%", "%", "%\n100%", "%"), (0, 0, 1)),
)


@pytest.fixture
def peer() -> Iterator[MailgunPeer]:
    with running(MailgunPeer()) as peer:
        yield peer


@pytest.fixture
def mailgun(peer: MailgunPeer) -> Iterator[Mailgun]:
    provider = open_provider(f"mailgun://:{KEY}@{peer.host}/{DOMAIN}?tls=none", deadline=10.0)
    assert isinstance(provider, Mailgun)
    yield provider
    provider.close()


def letter(lead_id: int, *values: str) -> Letter:
    return Letter(lead_id, f"a{lead_id}@example.com", values, f"https://mail.example.com/u/{lead_id}-abcdefgh")


def taken(call: int, count: int) -> list[Outcome]:
    return [Accepted(f"2026.{call}@{DOMAIN}")] * count


def test_each_letter_arrives_as_it_was_filled_here(mailgun: Mailgun, peer: MailgunPeer) -> None:
    letters = [letter(1, "Ada &amp; Co", "x"), letter(2, "50%", "&#39;"), letter(3, "", "ü\r\n--millrace-")]
    assert mailgun.send(batch_of(letters, content=ALL)) == taken(1, 3)
    assert [(mail["to"], mail["subject"], mail["html"], mail["text"]) for mail in peer.sent] == [
        (each.address, *(part.fill(each.values) for part in (ALL.subject, ALL.html, ALL.text))) for each in letters
    ]
    assert peer.sent[0]["from"] == '"Ada\'s Letters" <news@example.com>'
    assert peer.sent[0]["h:Reply-To"] == "answers@example.com"


def test_a_value_that_looks_like_another_calls_variable_is_text(mailgun: Mailgun, peer: MailgunPeer) -> None:
    def subject(key: int) -> str:
        return dict(fields_of(batch_of([letter(1, "a", "b")], content=ALL, key=UUID(int=key))))["subject"]

    assert subject(7) != subject(8)
    mailgun.send(batch_of([letter(1, subject(7), "b")], content=ALL, key=UUID(int=8)))
    assert peer.sent[0]["subject"] == f"Hello {subject(7)}!"


def test_a_thousand_letters_are_one_call_and_one_bad_one_is_found(mailgun: Mailgun, peer: MailgunPeer) -> None:
    letters = letters_to(*(f"a{number}@example.com" for number in range(mailgun.capabilities.batch)))
    assert mailgun.send(batch_of(letters)) == taken(1, 1000)
    assert len(peer.sent) == 1000
    peer.sent.clear()
    letters[617] = letters[617]._replace(address="refused@example.net")
    outcomes = mailgun.send(batch_of(letters))
    assert [place for place, outcome in enumerate(outcomes) if not isinstance(outcome, Accepted)] == [617]
    assert isinstance(outcomes[617], Refused)
    assert outcomes[617].reason.startswith("HTTP 400: 'to' parameter is not a valid address")
    assert len(peer.sent) == len({mail["to"] for mail in peer.sent}) == 999
    assert len(peer.calls) <= 1 + 1 + 20


def test_two_letters_to_one_address_do_not_share_its_variables(mailgun: Mailgun, peer: MailgunPeer) -> None:
    letters = [letter(1, "Ada", "x"), letter(2, "Grace", "x"), letter(1, "Mary", "x")._replace(lead_id=3)]
    outcomes = mailgun.send(batch_of(letters, content=ALL))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert [mail["subject"] for mail in peer.sent] == ["Hello Ada!", "Hello Grace!", "Hello Mary!"]
    assert [len(form_of(call)["to"]) for call in peer.calls] == [2, 1]


def test_no_letter_loses_its_unsubscribe_link_to_one_that_has_none(mailgun: Mailgun, peer: MailgunPeer) -> None:
    letters = [letter(1, "Ada", "x")._replace(unsubscribe_url=""), letter(2, "Grace", "x")]
    mailgun.send(batch_of(letters, content=ALL))
    assert [mail.get("h:List-Unsubscribe") for mail in peer.sent] == [None, "<https://mail.example.com/u/2-abcdefgh>"]


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (Reply(401, b"Forbidden"), "does not know this API key"),
        (said(402, "Payment Required"), "billing"),
        (
            said(403, f"Domain {DOMAIN} is not allowed to send: Sandbox subdomains are for test purposes only."),
            "verify",
        ),
        (said(404, "Domain not found: other.example.com"), "api.eu.mailgun.net"),
        (said(400, "'from' parameter is not a valid address. please check documentation"), "sender"),
        (said(400, "from parameter is missing"), "sender"),
        (said(400, f"Domain {DOMAIN} is not allowed to send: disabled"), "does not let this domain send"),
        (Reply(200, b"Mailgun Magnificent API"), "check the pool's URL"),
    ],
)
def test_what_is_wrong_with_our_account_is_said_in_a_sentence(
    mailgun: Mailgun, peer: MailgunPeer, reply: Reply, advice: str
) -> None:
    peer.script(reply)
    with pytest.raises(ProviderRefusesUs, match=advice):
        mailgun.send(batch_of(letters_to("ada@example.com", "grace@example.com")))
    assert len(peer.calls) == 1


@pytest.mark.parametrize("status", [400, 403, 429])
def test_the_limit_of_an_hour_is_waited_for(mailgun: Mailgun, peer: MailgunPeer, status: int) -> None:
    peer.script(said(status, f"Domain {DOMAIN} is not allowed to send: recipient limit exceeded. try again after Thu"))
    with pytest.raises(ProviderDown) as caught:
        mailgun.send(batch_of(letters_to("ada@example.com")))
    assert caught.value.retry_in == 600.0


def test_what_is_too_large_is_halved(mailgun: Mailgun, peer: MailgunPeer) -> None:
    peer.script(said(413, "Request Entity Too Large"))
    assert mailgun.send(batch_of(letters_to("ada@example.com", "grace@example.com"))) == [*taken(2, 1), *taken(3, 1)]


@pytest.mark.parametrize(
    "url", ["mailgun://:k@api.mailgun.net", "mailgun://:k@api.mailgun.net/v3", "mailgun://:k@h/a%2Fb"]
)
def test_an_account_needs_its_domain(url: str) -> None:
    with pytest.raises(Invalid, match="sending domain"):
        open_provider(url, deadline=1.0)


@pytest.mark.parametrize("path", ["/mg.example.com", "/v3/mg.example.com", "/mg.example.com/"])
def test_the_domain_may_stand_as_mailgun_shows_its_address(path: str, peer: MailgunPeer) -> None:
    provider = open_provider(f"mailgun://:{KEY}@{peer.host}{path}?tls=none", deadline=5.0)
    assert provider.send(batch_of(letters_to("ada@example.com"))) == taken(1, 1)
    provider.close()
