"""A provider's HTTP answers, faults and silences, each judged by what is certain (a scripted peer answers)."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Deferred, Refused, Unsure
from app.providers import open_provider
from app.providers.http import retry_after
from tests.provider_peers import Scene, batch_of, letters_to, peer

ONE = letters_to("ada@example.com")
GOOD = orjson.dumps({"results": [{"lead": 1, "status": "accepted", "id": "x-1"}]})


def read_request(connection: socket.socket) -> bytes:
    """The whole body of the next request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or _gone()
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536) or _gone()
    return body


def _gone() -> bytes:
    raise ConnectionError("the caller hung up")


def answer(status: int, body: bytes = b"{}", *headers: str) -> Scene:
    """Answers every request of a connection alike."""
    head = "".join(f"{header}\r\n" for header in headers)

    def scene(connection: socket.socket) -> None:
        while True:
            read_request(connection)
            connection.sendall(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{head}\r\n".encode() + body)

    return scene


def send(scene: Scene, letters: list = ONE, deadline: float = 5.0) -> list:
    with peer(scene) as other:
        provider = open_provider(f"sink+http://127.0.0.1:{other.port}", deadline=deadline)
        try:
            return provider.send(batch_of(letters))
        finally:
            provider.close()


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (429, ProviderDown),
        (503, ProviderDown),
        (408, ProviderDown),
        (401, ProviderRefusesUs),
        (403, ProviderRefusesUs),
        (404, ProviderRefusesUs),
        (301, ProviderRefusesUs),
        (308, ProviderRefusesUs),
        (409, ProviderUnsure),
        (500, ProviderUnsure),
        (502, ProviderUnsure),
        (504, ProviderUnsure),
    ],
)
def test_a_status_means_what_is_certain_about_it(status: int, meaning: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        send(answer(status, b'{"error": "why"}'))
    assert type(caught.value) is meaning
    assert "why" in caught.value.raw


def test_a_429_says_when_to_come_back() -> None:
    with pytest.raises(ProviderDown) as caught:
        send(answer(429, b"{}", "Retry-After: 30"))
    assert caught.value.retry_in == 30.0


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    assert retry_after({"retry-after": "7200"}) == 7200.0
    in_an_hour = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)})
    assert in_an_hour is not None and 3590 < in_an_hour <= 3600
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({}) is None
    assert [retry_after({"retry-after": value}) for value in ("", "soon", "-1", "1e9", "NaN")] == [None] * 5


def test_a_date_to_retry_after_is_read_by_the_providers_own_clock() -> None:
    theirs = {"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2015 07:38:00 GMT"}
    assert retry_after(theirs) == 600.0


def test_a_definite_refusal_of_one_letter_is_its_outcome() -> None:
    [outcome] = send(answer(422, b'{"error": "no such address"}'))
    assert isinstance(outcome, Refused) and "no such address" in outcome.reason


def refuse_calls_with(bad: set[int], seen: list[list[int]]) -> Scene:
    """An API that refuses a call as a whole for one bad address in it."""

    def scene(connection: socket.socket) -> None:
        while True:
            leads = [letter["lead"] for letter in orjson.loads(read_request(connection))["letters"]]
            seen.append(leads)
            results = [{"lead": lead, "status": "accepted", "id": f"x-{lead}"} for lead in leads]
            body = b"bad address" if bad & set(leads) else orjson.dumps({"results": results})
            status = 400 if bad & set(leads) else 200
            connection.sendall(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))

    return scene


@pytest.mark.parametrize("bad", [1, 17, 26, 50])
def test_one_bad_address_in_fifty_is_found_and_the_others_leave(bad: int) -> None:
    seen: list[list[int]] = []
    outcomes = send(refuse_calls_with({bad}, seen), letters_to(*(f"a{n}@example.com" for n in range(50))))
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [lead != bad for lead in range(1, 51)]
    assert isinstance(outcomes[bad - 1], Refused)
    assert len(seen) <= 1 + 12
    accepted = [lead for call in seen if bad not in call for lead in call]
    assert sorted(accepted) == sorted(set(accepted)) == [lead for lead in range(1, 51) if lead != bad]


def test_when_everybody_is_refused_our_account_is_blamed_and_no_audience_is_burnt() -> None:
    letters = letters_to(*(f"a{n}@example.com" for n in range(12)))
    with pytest.raises(ProviderRefusesUs, match="Every one of 12"):
        send(answer(400, b"the from address is not verified"), letters)


def test_a_timeout_is_never_halved() -> None:
    calls = 0

    def silent(connection: socket.socket) -> None:
        nonlocal calls
        read_request(connection)
        calls += 1
        time.sleep(0.6)

    with pytest.raises(ProviderUnsure):
        send(silent, letters_to("a@example.com", "b@example.com"), deadline=0.3)
    assert calls == 1


def test_a_lost_half_leaves_its_own_letters_unknown_and_no_others() -> None:
    def scene(connection: socket.socket) -> None:
        while True:
            leads = [letter["lead"] for letter in orjson.loads(read_request(connection))["letters"]]
            if leads == [3, 4]:
                return
            results = [{"lead": lead, "status": "accepted", "id": f"x-{lead}"} for lead in leads]
            body = orjson.dumps({"results": results})
            status = 400 if len(leads) == 4 else 200
            connection.sendall(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))

    outcomes = send(scene, letters_to(*(f"a{n}@example.com" for n in range(4))))
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, Unsure, Unsure]


