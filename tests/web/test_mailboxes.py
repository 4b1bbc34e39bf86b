"""Promises of a mailbox's form: it is tried before it is kept, its password stays inside, it reaches nobody there."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.flows import pools, returns
from app.providers.address import is_confined
from app.runtime import Runtime
from tests.providers.mailbox_peer import PASSWORD, USER, Mailbox, serving
from tests.test_smtp import authority
from tests.web.conftest import People, Visit
from tests.web.test_campaigns import words
from tests.web.test_pools import fault_of

__all__ = ["authority"]  # the fixture


@pytest.fixture
def pool_id(runtime: Runtime, people: People) -> int:
    return pools.add_pool(runtime, people.ours, "Own server", "smtp://mail.example.com:25?tls=none")


@pytest.fixture
def box() -> Mailbox:
    return Mailbox(b"From: somebody\r\n\r\nHello", b"From: MAILER-DAEMON\r\nSubject: no\r\n\r\nuser unknown")


@pytest.fixture(params=["imaps", "pop3s"])
def typed(
    request: pytest.FixtureRequest,
    box: Mailbox,
    authority: tuple[ssl.SSLContext, Path],
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, str]]:
    """What a person types for a mailbox on this machine, which the operator allows."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
    runtime.settings = replace(runtime.settings, private_providers=frozenset({"127.0.0.1"}))
    with serving(request.param, box, authority[0]) as port:
        yield {
            "protocol": request.param,
            "host": "127.0.0.1",
            "port": str(port),
            "user": USER,
            "password": PASSWORD,
            "folder": "INBOX",
        }


def stored(runtime: Runtime) -> list[Any]:
    with runtime.db.begin() as conn:
        return [runtime.vault.decrypt(url) for url in conn.execute(text("SELECT url FROM pool_mailbox")).scalars()]


def test_a_mailbox_is_opened_kept_read_and_shown(
    ann: Visit, runtime: Runtime, pool_id: int, typed: dict[str, str], box: Mailbox
) -> None:
    assert "dead addresses are mailed for ever" in ann.get(f"/pools/{pool_id}").text
    response = ann.post(f"/pools/{pool_id}/mailbox", typed, follow_redirects=True)
    assert "The mailbox opens: 2 messages are" in response.text
    assert len(box.messages) == 2 and not box.seen and box.logins == 1, "a try must touch nothing"
    assert is_confined(stored(runtime)[0])
    assert returns.read_due(runtime) == 2
    page = words(ann.get(f"/pools/{pool_id}").text)
    assert "0 reports about emails of ours 1 about others; 0 answers by machines and 1 other message" in page
    assert PASSWORD not in page and "p%40ss" not in page and USER not in page


def test_what_is_secret_never_comes_out_and_stays_where_it_is_left_empty(
    ann: Visit, runtime: Runtime, pool_id: int, typed: dict[str, str]
) -> None:
    ann.post(f"/pools/{pool_id}/mailbox", typed)
    page = ann.get(f"/pools/{pool_id}/mailbox").text
    assert PASSWORD not in page and f'value="{typed["port"]}"' in page and "what is stored stays" in page
    assert ann.post(f"/pools/{pool_id}/mailbox", {**typed, "password": "", "delete": "y"}).status_code == 302
    assert "p%40ss" in stored(runtime)[0]
    page = ann.post(f"/pools/{pool_id}/mailbox", {**typed, "password": "", "host": "mail.example.com"}).text
    assert fault_of(page, "password").startswith("Enter it again: what is stored was meant for another server")
    page = ann.post(f"/pools/{pool_id}/mailbox", {**typed, "password": "", "user": "somebody"}).text
    assert fault_of(page, "password").startswith("Enter it again")


def test_a_mailbox_that_does_not_open_is_not_kept(
    ann: Visit, runtime: Runtime, pool_id: int, typed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ann.post(f"/pools/{pool_id}/mailbox", {**typed, "password": "canary"})
    assert wrong.status_code == 422 and "The mail server refuses us" in wrong.text and "canary" not in wrong.text
    assert f'value="{USER}"' in wrong.text and "Enter it again" in wrong.text
    page = ann.post(f"/pools/{pool_id}/mailbox", {**typed, "port": "1"}).text
    assert "Connection refused" in fault_of(page, "host")
    monkeypatch.delenv("SSL_CERT_FILE")
    page = ann.post(f"/pools/{pool_id}/mailbox", typed).text
    assert "certificate" in fault_of(page, "host")
    assert stored(runtime) == []


def test_nobody_but_the_operator_names_a_mailbox_inside(
    ann: Visit, runtime: Runtime, pool_id: int, typed: dict[str, str], box: Mailbox
) -> None:
    runtime.settings = replace(runtime.settings, private_providers=frozenset())
    for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]"):
        page = ann.post(f"/pools/{pool_id}/mailbox", {**typed, "host": host}).text
        assert "no public address" in fault_of(page, "host")
    assert (stored(runtime), box.logins) == ([], 0)


