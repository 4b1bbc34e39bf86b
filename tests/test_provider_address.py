"""A pool's URL: what is accepted, what is refused with a sentence, and what is shown of it."""

from __future__ import annotations

import pytest

from app.errors import Invalid
from app.providers import check, open_provider, shown
from app.providers.smtp import SmtpAccount


@pytest.mark.parametrize(
    "url",
    [
        "sink+http://127.0.0.1:9025",
        "sink+http://[::1]:9025?batch=10&idempotent=86400",
        "sink+https://sink.example.com",
        "smtp://user:p%40ss@mail.example.com:587",
        "smtp://user:pass@mail.example.com:465?connections=8&messages=50&helo=mail.example.com",
        "smtp://127.0.0.1:2525?tls=none",
        "SMTP://user:pass@mail.example.com?tls=tls",
    ],
)
def test_a_good_url_opens_without_anybody_listening(url: str) -> None:
    check(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must begin with"),
        ("mail.example.com", "must begin with"),
        ("ftp://mail.example.com", "must begin with"),
        ("smtp://", "needs a host"),
        ("smtp://host:99999", "no URL"),
        ("smtp://user:secret@host name:25", "needs a host"),
        ("smtp://user:secret@host\r\nBcc:25", "no URL|needs a host"),
        ("smtp://user:secret@host?tls=maybe", "one of starttls"),
        ("smtp://user:secret@host?connections=0", "whole number"),
        ("smtp://user:secret@host?connections=4&connections=5", "twice"),
        ("smtp://user:secret@host?retries=5", "unknown"),
        ("smtp://user:secret@host?ca=/no/such/file", "PEM"),
        ("ses://AKIA:secret@email.eu-west-1.amazonaws.com?%74oken=secret", "without %"),
        ("smtp://user:secret@host/path", "no path"),
        ("smtp://user@host", "needs a password"),
        ("smtp://user:secrét@host", "ASCII"),
        ("smtp://user:secret@host:25?tls=none", "readable"),
        ("smtp://user:secret@host?helo=a%0d%0ab", "EHLO"),
        ("sink+http://user:secret@host", "neither users"),
        ("sink+http://host/send", "neither users"),
    ],
)
def test_a_bad_url_is_refused_with_a_sentence_that_keeps_the_secret(url: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        check(url)
    assert [fault.pointer for fault in caught.value.faults] == ["url"]
    assert "secr" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("smtp://user:p%40ss@mail.example.com:587?tls=tls", "smtp://mail.example.com:587?tls=tls"),
        ("smtp://key:key@[::1]:25", "smtp://[::1]:25"),
        ("smtp://user:p@ss@host", "smtp://host"),
        ("sink+http://127.0.0.1:9025", "sink+http://127.0.0.1:9025"),
        ("secret", "(no URL)"),
        ("", "(no URL)"),
    ],
)
def test_what_is_shown_of_a_url_holds_neither_user_nor_password(url: str, without: str) -> None:
    assert shown(url) == without


def test_user_and_password_are_percent_decoded_and_never_printed() -> None:
    account = SmtpAccount.read("smtp://ada%40example.com:p%40ss%2Fword@mail.example.com:587")
    assert (account.login.user, account.login.password) == ("ada@example.com", "p@ss/word")
    assert "p@ss" not in repr(account) and "ada" not in repr(account)


@pytest.mark.parametrize(
    ("url", "tls", "port"),
    [
        ("smtp://host", "starttls", 587),
        ("smtp://host:465", "tls", 465),
        ("smtp://host:2525", "starttls", 2525),
        ("smtp://host?tls=tls", "tls", 465),
        ("smtp://localhost?tls=none", "none", 25),
    ],
)
def test_tls_and_port_follow_each_other(url: str, tls: str, port: int) -> None:
    login = SmtpAccount.read(url).login
    assert (login.tls, login.port) == (tls, port)


def test_capabilities_follow_the_options() -> None:
    assert open_provider("sink+http://host?batch=10&idempotent=60", deadline=1.0).capabilities.batch == 10
    assert open_provider("sink+http://host?idempotent=60", deadline=1.0).capabilities.idempotent_for == 60.0
    assert open_provider("smtp://host?batch=20", deadline=1.0).capabilities.batch == 20


def test_a_session_token_is_neither_shown_nor_said() -> None:
    url = "ses://id:secret@email.eu-west-1.amazonaws.com?token=canary%2Btoken-of-sixteen&configuration_set=news"
    check(url)
    assert shown(url) == "ses://email.eu-west-1.amazonaws.com?token=…&configuration_set=news"
    with pytest.raises(Invalid) as caught:
        check(url.replace("sixteen", "%0Asixteen"))
    assert "canary" not in str(caught.value)
