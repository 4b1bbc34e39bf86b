"""Mailboxes are strangers: one that drips, or says nothing, holds up neither us for long nor the others at all."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import text

from app.errors import ProviderDown
from app.flows import pools, returns
from app.providers import mail_line
from app.providers.mail_box import check_mailbox
from app.runtime import Runtime
from tests import world
from tests.provider_peers import peer
from tests.providers.mailbox_peer import PASSWORD, USER, Mailbox, serving
from tests.test_smtp import authority

__all__ = ["authority"]  # the fixture


def drip(connection: socket.socket) -> None:
    """A byte now and then, and never a whole line."""
    for _ in range(200):
        connection.sendall(b"x")
        time.sleep(0.05)


def silent(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("scheme", ["imap", "pop3"])
@pytest.mark.parametrize("scene", [drip, silent])
def test_a_server_that_does_not_come_to_an_end_is_cut_off(scheme: str, scene: object) -> None:
    with peer(scene) as other:  # type: ignore[arg-type]
        begun = time.monotonic()
        with pytest.raises(ProviderDown, match="cannot be read"):
            check_mailbox(f"{scheme}://a:b@127.0.0.1:{other.port}?tls=none", deadline=0.5)
        assert time.monotonic() - begun < 2.0


def test_mailboxes_are_read_side_by_side(
    runtime: Runtime, authority: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_line, "WAIT", 3.0)
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    boxes = [Mailbox(b"From: a\r\n\r\nHello") for _ in range(3)]

    def add(number: int, url: str) -> None:
        name = f"Pool {number}"
        pool_id = pools.add_pool(runtime, built.organisation_id, name, "smtp://mail.example.com:25?tls=none")
        returns.set_mailbox(runtime, pool_id, url)

    with peer(silent) as other:
        for number in range(returns.AT_ONCE - 1):
            add(number, f"imap://a:b@127.0.0.1:{other.port}?tls=none")
        good = serving("imaps", boxes[0], authority[0])
        with good as port:
            add(9, f"imaps://{quote(USER)}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}?ca={authority[1]}")
            begun = time.monotonic()
            assert returns.read_due(runtime) == 1
            assert time.monotonic() - begun < 5.0, "they wait for one another"
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM pool_mailbox WHERE failures = 1")).scalar_one() == 3


def test_a_mailbox_under_another_key_stops_no_other(runtime: Runtime, authority: tuple[ssl.SSLContext, Path]) -> None:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    for number in range(2):
        pool_id = pools.add_pool(runtime, built.organisation_id, f"P{number}", "smtp://mail.example.com:25?tls=none")
        returns.set_mailbox(runtime, pool_id, "imap://a:b@127.0.0.1:1?tls=none")
    with runtime.db.begin() as conn:
        conn.execute(
            text("UPDATE pool_mailbox SET url = '\\x00' WHERE pool_id = (SELECT min(pool_id) FROM pool_mailbox)")
        )
    assert returns.read_due(runtime) == 0
    with runtime.db.begin() as conn:
        failed = list(conn.execute(text("SELECT error FROM pool_mailbox ORDER BY pool_id")).scalars())
    assert "SECRET_KEY" in failed[0] and "Connection refused" in failed[1]
