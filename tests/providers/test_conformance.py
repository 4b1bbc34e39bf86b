"""What every provider promises, whatever its vendor: one suite, run against each vendor's peer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Refused
from app.providers import Provider, open_provider, shown
from app.providers.address import confined
from tests.provider_peers import KEY as CALL_KEY
from tests.provider_peers import batch_of, letters_to
from tests.providers import brevo_peer, mailgun_peer, postmark_peer, resend_peer, sendgrid_peer, ses_peer, sink_peer
from tests.providers.api_peer import ApiPeer, Reply, running
from tests.providers.vendor import BAD, KEY, Vendor

VENDORS = [
    sink_peer.VENDOR,
    brevo_peer.VENDOR,
    sendgrid_peer.VENDOR,
    mailgun_peer.VENDOR,
    postmark_peer.VENDOR,
    resend_peer.VENDOR,
    ses_peer.VENDOR,
]
THREE = ["ada@example.com", "grace@example.com", "mary@example.com"]

pytestmark = pytest.mark.parametrize("vendor", VENDORS, ids=str)


@contextmanager
def opened(vendor: Vendor, *, key: str = KEY, deadline: float = 5.0) -> Iterator[tuple[Provider, ApiPeer]]:
    with running(vendor.peer()) as peer:
        provider = open_provider(vendor.url(peer.host, key), deadline=deadline)
        try:
            yield provider, peer
        finally:
            provider.close()


def test_every_letter_has_an_outcome_and_an_id_of_its_own(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        outcomes = provider.send(batch_of(letters_to(*THREE)))
        assert len(peer.calls) == 1
    assert [type(outcome) for outcome in outcomes] == [Accepted] * 3
    assert all(outcome.ref for outcome in outcomes if isinstance(outcome, Accepted))


def test_a_bad_address_is_named_and_its_neighbours_are_sent(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        outcomes = provider.send(batch_of(letters_to(THREE[0], BAD, THREE[2])))
        assert len(outcomes) == 3
        if vendor.refuses:
            assert [type(outcome) for outcome in outcomes] == [Accepted, Refused, Accepted]
            assert len(peer.sent) == 2, "a good letter left twice, or not at all"


def test_a_call_larger_than_the_provider_takes_leaves_in_parts(vendor: Vendor) -> None:
    addresses = [f"lead{number}@example.com" for number in range(8)]
    with opened(vendor) as (provider, peer):
        if provider.capabilities.largest_call is None:
            return
        whole, least = (len(call_of(provider, peer, addresses[:letters])) for letters in (8, 2))
        provider.capabilities = replace(provider.capabilities, largest_call=(whole + least) // 2)
        peer.calls.clear()
        outcomes = provider.send(batch_of(letters_to(*addresses)))
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 8
        assert len(peer.calls) > 1
        assert max(len(call.body) for call in peer.calls) <= (whole + least) // 2


def call_of(provider: Provider, peer: ApiPeer, addresses: list[str]) -> bytes:
    provider.send(batch_of(letters_to(*addresses)))
    return bytes(peer.calls[-1].body)


def test_who_answers_for_each_letter_says_so(vendor: Vendor) -> None:
    with opened(vendor) as (provider, _):
        outcomes = provider.send(batch_of(letters_to(*THREE)))
        refs = {outcome.ref for outcome in outcomes if isinstance(outcome, Accepted)}
        assert len(refs) == (3 if provider.capabilities.own_answers else 1)


def test_no_letters_are_no_call(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        assert provider.send(batch_of([])) == []
        assert not peer.calls


NONSENSE = {
    "nothing": b"",
    "html": b"<html>Welcome</html>",
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "text": b'"ok"',
    "null in a list": b"[null]",
    "half": b'{"data":',
    "deep": b"[" * 100_000,
    "huge": b"x" * (2 << 20),
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_after_a_good_status_leaves_everything_unknown(vendor: Vendor, body: bytes) -> None:
    with opened(vendor) as (provider, peer):
        peer.script(Reply(vendor.ok, body))
        with pytest.raises(ProviderUnsure):
            provider.send(batch_of(letters_to(*THREE)))
        assert len(peer.calls) == 1


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_server_error_leaves_everything_unknown_and_is_not_repeated(vendor: Vendor, status: int) -> None:
    with opened(vendor) as (provider, peer):
        peer.script(Reply(status, b"{}"))
        with pytest.raises(ProviderUnsure):
            provider.send(batch_of(letters_to(*THREE)))
        assert len(peer.calls) == 1


def test_a_lost_reply_leaves_everything_unknown_and_is_not_repeated(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        peer.script(Reply(vendor.ok, cut=True))
        with pytest.raises(ProviderUnsure):
            provider.send(batch_of(letters_to(*THREE)))
        assert len(peer.calls) == 1


def test_the_deadline_is_kept(vendor: Vendor) -> None:
    with opened(vendor, deadline=0.3) as (provider, peer):
        peer.script(Reply(vendor.ok, b"{}", delay=1.0))
        begun = time.monotonic()
        with pytest.raises(ProviderUnsure):
            provider.send(batch_of(letters_to(*THREE)))
        assert time.monotonic() - begun < 0.9


def test_a_wrong_key_pauses_the_pool(vendor: Vendor) -> None:
    with opened(vendor, key="key-of-somebody-else") as (provider, peer):
        if vendor.keyless:
            peer.script(Reply(401, b"{}"))
        with pytest.raises(ProviderRefusesUs):
            provider.send(batch_of(letters_to(*THREE)))
        assert len(peer.calls) == 1 and not peer.sent


def test_a_check_proves_the_account_and_sends_nothing(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        said = provider.check().said
        assert not peer.sent
    assert said.endswith((".", ")")) and KEY not in said


def test_a_check_with_a_wrong_key_says_what_to_do(vendor: Vendor) -> None:
    with opened(vendor, key="key-of-somebody-else") as (provider, peer):
        if vendor.keyless:
            peer.script(Reply(401, b"{}"))
        with pytest.raises(ProviderRefusesUs) as caught:
            provider.check()
        assert len(peer.calls) == 1 and KEY not in str(caught.value)


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_check_that_is_answered_with_nonsense_proves_nothing(vendor: Vendor, body: bytes) -> None:
    with opened(vendor) as (provider, peer):
        peer.script(Reply(200, body))
        with pytest.raises(ProviderError):
            provider.check()


def test_a_check_keeps_the_deadline(vendor: Vendor) -> None:
    with opened(vendor, deadline=0.3) as (provider, peer):
        peer.script(Reply(200, b"{}", delay=1.0))
        begun = time.monotonic()
        with pytest.raises(ProviderError):
            provider.check()
        assert time.monotonic() - begun < 0.9


@pytest.mark.parametrize("call", ["check", "send"])
def test_a_pool_of_somebody_who_is_no_operator_is_not_connected_to_inside(vendor: Vendor, call: str) -> None:
    with running(vendor.peer()) as peer:
        url = confined(vendor.url(peer.host, KEY))
        calls: dict[str, Callable[[Provider], object]] = {
            "check": lambda provider: provider.check(),
            "send": lambda provider: provider.send(batch_of(letters_to(*THREE))),
        }
        inside = open_provider(url, deadline=5.0)
        with pytest.raises(ProviderRefusesUs, match="no public address"):
            calls[call](inside)
        assert not peer.calls
        allowed = open_provider(url, deadline=5.0, private={"127.0.0.1"})
        calls[call](allowed)
        assert peer.calls
        allowed.close()


def test_too_many_requests_are_waited_for_as_long_as_was_asked(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        peer.script(Reply(429, vendor.throttled, {"retry-after": "7"}))
        with pytest.raises(ProviderDown) as caught:
            provider.send(batch_of(letters_to(*THREE)))
        assert caught.value.retry_in == 7.0
        assert len(peer.calls) == 1


def test_nobody_at_the_address_is_down_and_nothing_left(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        peer.stop()
        with pytest.raises(ProviderDown):
            provider.send(batch_of(letters_to(*THREE)))


def test_our_ids_travel_with_each_letter_and_no_address_does(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        provider.send(batch_of(letters_to(*THREE)))
        [call] = peer.calls
    carried = [{name: str(value) for name, value in ids.items()} for ids in vendor.ids(call)]
    assert [(ids["campaign"], ids["handoff"], ids["lead"], ids["run"]) for ids in carried] == [
        ("3", "7", str(lead), "1") for lead in (1, 2, 3)
    ]
    assert "@" not in str(carried)


def test_each_letter_can_be_unsubscribed_by_one_click(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        provider.send(batch_of(letters_to(*THREE)))
        [call] = peer.calls
    assert [dict(headers) for headers in vendor.unsubscribe(call)] == [
        {
            "List-Unsubscribe": f"<https://mail.example.com/u/{lead}-abcdefgh>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
        for lead in (1, 2, 3)
    ]


def test_the_key_is_never_shown(vendor: Vendor) -> None:
    with opened(vendor) as (provider, peer):
        url = vendor.url(peer.host, KEY)
        said = [shown(url), repr(provider), str(vars(provider).get("account"))]
        for status in (400, 401, 429, 500):
            peer.script(*[Reply(status, b'{"message": "no"}')] * 3)  # a refused call of two is made three times
            try:
                said.append(repr(provider.send(batch_of(letters_to(*THREE[:2])))))
            except ProviderError as error:
                said += [str(error), repr(error), error.raw]
            peer.scripted.clear()
    assert not [text for text in said if KEY in text]


def test_a_call_may_be_asked_about_and_only_about_what_was_asked(vendor: Vendor) -> None:
    with opened(vendor) as (provider, _), suppress(ProviderError):
        provider.send(batch_of(letters_to(*THREE)))
        assert provider.look_up(7, CALL_KEY, [1, 2]).keys() <= {1, 2}


def test_a_provider_may_be_closed_twice_and_sends_no_more_over_old_lines(vendor: Vendor) -> None:
    with opened(vendor) as (provider, _):
        provider.send(batch_of(letters_to(*THREE)))
        provider.close()
        provider.close()
