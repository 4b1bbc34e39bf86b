"""A letter's way back, as it is prepared on its way out; and how many connections a pool takes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from app.errors import Invalid
from app.mail import Accepted
from app.providers import Provider, open_provider
from app.signing import ReturnTokens
from tests.provider_peers import batch_of, letters_to, peer
from tests.test_smtp import Mailbox, serve
from tests.test_smtp_faults import Server

TOKENS = ReturnTokens("a key for tests, known to everybody")
OTHER = ReturnTokens("another key, that somebody else has")
TOKEN = TOKENS.token(7, 1)


class Crowd(Mailbox):
    """Counts who is here at once, and how many letters each brings."""

    def __init__(self) -> None:
        super().__init__(pipelining=True)
        self.here: set[Session] = set()
        self.most = 0
        self.letters: Counter[int] = Counter()

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.here.add(session)
        self.most = max(self.most, len(self.here))
        self.letters[id(session)] += 1
        envelope.mail_from = address
        return "250 2.1.0 Ok"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.here.discard(session)
        return "221 2.0.0 Bye"


@contextmanager
def opened(port: int, more: str = "", **wishes: Any) -> Iterator[Provider]:
    url = f"smtp://127.0.0.1:{port}?tls=none{more}"
    provider = open_provider(url, deadline=10.0, **({"token": TOKENS.token} | wishes))
    try:
        yield provider
    finally:
        provider.close()


@pytest.mark.parametrize("pipelining", [False, True], ids=["one by one", "pipelined"])
@pytest.mark.parametrize(
    ("returns", "sender"),
    [
        ("bounces@mail.example.com", f"bounces+{TOKEN}@mail.example.com"),
        ("*@bounces.example.com", f"{TOKEN}@bounces.example.com"),
        ("b-*@example.com", f"b-{TOKEN}@example.com"),
        ("b+*@example.com", f"b+{TOKEN}@example.com"),
        ("", "news@example.com"),
    ],
)
def test_the_return_address_is_written_as_the_pool_says(returns: str, sender: str, pipelining: bool) -> None:
    server = Mailbox(pipelining=pipelining)
    letters = letters_to(*(f"a{n}@example.com" for n in range(1, 5)))
    with serve(server) as port, opened(port, f"&returns={returns}" if returns else "") as provider:
        assert all(isinstance(each, Accepted) for each in provider.send(batch_of(letters)))
    assert [each for each, _, _ in server.received] == [
        sender.replace(TOKEN, TOKENS.token(7, lead_id)) for lead_id in range(1, 5)
    ]
    assert all(
        f"Message-ID: <{TOKENS.token(7, n)}@example.com>".encode() in raw
        for n, (*_, raw) in enumerate(server.received, 1)
    )


@pytest.mark.parametrize("dsn", [False, True])
def test_reports_are_asked_for_only_where_the_server_knows_how(dsn: bool) -> None:
    mails: list[str] = []

    class Listening(Server):
        def usual(self, command: str) -> str:
            mails.extend([command] if command.startswith("MAIL") else [])
            return "250-peer\r\n250 DSN" if command.startswith("EHLO") and dsn else super().usual(command)

    with peer(Listening()) as other:
        for token in (TOKENS.token, None):
            with opened(other.port, token=token) as provider:
                provider.send(batch_of(letters_to("a@example.com")))
    wished = f" RET=HDRS ENVID={TOKEN.upper()}" if dsn else ""
    assert mails == [f"MAIL FROM:<NEWS@EXAMPLE.COM>{wished}", "MAIL FROM:<NEWS@EXAMPLE.COM>"]


@pytest.mark.parametrize(
    "returns",
    [
        "bounces",
        "@example.com",
        "a*b*c@example.com",
        "b@*.example.com",
        "b%0d%0aRCPT@example.com",
        "b%3E@example.com",
        "bounces-of-our-newsletter@example.com",  # with the token it has more than 64 characters
        "",
    ],
)
def test_what_is_no_return_address_is_refused(returns: str) -> None:
    with pytest.raises(Invalid, match="returns") as refused:
        open_provider(f"smtp://mail.example.com?returns={returns}", deadline=1.0)
    assert refused.value.faults[0].pointer == "url"


def test_a_pool_never_opens_more_connections_than_it_was_given_nor_sends_more_over_one() -> None:
    server = Crowd()
    batches = [batch_of(letters_to(*(f"a{n}@example.com" for n in range(10))), handoff=at) for at in range(1, 25)]
    with serve(server) as port, opened(port, "&connections=3&messages=15") as provider:
        gate = threading.Barrier(12)

        def send(at: int) -> int:
            if at < 12:
                gate.wait(10)
            return sum(isinstance(each, Accepted) for each in provider.send(batches[at]))

        with ThreadPoolExecutor(12) as calls:
            assert sum(calls.map(send, range(24))) == 240
    assert server.most == 3, "the limit is not reached, or not kept"
    assert max(server.letters.values()) == 15


# -- Tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_names_one_email_and_fits_into_an_address() -> None:
    for handoff_id, lead_id in ((1, 1), (2**48 - 1, 2**39 - 1), (7, 2**38)):
        token = TOKENS.token(handoff_id, lead_id)
        assert len(token) == 40 and token.isalnum() and token == token.lower()
        assert TOKENS.find(f"<bounces+{token.upper()}@x>".encode()) == [(handoff_id, lead_id)]
    assert TOKENS.find(f"{TOKENS.token(1, 2)} {TOKENS.token(1, 3)} {TOKENS.token(1, 2)}".encode()) == [(1, 2), (1, 3)]


def test_a_token_with_any_one_character_changed_is_none() -> None:
    for place, was in enumerate(TOKEN):
        forged = TOKEN[:place] + ("0" if was != "0" else "1") + TOKEN[place + 1 :]
        assert TOKENS.find(forged.encode()) == []
    assert TOKENS.find(TOKEN[1:].encode()) == TOKENS.find(f"a{TOKEN}".encode()) == OTHER.find(TOKEN.encode()) == []


def test_tokens_of_an_earlier_key_are_read_and_new_ones_are_made_with_the_new() -> None:
    both = ReturnTokens("another key, that somebody else has", "a key for tests, known to everybody")
    assert both.find(TOKEN.encode()) == [(7, 1)]
    assert both.token(7, 1) == OTHER.token(7, 1) != TOKEN
