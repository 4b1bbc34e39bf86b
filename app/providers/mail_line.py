"""Connections to mailboxes, by imaplib and poplib: to addresses that were judged, and cut off when time is over."""

from __future__ import annotations

import imaplib
import poplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Timer
from typing import Final

from app.providers.public import Resolve, connect
from app.uptime import uptime

WAIT: Final = 20.0  # seconds that a server may be silent


@dataclass(slots=True)
class Way:
    """How a server is reached, until when (seconds of `uptime`), and over which socket since.

    The libraries wait for each line anew, so a server that drips would hold a thread for ever: whoever opened the way
    has it cut off.
    """

    host: str
    port: int
    resolve: Resolve | None
    until: float
    sock: socket.socket | None = None
    cut: bool = False
    _timer: Timer | None = field(default=None, repr=False)

    def watch(self) -> None:
        """Cut the connection off when its time is over."""
        self._timer = Timer(max(0.0, self.until - uptime()), self.cut_off)
        self._timer.daemon = True
        self._timer.start()

    def done(self) -> None:
        """Whatever became of it, nothing stays open: the libraries forget a socket whose greeting was none."""
        if self._timer is not None:
            self._timer.cancel()
        if self.sock is not None:
            self.sock.close()

    def cut_off(self) -> None:
        self.cut = True
        if self.sock is not None:
            with suppress(OSError):  # by the plain class: the one that speaks TLS would forget its keys amid a read
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    @property
    def wait(self) -> float:
        """Seconds that one answer may take from now on."""
        return max(0.05, min(WAIT, self.until - uptime()))

    def reach(self, context: ssl.SSLContext | None) -> socket.socket:
        """A connection, over TLS from its first byte where there is a context."""
        self.sock = connect(self.host, self.port, self.until, self.resolve)
        self.sock.settimeout(self.wait)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()
        return self.sock


class ImapLine(imaplib.IMAP4):
    """`context` where TLS comes before all else."""

    def __init__(self, way: Way, context: ssl.SSLContext | None) -> None:
        self.way = way
        self.context = context
        super().__init__(way.host, way.port, timeout=way.wait)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return self.way.reach(self.context)

    def begin_tls(self, context: ssl.SSLContext) -> None:
        self.starttls(context)
        self.way.sock = self.sock


class PopLine(poplib.POP3):
    """`context` where TLS comes before all else."""

    def __init__(self, way: Way, context: ssl.SSLContext | None) -> None:
        self.way = way
        self.context = context
        super().__init__(way.host, way.port, timeout=way.wait)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return self.way.reach(self.context)

    def begin_tls(self, context: ssl.SSLContext) -> None:
        self.stls(context)
        self.way.sock = self.sock
