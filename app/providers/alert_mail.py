"""Alerts by email: plain messages over an SMTP server of the operator's own, by the same transport as campaigns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Outcome, Refused, Unsure
from app.providers.address import tls_context
from app.providers.mime import Written, ascii_address
from app.providers.smtp import SmtpAccount
from app.providers.smtp_exchange import exchange
from app.providers.smtp_line import Line, LineLost, open_line
from app.uptime import uptime

LONGEST_SUBJECT = 200  # characters


@dataclass(frozen=True, slots=True)
class AlertLetter:
    """One email. `key` makes its Message-ID: the same at every try. `thread` is shared by those about one alert."""

    address: str
    subject: str
    text: str
    key: str
    thread: str


class AlertMail:
    """One server, account and From address. A connection is made for every letter: they are few."""

    def __init__(self, url: str, sender: str, *, deadline: float) -> None:
        """Raises Invalid where the URL is none, ProviderRefusesUs for a sender that cannot be written."""
        self.account = SmtpAccount.read(url)
        self.sender = ascii_address(sender, "sender")
        self.deadline = deadline

    def send(self, letter: AlertLetter) -> None:
        """Send one, in `deadline` seconds at most. Raises ProviderError, whose text tells nothing of the account.

        ProviderDown and ProviderRefusesUs are about the server, and will hold for every other letter too.
        """
        written = write(letter, self.sender)
        outcomes: list[Outcome] = []
        try:
            line = self._line()
            try:
                exchange(line, lambda _: self.sender, [written], outcomes, 1)
            finally:
                line.leave()
        except LineLost as lost:
            if not outcomes:
                raise ProviderDown("The mail server hung up.", str(lost)) from lost
        except ProviderDown as error:
            raise ProviderDown("The mail server cannot be reached, or takes nothing now.", str(error)) from error
        except ProviderRefusesUs as error:
            raise ProviderRefusesUs("The mail server refuses our account or our address.", str(error)) from error
        _judge(outcomes[0])

    def check(self) -> None:
        """Connect, log in, hang up. Raises ProviderError."""
        self._line().leave()

    def _line(self) -> Line:
        login = self.account.login
        context = tls_context(self.account.ca) if login.tls != "none" else None
        return open_line(login, context, uptime() + self.deadline)


def write(letter: AlertLetter, sender: str) -> Written:
    """The message. No line break or control character of what people wrote gets into a header."""
    domain = sender.rpartition("@")[2]
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = Address("Millrace", addr_spec=sender)
    message["To"] = ascii_address(letter.address, "reader's")
    message["Subject"] = one_line(letter.subject)[:LONGEST_SUBJECT]
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{letter.key}@{domain}>"
    message["References"] = f"<{letter.thread}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: nobody's holiday answers it
    message.set_content(letter.text, cte="quoted-printable")
    return Written(letter.address, str(message["Message-ID"]), message.as_bytes(), utf8=False)


def one_line(text: str) -> str:
    """The text with every run of blanks and control characters as one space."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _judge(outcome: Outcome) -> None:
    match outcome:
        case Accepted():
            return
        case Unsure(reason=reason):
            raise ProviderUnsure("The mail server's answer was lost.", reason)
        case Refused(reason=reason):
            raise ProviderError(f"The mail server refuses the reader's address or the email ({reason[:3]}).", reason)
        case _:
            raise ProviderError(f"The mail server puts it off ({outcome.reason[:3]}).", outcome.reason)