def test_halves_past_the_deadline_are_put_off_not_lost() -> None:
    def slow(connection: socket.socket) -> None:
        while True:
            read_request(connection)
            time.sleep(0.25)
            connection.sendall(b"HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n")

    outcomes = send(slow, letters_to(*(f"a{n}@example.com" for n in range(8))), deadline=0.9)
    assert len(outcomes) == 8
    assert isinstance(outcomes[-1], Deferred) and "No time" in outcomes[-1].reason


def test_a_refused_connection_means_that_nothing_left_us() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    provider = open_provider(f"sink+http://127.0.0.1:{port}", deadline=2.0)
    with pytest.raises(ProviderDown):
        provider.send(batch_of(ONE))


def test_an_unknown_host_means_that_nothing_left_us() -> None:
    provider = open_provider("sink+http://no-such-host.invalid:9025", deadline=2.0)
    with pytest.raises(ProviderDown):
        provider.send(batch_of(ONE))


def test_a_failed_tls_handshake_means_that_nothing_left_us() -> None:
    def no_tls(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with peer(no_tls) as other:
        provider = open_provider(f"sink+https://127.0.0.1:{other.port}", deadline=2.0)
        with pytest.raises(ProviderDown):
            provider.send(batch_of(ONE))


def cut(reply: bytes) -> Scene:
    def scene(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(reply)

    return scene


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n",
        b'HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n{"results": [',
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
        b"220 mail.example.com ESMTP\r\n",
    ],
)
def test_a_reply_that_breaks_off_leaves_the_call_unknown(reply: bytes) -> None:
    with pytest.raises(ProviderUnsure):
        send(cut(reply))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>It works!</html>",
        b"[]",
        b"{}",
        b'{"results": 5}',
        b'{"results": []}',
        b'{"results": [{"lead": 2, "status": "accepted", "id": "x"}]}',
        b'{"results": [{"lead": 1, "status": "accepted", "id": "x"}, {"lead": 1, "status": "accepted", "id": "x"}]}',
        b"[" * 100_000,
        b'{"results": NaN}',
        b"\xff\xfe",
    ],
)
def test_a_reply_that_makes_no_sense_is_never_taken_for_sent(body: bytes) -> None:
    with pytest.raises(ProviderUnsure):
        send(answer(200, body))


def test_an_unknown_word_about_one_letter_leaves_that_letter_unknown() -> None:
    letters = letters_to("a@example.com", "b@example.com")
    results = [{"lead": 1, "status": "maybe"}, {"lead": 2, "status": "deferred", "reason": "busy"}]
    outcomes = send(answer(200, orjson.dumps({"results": results})), letters)
    assert isinstance(outcomes[0], Unsure)
    assert outcomes[1] == Deferred("busy")


def test_a_reply_in_another_order_is_never_taken_for_sent() -> None:
    results = [{"lead": lead, "status": "accepted", "id": "x"} for lead in (2, 1)]
    with pytest.raises(ProviderUnsure):
        send(answer(200, orjson.dumps({"results": results})), letters_to("a@example.com", "b@example.com"))


def test_a_reply_of_a_hundred_megabytes_is_not_read() -> None:
    written = 0

    def huge(connection: socket.socket) -> None:
        nonlocal written
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n")
        for _ in range(1600):
            connection.sendall(b" " * 65536)
            written += 65536

    with pytest.raises(ProviderUnsure):
        send(huge)
    assert written < 20 << 20


def drip(head: bytes, each: bytes) -> Scene:
    def scene(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        for _ in range(400):
            connection.sendall(each)
            time.sleep(0.05)

    return scene


@pytest.mark.parametrize(
    ("head", "each"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_reply_of_a_byte_at_a_time_ends_at_the_deadline(head: bytes, each: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(ProviderUnsure):
        send(drip(head, each), deadline=0.5)
    assert time.monotonic() - started < 1.0


def test_a_request_that_is_not_read_to_its_end_has_certainly_not_been_taken() -> None:
    def deaf(connection: socket.socket) -> None:
        connection.recv(1000)
        time.sleep(0.9)

    letter = letters_to("ada@example.com", values=("x" * 30_000_000,))
    started = time.monotonic()
    with pytest.raises(ProviderDown):
        send(deaf, letter, deadline=0.5)
    assert time.monotonic() - started < 1.5


def test_a_peer_that_hangs_up_amid_the_request_has_certainly_not_taken_it() -> None:
    letter = letters_to("ada@example.com", values=("x" * 30_000_000,))
    with pytest.raises(ProviderDown):
        send(lambda connection: connection.recv(1000) and None, letter)


def test_a_refusal_amid_the_request_is_heard() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    letter = letters_to("ada@example.com", values=("x" * 3_000_000,))
    with pytest.raises(ProviderRefusesUs):
        send(refuse, letter)


def test_connections_are_kept_and_a_stale_one_is_not_trusted() -> None:
    with peer(answer(200, GOOD)) as other:
        provider = open_provider(f"sink+http://127.0.0.1:{other.port}", deadline=5.0)
        for _ in range(3):
            assert provider.send(batch_of(ONE)) == [Accepted("x-1")]
        assert other.connections == 1
        for connection in other.open:
            connection.shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)
        assert provider.send(batch_of(ONE)) == [Accepted("x-1")]
        assert other.connections == 2
        provider.close()


def test_no_letters_make_no_call() -> None:
    assert open_provider("sink+http://127.0.0.1:1", deadline=1.0).send(batch_of([])) == []
