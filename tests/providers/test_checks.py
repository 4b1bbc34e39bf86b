"""What each provider says of our account when it is asked, in a sentence for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.errors import Invalid, ProviderRefusesUs
from app.providers import open_provider
from tests.providers import brevo_peer, mailgun_peer, postmark_peer, resend_peer, sendgrid_peer, ses_peer
from tests.providers.api_peer import ApiPeer, running
from tests.providers.vendor import KEY, Vendor

GOOD: list[tuple[Vendor, dict[str, Any], str]] = [
    (sendgrid_peer.VENDOR, {}, "1,200 of 100,000 credits are left"),
    (sendgrid_peer.VENDOR, {"scopes": ["mail.send"]}, "it may send."),
    (mailgun_peer.VENDOR, {}, "it may send for mg.example.com. The domain is verified."),
    (mailgun_peer.VENDOR, {"state": None}, "it may send for mg.example.com."),
    (postmark_peer.VENDOR, {}, "the server “Old Mill”, the stream broadcast."),
    (postmark_peer.VENDOR, {"handling": "Postmark"}, "Set the stream's unsubscribe handling to Custom"),
    (postmark_peer.VENDOR, {"delivery": "Sandbox"}, "The server is a sandbox"),
    (resend_peer.VENDOR, {}, "Verified domains: example.com."),
    (resend_peer.VENDOR, {"sending_only": True}, "nothing but send"),
    (brevo_peer.VENDOR, {}, "(subscription: 39,983 emails left)"),
    (ses_peer.VENDOR, {}, "1,234 of 50,000 emails of the last 24 hours are used, 14 a second at most."),
    (ses_peer.VENDOR, {"account": None}, "may not read the account's quota"),
]
REFUSED: list[tuple[Vendor, dict[str, Any], str]] = [
    (sendgrid_peer.VENDOR, {"scopes": ["alerts.read"]}, "may not send"),
    (mailgun_peer.VENDOR, {"state": "unverified"}, "is unverified"),
    (postmark_peer.VENDOR, {"streams": {"outbound"}}, "has no stream broadcast"),
    (resend_peer.VENDOR, {"domains": set()}, "no domain is verified"),
    (brevo_peer.VENDOR, {"enabled": False}, "not switched on transactional email"),
]


@contextmanager
def asked(vendor: Vendor, settings: dict[str, Any], url: str = "") -> Iterator[tuple[Callable[[], str], ApiPeer]]:
    with running(vendor.peer()) as peer:
        for name, value in settings.items():
            setattr(peer, name, value)
        provider = open_provider((url or vendor.url(peer.host, KEY)).format(host=peer.host), deadline=5.0)
        yield lambda: provider.check().said, peer
        provider.close()


@pytest.mark.parametrize(("vendor", "settings", "said"), GOOD, ids=str)
def test_a_good_account_says_what_it_may(vendor: Vendor, settings: dict[str, Any], said: str) -> None:
    with asked(vendor, settings) as (ask, _):
        assert said in ask()


@pytest.mark.parametrize(("vendor", "settings", "said"), REFUSED, ids=str)
def test_an_account_that_cannot_send_says_what_to_do(vendor: Vendor, settings: dict[str, Any], said: str) -> None:
    with asked(vendor, settings) as (ask, _), pytest.raises(ProviderRefusesUs, match=said):
        ask()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SendingEnabled": False}, "Sending is paused in SES"),
        ({"EnforcementStatus": "SHUTDOWN"}, "AWS has suspended this account's sending"),
        ({"ProductionAccessEnabled": False}, "still in the sandbox"),
        ({"EnforcementStatus": "PROBATION"}, "on probation"),
        ({"SendQuota": {"Max24HourSend": -1.0, "MaxSendRate": 9.0, "SentLast24Hours": 0.0}}, "no limit for 24 hours"),
    ],
)
def test_the_state_of_an_account_at_ses_is_said(changes: dict[str, Any], said: str) -> None:
    with asked(ses_peer.VENDOR, {}) as (ask, peer):
        assert isinstance(peer, ses_peer.SesPeer) and peer.account is not None
        peer.account |= changes
        try:
            told = ask()
        except ProviderRefusesUs as error:
            told = str(error)
    assert said in told


def test_a_temporary_key_of_aws_is_signed_with_its_session_token() -> None:
    token = "IQoJb3JpZ2luX2VjEXAMPLE+/token=="
    options = "&token=IQoJb3JpZ2luX2VjEXAMPLE%2B%2Ftoken%3D%3D"
    with asked(ses_peer.VENDOR, {"token": token}, ses_peer.url("{host}", KEY, options)) as (ask, _):
        assert "AWS knows this access key" in ask()
    with asked(ses_peer.VENDOR, {"token": token}) as (ask, _), pytest.raises(ProviderRefusesUs, match="access key"):
        ask()
    with pytest.raises(Invalid, match="session token"):
        open_provider("ses://a:b@email.eu-west-1.amazonaws.com?token=%0A", deadline=1.0)
