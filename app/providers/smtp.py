"""SMTP: letters as MIME messages to any mail server, over a few connections that are kept and shared."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.errors import Invalid, ProviderDown, ProviderError, ProviderRefusesUs
from app.mail import Batch, Capabilities, Checked, Kind, Outcome, Refused, Unsure
from app.providers.address import certificates, count, one_of, read_address, tls_context
from app.providers.halving import blame_us, instead
from app.providers.mime import Token, Written, ascii_address, write_letters
from app.providers.smtp_exchange import Sender, exchange
from app.providers.smtp_line import Line, LineLost, Login, open_line
from app.providers.smtp_lines import Lines
from app.providers.tickets import Tickets
from app.uptime import uptime

PORTS = {"starttls": 587, "tls": 465, "none": 25}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
UNSURE = 2  # letters of a batch that may end unknown before we stop trying: each lost connection costs one


def _host_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f.:IPv]+\]", value):
        raise ValueError("the name that we say in EHLO, like mail.example.com")
    return value


TOKEN = 40  # characters of what tells an email in its return address


def _return_address(value: str) -> str:
    """An address with a star where the token goes; without one it goes behind a plus sign before the @."""
    value = value.replace(" ", "+")  # what a plus sign means in a URL
    name, _, domain = value.rpartition("@")
    value = value if "*" in value or not name else f"{name}+*@{domain}"
    try:
        plain = ascii_address(value.replace("*", "token"), "return")
    except ProviderRefusesUs:
        plain = ""
    if not plain or "*" in domain or value.count("*") != 1 or len(value.rpartition("@")[0]) - 1 + TOKEN > 64:
        raise ValueError(
            "an address like bounces@mail.example.com, of at most 23 characters before its @; reports come back to "
            "bounces+token@mail.example.com, or to where a star stands: *@bounces.example.com"
        )
    return value


OPTIONS = {
    "tls": one_of(*PORTS),
    "connections": count(1, 100),
    "messages": count(1, 100_000),
    "batch": count(1, 1000),
    "helo": _host_name,
    "ca": certificates,
    "returns": _return_address,
}


@dataclass(frozen=True, slots=True)
class SmtpAccount:
    """`smtp://user:password@host:port?tls=starttls|tls|none&connections=4&messages=100&batch=50&helo=NAME&ca=FILE`.

    Without `tls`, port 465 speaks TLS at once and every other port STARTTLS; certificates are always verified.
    `messages` is how many go over one connection. With `returns=bounces@mail.example.com` every letter has a return
    address of its own, bounces+TOKEN@mail.example.com (VERP); without it reports go to the sender's address.
    """

    login: Login
    connections: int
    messages: int
    batch: int
    ca: str | None
    returns: str | None = None

    @classmethod
    def read(cls, url: str) -> SmtpAccount:
        """Raises Invalid, pointer "url"."""
        address = read_address(url, OPTIONS)
        options = address.options
        tls = options.get("tls") or ("tls" if address.port == PORTS["tls"] else "starttls")
        if address.path not in ("", "/"):
            raise Invalid.one("url", "An SMTP server has no path: smtp://user:password@host:587.")
        if bool(address.user) != bool(address.password):
            raise Invalid.one("url", "A user needs a password, and a password a user.")
        if not (address.user + address.password).isascii():
            raise Invalid.one("url", "User and password can only have ASCII characters.")
        if address.user and tls == "none" and address.host not in LOOPBACK:
            raise Invalid.one("url", "With tls=none the password would travel readable: use tls=starttls or tls=tls.")
        login = Login(
            host=address.host,
            port=address.port or PORTS[tls],
            tls=tls,
            user=address.user,
            password=address.password,
            helo=options.get("helo") or _our_name(),
            resolve=address.resolve,
        )
        return cls(
            login=login,
            connections=options.get("connections", 4),
            messages=options.get("messages", 100),
            batch=options.get("batch", 50),
            ca=options.get("ca"),
            returns=options.get("returns"),
        )


class Smtp:
    """One mail server and account. A batch goes over one connection, as many batches at once as it has connections.

    `tickets`: other processes send through the same account, and have connections of the same number.
    """

    def __init__(
        self, account: SmtpAccount, *, deadline: float, token: Token | None = None, tickets: Tickets | None = None
    ) -> None:
        self.account = account
        self.deadline = deadline
        self.token = token
        self.context: ssl.SSLContext | None = tls_context(account.ca) if account.login.tls != "none" else None
        self.capabilities = Capabilities(batch=account.batch, distinct_body=True)
        self.lines = Lines(self._open, account.connections, account.messages, tickets)

    def send(self, batch: Batch) -> list[Outcome]:
        """One Outcome per letter, in order. Raises ProviderDown or ProviderRefusesUs where no letter left us."""
        until = uptime() + self.deadline
        sender = ascii_address(batch.from_address, "sender")
        written = list(write_letters(batch, self.token))
        letters = [each for each in written if isinstance(each, Written)]
        sent = iter(self._send_all(self._envelope(sender), letters, batch.receiver, until))
        outcomes = [each if isinstance(each, Refused) else next(sent) for each in written]
        _blame_us(outcomes)
        return outcomes

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """SMTP knows no such question."""
        return {}

    def check(self) -> Checked:
        """Connect, log in, hang up; raises ProviderError."""
        login = self.account.login
        line = open_line(login, self.context, uptime() + self.deadline)
        line.leave()
        took = "took our login" if login.user else "asks for no login"
        how = "without TLS" if login.tls == "none" else "over TLS, with a certificate that is good"
        return Checked(f"The server {took}, {how}.")

    def close(self) -> None:
        """Hang up the idle connections; those in use are hung up when their batch is done."""
        self.lines.close()

    def _open(self, until: float) -> Line:
        return open_line(self.account.login, self.context, until)

    def _envelope(self, sender: str) -> Sender:
        """Every letter's own return address where the pool has such, else the sender's."""
        if self.account.returns is None or self.token is None:
            return lambda letter: sender
        before, _, after = self.account.returns.partition("*")
        return lambda letter: f"{before}{letter.token}{after}"

    def _send_all(self, sender: Sender, letters: list[Written], receiver: str, until: float) -> list[Outcome]:
        """One outcome per letter. A lost connection is followed by another, unless it brought nothing or doubt."""
        outcomes: list[Outcome] = []
        fresh = False
        while len(outcomes) < len(letters):
            before = len(outcomes)
            try:
                with self.lines.borrow(receiver, until, fresh=fresh) as line:
                    exchange(line, sender, letters, outcomes, line.most - line.messages)
                continue
            except LineLost as lost:
                in_doubt = sum(isinstance(outcome, Unsure) for outcome in outcomes)
                if in_doubt < UNSURE and (len(outcomes) > before or not fresh):
                    fresh = len(outcomes) == before
                    continue
                error: ProviderError = ProviderDown(f"The connection was lost: {lost}")
            except ProviderError as known:
                error = known
            if not outcomes:
                raise error
            outcomes += [instead(error)] * (len(letters) - len(outcomes))
        return outcomes


def _blame_us(outcomes: list[Outcome]) -> None:
    """When every letter of many was refused for policy (5.7.x, relaying, 550 5.7.1), it is not the addresses."""
    if all(isinstance(outcome, Refused) and re.match(r"5\d\d 5\.7\.", outcome.reason) for outcome in outcomes):
        blame_us(outcomes)


def _our_name() -> str:
    """What we say in EHLO: this machine's full name, or an address literal where it has none (RFC 5321 §4.1.3)."""
    name = socket.gethostname()
    return name if "." in name and re.fullmatch(r"[A-Za-z0-9.-]+", name) else "[127.0.0.1]"
