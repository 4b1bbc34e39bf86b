"""Strangers that deliver: one file each, found by their URL's scheme."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from app.errors import Invalid, ProviderDown, ProviderRefusesUs
from app.mail import Batch, Capabilities, Checked, Kind, Outcome, Reported
from app.providers.address import freed, host_of, is_confined, shown
from app.providers.brevo import Brevo
from app.providers.brevo import read as read_brevo
from app.providers.brevo_events import BrevoWebhooks
from app.providers.mailgun import Mailgun
from app.providers.mailgun import read as read_mailgun
from app.providers.mailgun_events import MailgunWebhooks
from app.providers.mime import Token
from app.providers.postmark import Postmark
from app.providers.postmark import read as read_postmark
from app.providers.postmark_events import PostmarkWebhooks
from app.providers.public import CONNECT, resolver
from app.providers.resend import Resend
from app.providers.resend import read as read_resend
from app.providers.resend_events import ResendWebhooks
from app.providers.returns import SmtpReturns
from app.providers.sendgrid import SendGrid
from app.providers.sendgrid import read as read_sendgrid
from app.providers.sendgrid_events import SendGridWebhooks
from app.providers.ses import Ses, SesAccount
from app.providers.ses_events import SesWebhooks
from app.providers.sink import Sink, SinkAccount, SinkWebhooks
from app.providers.smtp import Smtp, SmtpAccount
from app.providers.tickets import Tickets
from app.uptime import uptime

__all__ = ["READERS", "SCHEMES", "WEBHOOKS", "Provider", "Reader", "Webhooks", "check", "open_provider", "shown"]


class Provider(Protocol):
    """One account at one provider. Thread-safe: many calls run at once, and none outlives its deadline."""

    capabilities: Capabilities

    def send(self, batch: Batch) -> list[Outcome]:
        """One provider call: one Outcome per letter, in order.

        Raises for all letters at once: ProviderDown (nothing left us), ProviderUnsure (all of it may have left),
        ProviderRefusesUs (nothing left us, nor will until a person acts).
        """

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """What the provider says afterwards of a call's leads: SENT where it took them, REFUSED where it dropped them.

        Only asked where `capabilities.lookup`. Leads that it knows nothing of are left out: it may be late, and silence
        proves nothing. Raises ProviderError where it cannot say.
        """

    def check(self) -> Checked:
        """Prove the credentials by a real call that sends nothing; what the provider says of the account, with quotas.

        Back within the deadline. Raises ProviderRefusesUs with one sentence on what to do, or another ProviderError.
        """

    def close(self) -> None:
        """Hang up the idle connections; calls under way end by themselves."""


class Webhooks(Protocol):
    """What a kind of provider posts to us: verified by web before it is kept, read by a worker afterwards.

    Nothing is kept here: a repeat is told by the keys of its events. Only where a signature cannot be verified
    otherwise (SNS names its certificate) is anybody asked, at the provider's own hosts; that may raise Unavailable.
    """

    def check_secret(self, secret: str) -> None:
        """Raise Invalid (pointer "secret") with a sentence for the person who typed it."""

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> str:
        """The provider's id of this post, "" where it gives none; it is kept with the body. Raises Unverified.

        By the provider's own signature over the bytes as they came, in constant time. Where it holds a time, not older
        than five minutes; or than the provider goes on trying, where a retry may carry the first one's signature. A
        post whose id was kept is not kept again, whatever its body. The names of `headers` are in small letters.
        """

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Every event of a verified body, those of emails that are not ours too; `delivery` is what `verify` gave.

        Raises ValueError, KeyError or TypeError where the body is none of this provider's.
        """


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of provider: what reads its URL (raising Invalid), and what sends with what was read.

    `returns`: bounces come back by mail, and `provider` takes the `token` that names an email in them; and `tickets`.
    """

    read: Callable[[str], Any]
    provider: Callable[..., Provider]
    returns: bool = False


SCHEMES: Mapping[str, Scheme] = {
    "ses": Scheme(SesAccount.read, Ses),
    "sink+http": Scheme(SinkAccount.read, Sink),
    "sink+https": Scheme(SinkAccount.read, Sink),
    "smtp": Scheme(SmtpAccount.read, Smtp, returns=True),
    "brevo": Scheme(read_brevo, Brevo),
    "sendgrid": Scheme(read_sendgrid, SendGrid),
    "mailgun": Scheme(read_mailgun, Mailgun),
    "postmark": Scheme(read_postmark, Postmark),
    "resend": Scheme(read_resend, Resend),
}

# By what a pool's column `provider` says. SMTP has none: its reports come by mail.
WEBHOOKS: Mapping[str, Webhooks] = {
    "ses": SesWebhooks(),
    "sink": SinkWebhooks(),
    "brevo": BrevoWebhooks(),
    "sendgrid": SendGridWebhooks(),
    "mailgun": MailgunWebhooks(),
    "postmark": PostmarkWebhooks(),
    "resend": ResendWebhooks(),
}


class Reader(Protocol):
    """What reads a kept body; `Webhooks` are readers too."""

    def read_events(self, body: bytes, delivery: str) -> list[Reported]: ...


# What reads the bodies kept of a pool, by the pool's column `provider`: posts, and mail that came back.
READERS: Mapping[str, Reader] = {**WEBHOOKS, "smtp": SmtpReturns()}


def open_provider(
    url: str,
    *,
    deadline: float,
    token: Token | None = None,
    private: Collection[str] = (),
    tickets: Tickets | None = None,
) -> Provider:
    """The provider behind a pool's URL; nothing is connected yet. `deadline`: seconds that one `send` may take.

    `token` names an email where bounces come back by mail. `private`: hosts that an operator allows wherever they are,
    though a user typed the URL (`confined`). `tickets`: for connections that processes share, where a provider keeps
    such. Raises Invalid, pointer "url".
    """
    scheme = _scheme(url)
    if is_confined(url) and resolver(host_of(url), private) is None:
        url = freed(url)
    account = scheme.read(url)
    if scheme.returns:
        return scheme.provider(account, deadline=deadline, token=token, tickets=tickets)
    return scheme.provider(account, deadline=deadline)


def check(url: str, private: Collection[str] = ()) -> None:
    """Raise Invalid (pointer "url") with a sentence for the person who typed it, unless a provider can be opened.

    A host of a `confined` URL that is at no public address now is refused at once; a name that nobody knows now is not.
    """
    open_provider(url, deadline=1.0, private=private).close()
    resolve = resolver(host_of(url), private) if is_confined(url) else None
    if resolve is not None:
        try:
            resolve(host_of(url), 443, uptime() + CONNECT)
        except ProviderRefusesUs as error:
            raise Invalid.one("url", str(error)) from None
        except ProviderDown:
            pass


def _scheme(url: str) -> Scheme:
    name = url.partition("://")[0].lower()
    if name not in SCHEMES:
        raise Invalid.one("url", f"The URL must begin with one of {', '.join(f'{each}://' for each in SCHEMES)}.")
    return SCHEMES[name]
