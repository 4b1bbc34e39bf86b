"""Letters through a real SMTP server: STARTTLS, TLS, AUTH, refusals, pipelining; every message read back."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email import message_from_bytes
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from app.errors import ProviderDown, ProviderRefusesUs
from app.mail import Accepted, Content, Deferred, Letter, Parts, Refused
from app.providers import open_provider
from tests.provider_peers import batch_of, letters_to, peer

USER, PASSWORD = "ada@example.com", "p@ss/w:rd"


class Mailbox:
    """What the server is told to do with each recipient, and all that it was sent."""

    def __init__(self, *, pipelining: bool) -> None:
        self.pipelining = pipelining
        self.received: list[tuple[str, list[str], bytes]] = []
        self.sessions: set[int] = set()
        self.ehlos = 0
        self.lock = threading.Lock()

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, name: str, said: list[str]
    ) -> list[str]:
        session.host_name = name
        self.ehlos += 1
        return [*said[:-1], "250-PIPELINING", said[-1]] if self.pipelining else said

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if address.startswith("gone"):
            return "550 5.1.1 No such mailbox"
        if address.startswith("grey"):
            return "450 4.7.1 Greylisted, try again in 5 minutes"
        if address.startswith("relay"):
            return "554 5.7.1 Relay access denied"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.original_content, bytes) and envelope.mail_from
        with self.lock:
            self.received.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
            self.sessions.add(id(session))
        if envelope.rcpt_tos == ["spam@example.com"]:
            return "554 5.7.1 Looks like spam"
        if envelope.rcpt_tos == ["full@example.com"]:
            return "452 4.2.2 Mailbox full"
        return f"250 2.0.0 Ok: queued as Q{len(self.received)}"


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    return AuthResult(success=(given.login, given.password) == (USER.encode(), PASSWORD.encode()), handled=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for 127.0.0.1, and the file of the authority that signed it."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return context, path


@contextmanager
def serve(mailbox: Mailbox, *, tls: ssl.SSLContext | None = None, **options: Any) -> Iterator[int]:
    """A server with this mailbox on a free port, in a thread; gives the port. `tls`: from the first byte."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> asyncio.Server:
        return await loop.create_server(lambda: SMTP(mailbox, loop=loop, **options), "127.0.0.1", 0, ssl=tls)

    # not in this thread: a browser that an earlier test opened has a loop running in it
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(5)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    conversations = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in conversations:
        task.cancel()
    await asyncio.gather(*conversations, return_exceptions=True)


@contextmanager
def secured(mailbox: Mailbox, authority: tuple[ssl.SSLContext, Path], **options: Any) -> Iterator[str]:
    """A server that demands STARTTLS and AUTH; gives the pool's URL."""
    context, ca = authority
    wishes = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": authenticate}
    with serve(mailbox, **wishes, **options) as port:
        yield f"smtp://ada%40example.com:p%40ss%2Fw%3Ard@127.0.0.1:{port}?ca={ca}"


@pytest.fixture(params=[False, True], ids=["one by one", "pipelined"])
def mailbox(request: pytest.FixtureRequest) -> Mailbox:
    return Mailbox(pipelining=request.param)


def send(url: str, letters: list[Letter], **wishes: Any) -> list:
    provider = open_provider(url, deadline=wishes.pop("deadline", 10.0))
    try:
        return provider.send(batch_of(letters, **wishes))
    finally:
        provider.close()


