"""SMTP servers that hang up, stall, throttle or lie, each judged by what is certain (a scripted peer answers)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs
from app.mail import Accepted, Outcome, Refused, Unsure
from app.providers import open_provider, smtp_line
from tests.provider_peers import Scene, batch_of, letters_to, peer

HANG_UP = "hang up"
SILENCE = "silence"


@dataclass
class Server:
    """A mail server on one connection. Replies are looked up by the command's beginning, then by its verb.

    `replies` values are a reply, HANG_UP or SILENCE; `content` says what follows the n-th content on this server.
    """

    replies: dict[str, str] = field(default_factory=dict)
    content: Callable[[int], str] = lambda number: "250 2.0.0 Ok: queued as A1B2C3D4"
    pipelining: bool = True
    greeting: str = "220 peer ESMTP"
    taken: list[bytes] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)
    contents: int = 0

    def __call__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.inbox = b""
        if not self.say(self.greeting):
            return
        while (line := self.read_line()) is not None:
            command = line.decode().upper()
            reply = next((text for start, text in self.replies.items() if command.startswith(start.upper())), None)
            if reply is None:
                reply = self.usual(command)
            if not self.say(reply):
                return
            if command.startswith("DATA") and reply.startswith("354") and not self.read_content():
                return

    def usual(self, command: str) -> str:
        match command.split(" ")[0]:
            case "EHLO":
                return "250-peer\r\n250-PIPELINING\r\n250 8BITMIME" if self.pipelining else "250 peer"
            case "DATA":
                return "354 Go on"
            case "QUIT":
                return "221 Bye"
            case _:
                return "250 2.1.0 Ok"

    def say(self, reply: str) -> bool:
        if reply == SILENCE:
            time.sleep(1.0)
            return False
        if reply == HANG_UP:
            return False
        self.connection.sendall(reply.encode() + b"\r\n")
        return not reply.startswith("421")

    def read_line(self) -> bytes | None:
        while b"\r\n" not in self.inbox:
            piece = self.connection.recv(65536)
            if not piece:
                return None
            self.groups.append([line[:4].decode("latin-1").upper() for line in piece.split(b"\r\n")[:-1]])
            self.inbox += piece
        line, _, self.inbox = self.inbox.partition(b"\r\n")
        return line

    def read_content(self) -> bool:
        lines: list[bytes] = []
        while (line := self.read_line()) != b".":
            if line is None:
                return False
            lines.append(line)
        self.contents += 1
        reply = self.content(self.contents)
        if reply.startswith("250") and lines:
            self.taken.append(b"\r\n".join(lines))
        return self.say(reply)


def letters(number: int) -> list:
    return letters_to(*(f"a{n}@example.com" for n in range(1, number + 1)))


def send(number: int, *scenes: Scene, deadline: float = 5.0, options: str = "") -> list[Outcome]:
    with peer(*scenes) as other:
        provider = open_provider(f"smtp://127.0.0.1:{other.port}?tls=none{options}", deadline=deadline)
        try:
            return provider.send(batch_of(letters(number)))
        finally:
            provider.close()


def kinds(outcomes: list[Outcome]) -> str:
    return "".join(type(outcome).__name__[0] for outcome in outcomes)


@pytest.mark.parametrize(
    ("server", "meaning"),
    [
        (Server(greeting="421 too busy"), ProviderDown),
        (Server(greeting="451 try later"), ProviderDown),
        (Server(greeting="554 no service for you"), ProviderRefusesUs),
        (Server(greeting=HANG_UP), ProviderDown),
        (Server(greeting="HTTP/1.1 400 Bad Request"), ProviderDown),
        (Server({"EHLO": "421 closing"}), ProviderDown),
        (Server({"EHLO": HANG_UP}), ProviderDown),
        (Server({"MAIL": "421 closing"}), ProviderDown),
        (Server({"MAIL": "454 Throttling failure: Maximum sending rate exceeded"}), ProviderDown),
        (Server({"MAIL": "451 4.3.0 busy"}), ProviderDown),
        (Server({"MAIL": "550 5.7.1 Sender not verified"}), ProviderRefusesUs),
        (Server({"MAIL": "530 5.7.0 Authentication required"}), ProviderRefusesUs),
        (Server({"RCPT": "530 5.7.0 Authentication required"}), ProviderRefusesUs),
        (Server({"RCPT": "454 Throttling failure: Daily message quota exceeded"}), ProviderDown),
        (Server({"RCPT": HANG_UP}), ProviderDown),
        (Server({"DATA": HANG_UP}), ProviderDown),
        (Server({"DATA": "421 closing"}), ProviderDown),
        (Server({"DATA": "250 what?"}), ProviderDown),
        (Server(content=lambda number: "454 Throttling failure"), ProviderDown),
    ],
)
@pytest.mark.parametrize("pipelining", [False, True])
def test_before_any_letter_was_taken_the_whole_batch_waits_or_a_person_is_asked(
    server: Server, meaning: type[ProviderError], pipelining: bool
) -> None:
    server.pipelining = pipelining
    with pytest.raises(ProviderError) as caught:
        send(3, server)
    assert type(caught.value) is meaning
    assert server.taken == []


def test_nobody_listening_means_that_nothing_left_us() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderDown):
        open_provider(f"smtp://127.0.0.1:{port}?tls=none", deadline=2.0).send(batch_of(letters(2)))


@pytest.mark.parametrize("pipelining", [False, True])
@pytest.mark.parametrize("fate", [HANG_UP, "354 again?", "what?"])
def test_a_lost_answer_to_the_content_leaves_that_letter_unknown_and_no_other(fate: str, pipelining: bool) -> None:
    breaking = Server(content=lambda number: fate if number == 2 else "250 Ok", pipelining=pipelining)
    outcomes = send(5, breaking, after := Server(pipelining=pipelining))
    assert kinds(outcomes) == "AUAAA"
    assert [len(breaking.taken), len(after.taken)] == [1, 3]


@pytest.mark.parametrize("pipelining", [False, True])
def test_a_connection_that_breaks_amid_the_content_leaves_that_letter_unknown(pipelining: bool) -> None:
    def breaking(connection: socket.socket) -> None:
        server = Server(pipelining=pipelining, content=lambda number: "250 Ok")
        server.read_content = lambda: False  # type: ignore[method-assign]
        server(connection)

    assert kinds(send(3, breaking, Server(pipelining=pipelining))) == "UAA"


def test_a_server_that_always_breaks_costs_two_letters_not_a_batch() -> None:
    outcomes = send(50, Server(content=lambda number: HANG_UP))
    assert kinds(outcomes) == "UU" + "D" * 48


def test_a_server_that_says_421_after_the_content_has_not_taken_it() -> None:
    outcomes = send(4, Server(content=lambda number: "421 shutting down" if number == 2 else "250 Ok"), Server())
    assert kinds(outcomes) == "ADAA"


def test_a_server_that_closes_between_letters_is_called_again() -> None:
    closing = Server({"RCPT TO:<a3": "421 4.7.0 too many messages on this connection"})
    outcomes = send(5, closing, after := Server())
    assert kinds(outcomes) == "AAAAA"
    assert [len(closing.taken), len(after.taken)] == [2, 3]


def test_throttling_amid_a_batch_puts_the_rest_off_at_once() -> None:
    server = Server(content=lambda number: "454 Throttling failure" if number == 3 else "250 Ok")
    outcomes = send(6, server)
    assert kinds(outcomes) == "AADDDD"
    assert server.contents == 3


@pytest.mark.parametrize("pipelining", [False, True])
def test_each_reply_belongs_to_its_own_letter(pipelining: bool) -> None:
    server = Server(
        {"RCPT TO:<a2": "550 5.1.1 gone", "RCPT TO:<a4": "451 4.7.1 greylisted", "RCPT TO:<a5": "550 5.1.1 gone"},
        content=lambda number: "552 5.3.4 too big" if number == 1 else "250 2.0.0 Ok: queued as X1",
        pipelining=pipelining,
    )
    outcomes = send(6, server)
    assert kinds(outcomes) == "RRADRA"
    assert server.contents == (6 if pipelining else 3)  # it says 354 even without a recipient: a lone dot answers
    assert [b"X-Millrace-Lead: %d" % lead in each for lead, each in zip((3, 6), server.taken, strict=True)] == [
        True
    ] * 2


def test_pipelining_costs_one_round_trip_a_letter() -> None:
    server = Server()
    assert kinds(send(4, server)) == "AAAA"
    commands = [group for group in server.groups if "RCPT" in group]
    assert all(group[-3:] == ["MAIL", "RCPT", "DATA"] for group in commands)
    assert len(commands) == 4


def test_without_pipelining_every_command_waits_for_its_reply() -> None:
    server = Server(pipelining=False)
    assert kinds(send(3, server)) == "AAA"
    assert [group for group in server.groups if "MAIL" in group or "RCPT" in group] == [["MAIL"], ["RCPT"]] * 3


def test_a_server_that_drips_its_reply_ends_at_the_deadline() -> None:
    def drip(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(b"2")
            time.sleep(0.02)

    started = time.monotonic()
    with pytest.raises(ProviderDown):
        send(2, drip, deadline=0.4)
    assert time.monotonic() - started < 1.0


def test_a_reply_without_end_is_not_read() -> None:
    def endless(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"220-" + b"x" * 60_000)

    with pytest.raises(ProviderDown, match="endless"):
        send(2, endless)


def test_a_silent_server_ends_at_the_deadline_with_one_letter_unknown() -> None:
    started = time.monotonic()
    outcomes = send(5, Server(content=lambda number: SILENCE if number == 3 else "250 Ok"), deadline=0.5)
    assert kinds(outcomes) == "AAUDD"
    assert time.monotonic() - started < 2.0


def test_when_every_connection_is_busy_a_batch_waits_and_then_comes_back_later() -> None:
    def slow(number: int) -> str:
        time.sleep(0.5)
        return "250 Ok"

    with peer(Server(content=slow)) as other:
        provider = open_provider(f"smtp://127.0.0.1:{other.port}?tls=none&connections=1", deadline=5.0)
        with ThreadPoolExecutor(1) as calls:
            first = calls.submit(provider.send, batch_of(letters(2)))
            time.sleep(0.1)
            provider.deadline = 0.2
            with pytest.raises(ProviderDown, match="busy"):
                provider.send(batch_of(letters(1)))
            assert kinds(first.result()) == "AA"
        provider.close()


def test_a_stale_connection_is_replaced_and_no_letter_suffers() -> None:
    with peer(Server()) as other:
        provider = open_provider(f"smtp://127.0.0.1:{other.port}?tls=none", deadline=5.0)
        assert kinds(provider.send(batch_of(letters(2)))) == "AA"
        other.open[0].shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)
        assert kinds(provider.send(batch_of(letters(2)))) == "AA"
        assert other.connections == 2
        provider.close()


@pytest.mark.parametrize(
    ("reply", "ref"),
    [
        ("250 2.0.0 Ok: queued as 4XyZ12abc", "4XyZ12abc"),
        ("250 Ok 0102018f-aaaa-bbbb-000000", "0102018f-aaaa-bbbb-000000"),
        ("250 OK id=1qAbCd-0001", "1qAbCd-0001"),
        ("250 2.0.0 OK", "<3.1.1.0190c7b23f60@example.com>"),
    ],
)
def test_a_server_s_own_id_is_kept_and_ours_where_it_has_none(reply: str, ref: str) -> None:
    assert send(1, Server(content=lambda number: reply)) == [Accepted(ref)]


def test_a_connection_that_was_idle_for_long_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(Server()) as other:
        provider = open_provider(f"smtp://127.0.0.1:{other.port}?tls=none", deadline=5.0)
        provider.send(batch_of(letters(1)))
        provider.send(batch_of(letters(1)))
        assert other.connections == 1
        monkeypatch.setattr(smtp_line, "IDLE", 0.0)
        provider.send(batch_of(letters(1)))
        assert other.connections > 1
        provider.close()


def test_letters_that_cannot_be_written_do_not_reach_the_server() -> None:
    server = Server()
    with peer(server) as other:
        provider = open_provider(f"smtp://127.0.0.1:{other.port}?tls=none", deadline=5.0)
        addresses = ("a@example.com", "b@example.com\r\nRCPT TO:<eve@example.com>", "c@example.com")
        outcomes = provider.send(batch_of(letters_to(*addresses)))
        provider.close()
    assert [type(outcome) for outcome in outcomes] == [Accepted, Refused, Accepted]
    assert b"eve@" not in b"".join(server.taken)


def test_an_unsure_letter_says_why() -> None:
    [outcome] = send(1, Server(content=lambda number: HANG_UP))
    assert isinstance(outcome, Unsure) and "lost" in outcome.reason