def test_a_name_that_turns_private_is_not_connected_to(
    ann: Visit, runtime: Runtime, pool_id: int, typed: dict[str, str], box: Mailbox
) -> None:
    ann.post(f"/pools/{pool_id}/mailbox", typed)
    runtime.settings = replace(runtime.settings, private_providers=frozenset())  # as if the name meant another address
    before = box.logins
    assert returns.read_due(runtime) == 0
    assert "no public address" in ann.get(f"/pools/{pool_id}").text
    assert "no public address" in ann.post(f"/pools/{pool_id}/mailbox/check", follow_redirects=True).text
    assert box.logins == before


def test_the_operators_mailbox_stays_one_until_a_user_points_it_elsewhere(
    ann: Visit, runtime: Runtime, pool_id: int, typed: dict[str, str]
) -> None:
    user, password = "bounces%40example.com", "p%40ss%2Fw%3A%22rd"
    path = "/INBOX" if typed["protocol"] == "imaps" else ""
    returns.set_mailbox(runtime, pool_id, f"{typed['protocol']}://{user}:{password}@127.0.0.1:{typed['port']}{path}")
    runtime.settings = replace(runtime.settings, private_providers=frozenset())
    assert ann.post(f"/pools/{pool_id}/mailbox", {**typed, "password": ""}).status_code == 302
    assert not is_confined(stored(runtime)[0])
    assert ann.post(f"/pools/{pool_id}/mailbox", {**typed, "port": "22"}).status_code == 422


def test_it_is_checked_read_soon_and_removed(
    ann: Visit, runtime: Runtime, pool_id: int, typed: dict[str, str], box: Mailbox
) -> None:
    ann.post(f"/pools/{pool_id}/mailbox", typed)
    assert returns.read_due(runtime) == 2
    assert returns.read_due(runtime) == 0
    assert "is read within seconds" in ann.post(f"/pools/{pool_id}/mailbox/read", follow_redirects=True).text
    logins = box.logins
    returns.read_due(runtime)
    assert box.logins == logins + 1
    assert "The mailbox opens" in ann.post(f"/pools/{pool_id}/mailbox/check", follow_redirects=True).text
    assert "read no more" in ann.post(f"/pools/{pool_id}/mailbox/remove", follow_redirects=True).text
    assert stored(runtime) == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("protocol", "http", "Choose one of those"),
        ("host", "", "This must be a host"),
        ("host", "a b", "This must be a host"),
        ("host", "x/../y", "This must be a host"),
        ("port", "0", "This must be a number"),
        ("port", "999999", "This must be a number"),
        ("port", "12x", "This must be a number"),
        ("user", "", "A mailbox needs its user"),
        ("user", "ü", "characters of ASCII"),
        ("password", "", "needs its password"),
        ("password", "a\r\nDELETE", "characters of ASCII"),
        ("folder", 'x"y', "can have letters, digits"),
    ],
)
def test_a_faulty_field_is_named_and_what_was_typed_stays(
    ann: Visit, runtime: Runtime, pool_id: int, field: str, value: str, said: str
) -> None:
    typed = {"protocol": "imaps", "host": "imap.example.com", "user": "canary-user", "password": "x", "folder": "In"}
    response = ann.post(f"/pools/{pool_id}/mailbox", {**typed, field: value})
    assert response.status_code == 422
    assert said in fault_of(response.text, field)
    if field != "user":
        assert 'value="canary-user"' in response.text
    assert stored(runtime) == []


@pytest.mark.parametrize("path", ["", "/check", "/read", "/remove"])
def test_a_mailbox_is_for_admins_of_its_own_organisation(
    eve: Visit, bob: Visit, ann: Visit, runtime: Runtime, pool_id: int, people: People, path: str
) -> None:
    assert eve.post(f"/pools/{pool_id}/mailbox{path}").status_code == 404
    assert bob.post(f"/pools/{pool_id}/mailbox{path}").status_code == 403
    other = pools.add_pool(runtime, people.ours, "Sink", "sink+http://127.0.0.1:9")
    assert ann.post(f"/pools/{other}/mailbox{path}").status_code == 404  # its bounces come by webhooks