def test_two_thousand_letters_arrive_each_as_it_was_meant(mailbox: Mailbox, authority: Any) -> None:
    page = Parts(("<p>Dear ", ",</p>\n.\n..dots\nFrom here\n" + "x" * 1500 + "\n<p>Grüße, 日本 ", "</p>"), (0, 1))
    content = Content(1, Parts(("Für ", ": news"), (0,)), page, Parts(("Hi ", ",\n.\nFrom here ", "\n"), (0, 1)))
    names = ["Ada", "Zoë", "日本語の名前", ".dot", "From", "a=b", "O'Hara"]
    letters = [
        Letter(n, f"lead{n}@example.com", (names[n % 7], f"n° {n}"), f"https://mail.example.com/u/{n}")
        for n in range(1, 2001)
    ]
    refused = {n for n in range(1, 2001) if n % 100 == 13}
    letters = [
        each._replace(address=f"gone{each.lead_id}@example.com") if each.lead_id in refused else each
        for each in letters
    ]
    batches = [batch_of(letters[at : at + 50], handoff=at, content=content) for at in range(0, 2000, 50)]
    with secured(mailbox, authority) as url:
        provider = open_provider(f"{url}&connections=4&messages=300", deadline=30.0)
        with ThreadPoolExecutor(8) as calls:
            outcomes = [outcome for each in calls.map(provider.send, batches) for outcome in each]
        provider.close()
    for letter, outcome in zip(letters, outcomes, strict=True):
        if letter.lead_id in refused:
            assert outcome == Refused("550 5.1.1 No such mailbox")
        else:
            assert isinstance(outcome, Accepted) and outcome.ref.startswith("Q")
    arrived = set()
    for sender, recipients, message in mailbox.received:
        parsed = message_from_bytes(message)  # the older policy: it parses four times as fast
        letter = letters[int(parsed["X-Millrace-Lead"]) - 1]
        assert letter.lead_id not in arrived
        arrived.add(letter.lead_id)
        assert (sender, recipients, parsed["To"]) == ("news@example.com", [letter.address], letter.address)
        assert str(make_header(decode_header(parsed["Subject"]))) == f"Für {letter.values[0]}: news"
        assert parsed["List-Unsubscribe"] == f"<https://mail.example.com/u/{letter.lead_id}>"
        text, html = (part.get_payload(decode=True).decode().replace("\r\n", "\n") for part in parsed.get_payload())
        assert (text, html) == (content.text.fill(letter.values), content.html.fill(letter.values))
    assert arrived == {letter.lead_id for letter in letters} - refused
    assert 2000 // 300 <= len(mailbox.sessions) <= 12


def test_every_recipient_gets_the_outcome_of_its_own_reply(mailbox: Mailbox) -> None:
    names = ["a", "gone", "b", "grey", "gone2", "spam", "full", "c", "gone3"]
    with serve(mailbox) as port:
        outcomes = send(f"smtp://127.0.0.1:{port}?tls=none", letters_to(*(f"{name}@example.com" for name in names)))
    assert [type(outcome) for outcome in outcomes] == [
        Accepted, Refused, Accepted, Deferred, Refused, Refused, Deferred, Accepted, Refused,
    ]  # fmt: skip
    assert outcomes[3] == Deferred("450 4.7.1 Greylisted, try again in 5 minutes")
    assert outcomes[5] == Refused("554 5.7.1 Looks like spam")
    assert sorted(to for _, [to], _ in mailbox.received) == sorted(
        f"{n}@example.com" for n in ("a", "b", "c", "spam", "full")
    )


def test_a_batch_that_ended_with_a_refusal_leaves_a_clean_connection(mailbox: Mailbox) -> None:
    with serve(mailbox) as port:
        provider = open_provider(f"smtp://127.0.0.1:{port}?tls=none&connections=1", deadline=5.0)
        for _ in range(3):
            outcomes = provider.send(batch_of(letters_to("a@example.com", "gone@example.com")))
            assert [type(outcome) for outcome in outcomes] == [Accepted, Refused]
        provider.close()
    assert mailbox.ehlos == 1


def test_a_connection_is_retired_after_its_messages(mailbox: Mailbox) -> None:
    with serve(mailbox) as port:
        outcomes = send(
            f"smtp://127.0.0.1:{port}?tls=none&messages=2", letters_to(*(f"a{n}@example.com" for n in range(5)))
        )
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert mailbox.ehlos == 3


def test_tls_from_the_first_byte(mailbox: Mailbox, authority: tuple[ssl.SSLContext, Path]) -> None:
    context, ca = authority
    with serve(mailbox, tls=context) as port:
        [outcome] = send(f"smtp://127.0.0.1:{port}?tls=tls&ca={ca}", letters_to("ada@example.com"))
    assert isinstance(outcome, Accepted)


