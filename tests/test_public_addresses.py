"""Addresses that users type: only what the whole internet reaches is connected to, whatever a name says later."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from app.config import EVERYWHERE
from app.errors import ProviderDown, ProviderRefusesUs
from app.providers import public
from app.providers.http import Http
from app.providers.public import is_public, resolve_public, resolver
from app.providers.smtp_line import Login, open_line
from app.uptime import uptime

PRIVATE = (
    "0.0.0.0",  # noqa: S104 - only judged
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%lo",
    "2a00:1450::1%1",
    "fec0::1",
    "ff02::1",
    "100::1",
    "",
    "example.com",
)
PUBLIC = (
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_only_some_networks_reach_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_that_the_whole_internet_reaches_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "::1", "::ffff:127.0.0.1", "0"]
)
def test_this_machine_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(ProviderRefusesUs, match="MILLRACE_PRIVATE_PROVIDERS"):
        resolve_public(host, 443, uptime() + 5)


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _names(["93.184.215.14", "10.0.0.1"]))
    with pytest.raises(ProviderRefusesUs, match=r"10\.0\.0\.1"):
        resolve_public("both.example.com", 443, uptime() + 5)


def test_a_name_that_nobody_knows_passes_by_itself() -> None:
    with pytest.raises(ProviderDown):
        resolve_public("nobody.invalid", 443, uptime() + 5)


def test_an_operator_allows_hosts_by_name_or_all() -> None:
    assert resolver("gateway.internal", {"other.internal"}) is resolve_public
    assert resolver("Gateway.internal", {"gateway.internal"}) is None
    assert resolver("anything", {EVERYWHERE}) is None


def test_a_call_to_a_private_address_never_leaves() -> None:
    with _listening() as (port, calls):
        http = Http(f"http://localhost:{port}/x", resolve=resolve_public)
        with pytest.raises(ProviderRefusesUs, match="no public address"):
            http.post(b"{}", (), uptime() + 2)
        assert calls() == 0


@pytest.mark.parametrize("tls", ["none", "starttls", "tls"])
def test_an_smtp_connection_to_a_private_address_is_never_made(tls: str) -> None:
    with _listening() as (port, calls):
        login = Login("localhost", port, tls, "", "", "[127.0.0.1]", resolve_public)
        with pytest.raises(ProviderRefusesUs, match="no public address"):
            open_line(login, None, uptime() + 2)
        assert calls() == 0


def test_the_connection_goes_to_the_address_that_was_judged_and_no_name_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the second answer of a name would be this machine, and nobody asks for it."""
    with _listening() as (port, calls):
        asked: list[str] = []

        def judged(host: str, port: int, until: float) -> list[str]:
            asked.append(host)
            return ["127.0.0.2", "127.0.0.1"] if host == "rebinds.example.com" else []

        monkeypatch.setattr(socket, "getaddrinfo", _only_numbers(socket.getaddrinfo))
        http = Http(f"http://rebinds.example.com:{port}/x", resolve=judged)
        answer = http.get("", (), uptime() + 5)
        assert (answer.status, asked, calls()) == (204, ["rebinds.example.com"], 1)
        http.close()


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Name servers that say nothing until they are told to."""
    answers = threading.Event()

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        answers.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answers
    answers.set()


def test_a_name_that_nobody_answers_for_costs_a_call_no_more_than_its_time(nobody_answers: threading.Event) -> None:
    http = Http("http://slow.example.com/x")
    login = Login("slow.example.com", 25, "none", "", "", "[127.0.0.1]")
    for act in (
        lambda until: resolve_public("slow.example.com", 443, until),
        lambda until: http.get("", (), until),
        lambda until: open_line(login, None, until),
    ):
        begun = uptime()
        with pytest.raises(ProviderDown, match="no name server answered in time"):
            act(begun + 0.3)
        assert uptime() - begun < 1.0


def test_names_that_nobody_answers_for_hold_no_endless_number_of_threads(nobody_answers: threading.Event) -> None:
    def ask(_: int) -> str:
        with pytest.raises(ProviderDown) as down:
            resolve_public("slow.example.com", 443, uptime() + 0.5)
        return str(down.value)

    with ThreadPoolExecutor(public.MOST_LOOK_UPS + 8) as threads:
        said = list(threads.map(ask, range(public.MOST_LOOK_UPS + 8)))
    assert sum("was not looked up in time" in each for each in said) == 8
    nobody_answers.set()  # and they come back
    assert resolve_public("slow.example.com", 443, uptime() + 5) == ["93.184.215.14"]


def test_an_address_in_numbers_is_not_looked_up(nobody_answers: threading.Event) -> None:
    assert resolve_public("93.184.215.14", 443, uptime() + 0.2) == ["93.184.215.14"]


def _names(addresses: list[str]) -> Callable[..., list[Any]]:
    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    return getaddrinfo


def _only_numbers(real: Callable[..., Any]) -> Callable[..., Any]:
    def getaddrinfo(host: str, *arguments: Any, **named: Any) -> Any:
        assert host[0].isdigit(), f"{host} was resolved once more"
        return real(host, *arguments, **named)

    return getaddrinfo


@contextmanager
def _listening() -> Iterator[tuple[int, Callable[[], int]]]:
    """A server on this machine that answers 204; its port, and how many connections were made to it."""
    taken = [0]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                taken[0] += 1
                with line:
                    line.recv(4096)
                    line.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], lambda: taken[0]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
