"""Addresses: the fast path accepts nothing that email-validator refuses, and each has one form."""

from __future__ import annotations

import pytest
from email_validator import validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from app.addresses import match_plain, read_address
from app.errors import Invalid

# Mostly what the fast path may accept, now and then what it must not.
LOCAL = st.text("abxz09!#$%&'*+-/=?^_`{|}~..@é\x00\n ", min_size=1, max_size=66)
LABEL = st.text("abz09-", min_size=1, max_size=64) | st.sampled_from(["xn--bcher-kva", "a--b", "ab--c", "-", "é", ""])
ENDING = st.sampled_from(
    ["com", "de", "test", "invalid", "local", "localhost", "onion", "arpa", "example", "c0m", "xn--p1ai", "x", "museum"]
)
ADDRESSES = st.builds(
    lambda local, labels, ending: f"{local}@{'.'.join([*labels, ending])}",
    LOCAL,
    st.lists(LABEL, max_size=4),
    ENDING,
)


@given(ADDRESSES)
@settings(max_examples=1000, deadline=None)
def test_all_that_the_fast_path_accepts_email_validator_accepts_as_it_is(address: str) -> None:
    plain = match_plain(address)
    if plain:
        found = validate_email(address, allow_smtputf8=False, check_deliverability=False, strict=True)
        assert found.ascii_email == address
        assert found.ascii_domain == plain[1]


@pytest.mark.parametrize(
    ("raw", "email", "domain"),
    [
        (" Anna@Example.COM\t", "anna@example.com", "example.com"),
        ("a.b+c@x--y.de", "a.b+c@x--y.de", "x--y.de"),
        ("info@BÜCHER.de", "info@xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("info@xn--bcher-kva.de", "info@xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("o'brien@example.co.uk", "o'brien@example.co.uk", "example.co.uk"),
        ("a@1.example", "a@1.example", "1.example"),
    ],
)
def test_an_address_has_one_form(raw: str, email: str, domain: str) -> None:
    assert read_address(raw) == (email, domain)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "anna",
        "anna@localhost",
        "anna@example.test",
        "anna@-x.de",
        "a..b@x.de",
        "anna@x.de, ben@x.de",
        "Anna <anna@x.de>",
        '"a b"@x.de',
        "anna@[127.0.0.1]",
        "ánna@x.de",
        "\u212a@x.de",  # the Kelvin sign: in small letters it would be a k
        "a@b.de\r\nBcc: c@d.de",
        "a\x00@x.de",
        "a" * 65 + "@x.de",
        "a@" + "x" * 64 + ".de",
        "a@" + ".".join(["x" * 60] * 5) + ".de",
        "@" * 100_000,
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(raw: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_address(raw)
    assert refused.value.faults[0].pointer == "email"
    assert refused.value.faults[0].message.endswith(".")