def test_a_certificate_that_nobody_we_know_signed_stops_everything(mailbox: Mailbox, authority: Any) -> None:
    with secured(mailbox, authority) as url, pytest.raises(ProviderDown, match="certificate"):
        send(url.partition("?")[0], letters_to("ada@example.com"))
    assert mailbox.received == []


def test_a_certificate_for_another_host_stops_everything(mailbox: Mailbox, authority: Any) -> None:
    with secured(mailbox, authority) as url, pytest.raises(ProviderDown, match="certificate"):
        send(url.replace("127.0.0.1", "localhost"), letters_to("ada@example.com"))
    assert mailbox.received == []


def test_a_wrong_password_is_for_a_person_to_mend(mailbox: Mailbox, authority: Any) -> None:
    with secured(mailbox, authority) as url, pytest.raises(ProviderRefusesUs, match="535") as caught:
        send(url.replace("p%40ss", "wrong"), letters_to("ada@example.com"))
    assert "wrong" not in str(caught.value) + caught.value.raw


def test_a_missing_login_is_for_a_person_to_mend(mailbox: Mailbox, authority: Any) -> None:
    with secured(mailbox, authority) as url, pytest.raises(ProviderRefusesUs, match="530"):
        send(f"smtp://127.0.0.1:{url.partition('@127.0.0.1:')[2]}", letters_to("ada@example.com"))


def test_a_server_without_starttls_gets_no_letter_in_the_clear(mailbox: Mailbox) -> None:
    with serve(mailbox) as port, pytest.raises(ProviderRefusesUs, match="STARTTLS"):
        send(f"smtp://127.0.0.1:{port}", letters_to("ada@example.com"))
    assert mailbox.received == []


def test_plain_text_after_starttls_is_not_believed(authority: Any) -> None:
    """A machine in between may add replies of its own before the handshake (CVE-2011-0411)."""
    context, ca = authority

    def scene(connection: socket.socket) -> None:
        connection.sendall(b"220 peer ESMTP\r\n")
        connection.recv(1000)
        connection.sendall(b"250-peer\r\n250 STARTTLS\r\n")
        connection.recv(1000)
        connection.sendall(b"220 go\r\n250 injected\r\n")
        with context.wrap_socket(connection, server_side=True) as secure:
            while secure.recv(1000):
                secure.sendall(b"250 Ok\r\n")

    with peer(scene) as other, pytest.raises(ProviderDown, match="Plain text"):
        send(f"smtp://127.0.0.1:{other.port}?ca={ca}", letters_to("ada@example.com"))


def test_an_address_beyond_ascii_needs_a_server_that_takes_it(mailbox: Mailbox) -> None:
    letters = letters_to(
        "jürgen@example.com", "ada@example.com", "zoë@example.com", "gone@example.com", "åke@example.com"
    )
    with serve(mailbox, enable_SMTPUTF8=True) as port:
        outcomes = send(f"smtp://127.0.0.1:{port}?tls=none", letters)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, Accepted, Refused, Accepted]
    assert [to for _, [to], _ in mailbox.received] == [letters[at].address for at in (0, 1, 2, 4)]
    mailbox.received.clear()
    with serve(mailbox, enable_SMTPUTF8=False) as port:
        outcomes = send(f"smtp://127.0.0.1:{port}?tls=none", letters)
    assert [type(outcome) for outcome in outcomes] == [Refused, Accepted, Refused, Refused, Refused]
    assert [to for _, [to], _ in mailbox.received] == ["ada@example.com"]


def test_a_server_that_relays_nothing_for_us_is_not_the_addresses_fault(mailbox: Mailbox) -> None:
    with serve(mailbox) as port, pytest.raises(ProviderRefusesUs, match="Relay access denied"):
        send(f"smtp://127.0.0.1:{port}?tls=none", letters_to(*(f"relay{n}@example.com" for n in range(12))))


def test_many_truly_dead_addresses_are_refused_one_by_one(mailbox: Mailbox) -> None:
    with serve(mailbox) as port:
        outcomes = send(f"smtp://127.0.0.1:{port}?tls=none", letters_to(*(f"gone{n}@example.com" for n in range(12))))
    assert [type(outcome) for outcome in outcomes] == [Refused] * 12
