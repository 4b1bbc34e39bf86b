"""What kind of bounce an enhanced status code is."""

from __future__ import annotations

import pytest

from app.mail import Bounce
from app.providers.bounces import kind_of


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("550 5.1.1 no such user", Bounce.HARD),
        ("5.0.0", Bounce.HARD),
        ("552 5.2.2 mailbox full", Bounce.SOFT),
        ("5.2.1 disabled", Bounce.HARD),
        ("5.2.3", Bounce.BLOCKED),
        ("550 5.7.515 Access denied", Bounce.BLOCKED),
        ("4.7.28 rate limited", Bounce.SOFT),
        ("421 4.4.2 timeout", Bounce.SOFT),
        ("5.70.1", Bounce.HARD),
        ("5.2.22", Bounce.HARD),
        ("from 5.7.1.2 (not a code)", Bounce.HARD),
        ("rejected: 5.7.1.", Bounce.BLOCKED),
        ("rejected (5.7.1)", Bounce.BLOCKED),
        ("nothing", Bounce.HARD),
        ("", Bounce.HARD),
    ],
)
def test_the_code_decides_where_it_says_more_than_the_provider(said: str, kind: Bounce) -> None:
    assert kind_of(said, Bounce.HARD) is kind
