"""Signed links and encrypted credentials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError
from app.message_ids import FIRST, NUMBER_BITS, from_public, to_public
from app.signing import ReturnTokens, Signer, TrackingTokens, Vault

KEY = "a key for tests, known to everybody"
OTHER = "another key, that somebody else has"


LEADS = st.integers(1, FIRST - 1)
# of the minutes from today until the year 2051
MESSAGES = st.builds(
    lambda minute, number: minute << NUMBER_BITS | number, st.integers(3_600_000, 2**24 - 1), st.integers(0, 2**34 - 1)
)


@given(LEADS, st.integers(1, 2**31 - 1))
def test_a_token_says_which_lead_and_which_campaign(lead_id: int, campaign_id: int) -> None:
    token = Signer(KEY).unsubscribe_token(lead_id, campaign_id)
    assert Signer(KEY).read_unsubscribe(token) == (lead_id, campaign_id)


@given(MESSAGES, st.integers(1, 2**30 - 1))
def test_a_token_says_which_message_and_which_stream(message_id: int, campaign_id: int) -> None:
    token = Signer(KEY).message_token(message_id, campaign_id)
    assert Signer(KEY).read_unsubscribe(token) == (message_id, campaign_id)
    tracking = TrackingTokens(KEY)
    assert tracking.read(tracking.signer(campaign_id)(message_id)) == (message_id, campaign_id)


@given(st.one_of(LEADS, MESSAGES), st.integers(1, 2**38 - 1))
def test_a_return_address_says_which_email_of_a_lead_or_a_message(number: int, handoff_id: int) -> None:
    token = ReturnTokens(KEY).token(handoff_id, number)
    assert len(token) == 40
    assert ReturnTokens(OTHER, KEY).find(token.encode()) == [(handoff_id, number)]


@given(MESSAGES)
def test_a_public_id_gives_its_message_and_no_other_text_does(message_id: int) -> None:
    public = to_public(message_id)
    assert len(public) == 15
    assert from_public(public) == message_id
    assert from_public(public[:-1]) is None
    assert from_public(public.lower()) != message_id or public.lower() == public


def test_a_token_is_short_and_needs_no_quoting_in_a_link() -> None:
    token = Signer(KEY).unsubscribe_token(FIRST - 1, 2**31 - 1)
    assert len(token) == 32
    assert token.replace("-", "").replace("_", "").isalnum()


def test_a_token_with_any_one_character_changed_is_refused() -> None:
    signer = Signer(KEY)
    token = signer.unsubscribe_token(123456, 78)
    for place, was in enumerate(token):
        forged = token[:place] + ("A" if was != "A" else "B") + token[place + 1 :]
        assert signer.read_unsubscribe(forged) is None


@pytest.mark.parametrize("token", ["", "A" * 31, "A" * 33, "A" * 32, "é" * 32, "+" * 32, "A" * 31 + "\n", "=" * 32])
def test_what_was_never_a_token_is_refused(token: str) -> None:
    assert Signer(KEY).read_unsubscribe(token) is None


def test_a_token_of_another_secret_key_is_refused() -> None:
    token = Signer(OTHER).unsubscribe_token(1, 1)
    assert Signer(KEY).read_unsubscribe(token) is None


def test_links_sent_before_the_secret_key_was_changed_still_work() -> None:
    token = Signer(OTHER).unsubscribe_token(5, 6)
    assert Signer(KEY, OTHER).read_unsubscribe(token) == (5, 6)


def test_the_vault_gives_back_what_was_put_in_and_shows_nothing_of_it() -> None:
    url = "smtp://user:hunter2@mail.example.com:587"
    secret = Vault(KEY).encrypt(url)
    assert Vault(KEY).decrypt(secret) == url
    assert b"hunter2" not in secret
    assert Vault(KEY).encrypt(url) != secret


def test_the_vault_of_another_key_says_what_to_do() -> None:
    secret = Vault(OTHER).encrypt("smtp://mail.example.com")
    with pytest.raises(ConfigError, match="SECRET_KEY"):
        Vault(KEY).decrypt(secret)
    assert Vault(KEY, OTHER).decrypt(secret) == "smtp://mail.example.com"


def test_each_purpose_has_a_key_of_its_own() -> None:
    signer, vault = Signer(KEY), Vault(KEY)
    with pytest.raises(ConfigError):
        vault.decrypt(signer.unsubscribe_token(1, 1).encode())
