"""One SMTP connection: made, secured and logged in by smtplib, with every wait cut to what is left of the call."""

from __future__ import annotations

import smtplib
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs
from app.providers.public import CONNECT, Resolve, connect, in_words
from app.providers.tickets import Ticket
from app.uptime import uptime

IDLE = 30.0  # seconds that an unused connection is trusted to be open still
REPLY_LINE = 2048  # bytes; RFC 5321 allows 512, real servers say more
REPLY_LINES = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer: its code, and its text on one line."""

    code: int
    text: str

    @property
    def said(self) -> str:
        return f"{self.code} {self.text}"[:300]


class LineLost(Exception):
    """The connection ended, or the server talks nonsense on it. What was not answered before is not known from it."""


class Line(smtplib.SMTP):
    """A connection that is used by one thread at a time. `until` (seconds of `uptime`) bounds whatever it does."""

    def __init__(self, login: Login, *, until: float, context: ssl.SSLContext | None = None) -> None:
        self.until = until
        self.context = context
        self.resolve = login.resolve
        self.inbox = bytearray()
        self.messages = 0
        self.most = 1  # messages that may go over it
        self.receiver = ""  # whose emails it carries
        self.ticket: Ticket | None = None
        self.dirty = False  # a transaction was begun and not ended: RSET comes first
        self.used_at = uptime()
        try:
            super().__init__(login.host, login.port, local_hostname=login.helo, timeout=min(CONNECT, _left(until)))
        except OSError:
            self.close()
            raise
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def pipelining(self) -> bool:
        """Whether the server takes several commands at once (RFC 2920)."""
        return self.has_extn("pipelining")

    @property
    def utf8(self) -> bool:
        """Whether the server takes addresses beyond ASCII (RFC 6531)."""
        return self.has_extn("smtputf8")

    @property
    def reports(self) -> bool:
        """Whether the server takes wishes about delivery reports (RFC 3461)."""
        return self.has_extn("dsn")

    @property
    def stale(self) -> bool:
        """Whether it was idle so long that a firewall may have forgotten it: silence would cost a whole deadline."""
        return uptime() - self.used_at > IDLE

    def write(self, data: bytes) -> None:
        """Send bytes; raises LineLost. Some of them may have arrived even then."""
        if not data:
            return
        try:
            self.send(data)
        except OSError as error:
            raise LineLost(f"{type(error).__name__}: {error}") from error

    def reply(self) -> Reply:
        """The next reply; raises LineLost when there is none in time, or none that is SMTP."""
        try:
            code, text = self.getreply()
        except OSError as error:
            raise LineLost(f"{type(error).__name__}: {error}") from error
        if not 200 <= code <= 599:
            raise LineLost(f"The server answers no SMTP: {text[:100]!r}")
        return Reply(code, " ".join(text.decode("utf-8", "replace").split()))

    def leave(self) -> None:
        """Say goodbye without waiting for an answer, and hang up; never raises."""
        self.until = uptime() + 0.5
        try:
            self.send(b"QUIT\r\n")
        except (OSError, ValueError):
            pass
        finally:
            self.close()

    # What smtplib itself reads and writes with, so that its handshakes keep to the deadline too. Its own getreply
    # waits for each byte anew, and its timeouts would let a server that drips hold a thread for hours.

    def send(self, s: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(_left(self.until))
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        texts: list[bytes] = []
        while True:
            line = self._read_line()
            texts.append(line[4:].strip(b" \t\r\n"))
            code = line[:3]
            if not code.isdigit():
                return -1, line
            if line[3:4] != b"-" or len(texts) >= REPLY_LINES:
                return int(code), b"\n".join(texts)

    def _read_line(self) -> bytes:
        while (end := self.inbox.find(b"\n")) < 0:
            if len(self.inbox) > REPLY_LINE:
                raise smtplib.SMTPServerDisconnected("The server's reply is endless.")
            connection = self._socket()
            connection.settimeout(_left(self.until))
            piece = connection.recv(4096)
            if not piece:
                raise smtplib.SMTPServerDisconnected("The server hung up.")
            self.inbox += piece
        line = bytes(self.inbox[: end + 1])
        del self.inbox[: end + 1]
        return line

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return connect(host, port, self.until, self.resolve)  # smtplib's own door for this

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("The connection is closed.")
        return self.sock


class TlsLine(Line):
    """A connection that speaks TLS from its first byte (RFC 8314)."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return (self.context or ssl.create_default_context()).wrap_socket(plain, server_hostname=host)


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach a server: `tls` is starttls, tls or none; `user` may be empty; `resolve` as in `connect`."""

    host: str
    port: int
    tls: str
    user: str
    password: str
    helo: str
    resolve: Resolve | None = None

    def __repr__(self) -> str:  # never the credentials, wherever it is printed
        return f"Login({self.host}:{self.port}, tls={self.tls})"


def open_line(login: Login, context: ssl.SSLContext | None, until: float) -> Line:
    """A connection ready for its first message. Raises ProviderDown or ProviderRefusesUs: nothing has left us."""
    kind = TlsLine if login.tls == "tls" else Line
    line: Line | None = None
    try:
        line = kind(login, until=until, context=context)
        line.ehlo_or_helo_if_needed()
        if login.tls == "starttls":
            _start_tls(line, context)
        if login.user:
            line.login(login.user, login.password)
        return line
    except OSError as error:  # smtplib's own errors are of its kind
        if line is not None:
            line.close()
        raise _meaning(error) from error


def _start_tls(line: Line, context: ssl.SSLContext | None) -> None:
    line.starttls(context=context)
    if line.inbox:  # said in the clear before the handshake: somebody in between speaks for the server (CVE-2011-0411)
        raise smtplib.SMTPServerDisconnected("Plain text came after STARTTLS.")
    line.ehlo_or_helo_if_needed()


def _meaning(error: OSError) -> ProviderError:
    """Why no connection could be made: a 5xx or a missing extension is for a person, everything else passes."""
    match error:
        case smtplib.SMTPResponseException():
            text = error.smtp_error
            text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
            said = f"The server said {error.smtp_code} {' '.join(text.split())[:300]}"
            if isinstance(error, smtplib.SMTPAuthenticationError):
                said = f"The server does not take our login: correct user and password. {said}"
            return ProviderRefusesUs(said) if 500 <= error.smtp_code <= 599 else ProviderDown(said)
        case smtplib.SMTPServerDisconnected():
            return ProviderDown(f"The server hung up: {error}")
        case smtplib.SMTPException():
            return ProviderRefusesUs(f"The server lacks what this pool asks for: {error}")
        case _:
            return ProviderDown(f"The server could not be reached: {in_words(error)}.")


def _left(until: float) -> float:
    left = until - uptime()
    if left <= 0:
        raise TimeoutError("The call's deadline is over.")
    return left
