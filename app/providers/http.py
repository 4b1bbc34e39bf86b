"""One HTTP call to a provider, ended by its deadline, and what its answer means for the letters in it.

Stands on httpcore, the transport below httpx: httpx limits each read, so a reply of a byte a second would hold a call
for hours, and its connection pool costs as much as the call itself when 64 threads share it (measured: 15 µs of CPU per
letter at 50 a call through the pool, 8 without). Nothing is ever repeated here.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure
from app.providers.halving import CallRefused
from app.providers.public import CONNECT, Resolve, in_words, look_up
from app.uptime import uptime

IDLE = 4.0  # seconds: below the five after which many servers hang up, for a reply lost to that race is unknowable
REPLY = 1 << 20  # bytes of a reply that are read
PIECE = 1 << 16  # bytes written before the clock is asked again
SHOWN = 2000  # characters of an answer kept for people

# What a status means, by what the caller does next. Not named: other 4xx refuse the call, other 3xx mean a wrong URL,
# everything else leaves it unknown. 409 is what idempotent APIs say of a key that came with another body, or that is
# still being worked on: the first call may well have been taken.
MEANING: Mapping[int, type[ProviderError]] = {
    401: ProviderRefusesUs,
    402: ProviderRefusesUs,
    403: ProviderRefusesUs,
    404: ProviderRefusesUs,
    405: ProviderRefusesUs,
    407: ProviderRefusesUs,
    408: ProviderDown,
    409: ProviderUnsure,
    425: ProviderDown,
    429: ProviderDown,
    503: ProviderDown,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's reply. Header names are lowercase; `whole` is False when it broke off or ran over 1 MiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool

    @property
    def raw(self) -> str:
        return self.body[:SHOWN].decode("utf-8", "replace")


class Http:
    """Calls to one URL from many threads, each on a connection of its own that is kept for the next.

    `resolve` gives the addresses that may be connected to (app.providers.public), and is asked at every connection.
    """

    def __init__(self, url: str, context: ssl.SSLContext | None = None, resolve: Resolve | None = None) -> None:
        self.url = httpcore.URL(url)
        self.context = context
        self.resolve = resolve
        self.idle: deque[_Line] = deque()
        self.closed = False

    def post(self, body: bytes, headers: Sequence[tuple[bytes, bytes]], until: float) -> Answer:
        """Send one POST, back before `until` (seconds of `uptime`) whatever the other side does.

        Raises ProviderDown when the request cannot have been read whole, ProviderUnsure when it may have been;
        ProviderRefusesUs where the host is at an address that may not be connected to.
        """
        own = [(b"host", _host_header(self.url)), (b"content-length", b"%d" % len(body))]
        return self._call(httpcore.Request("POST", self.url, headers=[*own, *headers], content=body), until)

    def get(self, query: str, headers: Sequence[tuple[bytes, bytes]], until: float) -> Answer:
        """Send one GET with a query string that is encoded already, or ""; deadline and errors as of `post`."""
        whole = b"%s?%s" % (self.url.target, query.encode()) if query else self.url.target
        url = httpcore.URL(scheme=self.url.scheme, host=self.url.host, port=self.url.port, target=whole)
        return self._call(httpcore.Request("GET", url, headers=[(b"host", _host_header(self.url)), *headers]), until)

    def _call(self, request: httpcore.Request, until: float) -> Answer:
        line = self._line()
        line.wire.begin(until)
        try:
            response = line.connection.handle_request(request)
            answer = _read(response)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            line.connection.close()
            if line.wire.written:
                raise ProviderUnsure(f"The call was made and its reply was lost: {in_words(error)}.") from error
            raise ProviderDown(f"The provider could not be reached: {in_words(error)}.") from error
        except BaseException:
            line.connection.close()
            raise
        self._keep(line)
        return answer

    def close(self) -> None:
        """Hang up. A call under way ends by itself and is hung up after."""
        self.closed = True
        while self.idle:
            self.idle.pop().connection.close()

    def _line(self) -> _Line:
        """The connection used last that is still open, or a new one."""
        while self.idle:
            try:
                line = self.idle.pop()
            except IndexError:  # another thread was quicker
                break
            if not line.connection.has_expired():
                return line
            line.connection.close()
        wire = _Wire(self.resolve)
        origin = self.url.origin
        connection = httpcore.HTTPConnection(
            origin, ssl_context=self.context, keepalive_expiry=IDLE, retries=0, network_backend=wire
        )
        return _Line(connection, wire)

    def _keep(self, line: _Line) -> None:
        if self.closed or not line.connection.is_idle():
            line.connection.close()
        else:
            self.idle.append(line)


def taken(answer: Answer) -> Answer:
    """The answer itself when it is a whole 2xx; else raises what it means, CallRefused for a refused call."""
    status, said = answer.status, f"HTTP {answer.status}: {answer.raw[:300]}"
    if 200 <= status < 300:
        if not answer.whole:
            raise ProviderUnsure("The reply broke off, or was longer than any true one.", answer.raw)
        return answer
    meaning = MEANING.get(status, _CLASSES.get(status // 100, ProviderUnsure))
    if meaning is ProviderDown:
        raise ProviderDown(said, answer.raw, retry_after(answer.headers))
    raise meaning(said, answer.raw)


_CLASSES: Mapping[int, type[ProviderError]] = {3: ProviderRefusesUs, 4: CallRefused}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from Retry-After, which holds seconds or a date (RFC 9110 §10.2.3); None where it says neither.

    A date is held against the provider's own clock (its Date header): ours may be wrong by minutes.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    at = _date(value)
    if at is None:
        return None
    return max(0.0, (at - (_date(headers.get("date", "")) or datetime.now(UTC))).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Line:
    connection: httpcore.HTTPConnection
    wire: _Wire


def _read(response: httpcore.Response) -> Answer:
    """The reply up to the limit. One that breaks off keeps its status, which may say enough."""
    pieces, size, whole = [], 0, True
    try:
        for piece in response.iter_stream():
            pieces.append(piece)
            size += len(piece)
            if size > REPLY:
                whole = False
                break
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
        whole = False
    finally:
        response.close()
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    return Answer(response.status, headers, b"".join(pieces), whole)


def _host_header(url: httpcore.URL) -> bytes:
    host = b"[%s]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%s:%d" % (host, url.port)


class _Wire(httpcore.NetworkBackend):
    """A connection's network side: every wait is cut to what is left of the call, and it knows what was written."""

    def __init__(self, resolve: Resolve | None = None) -> None:
        self.backend = httpcore.SyncBackend()
        self.resolve = resolve
        self.until = 0.0
        self.broken = False  # a write failed: the other side cannot have the whole request
        self.written = False  # the request was written whole: from here on, silence proves nothing

    def begin(self, until: float) -> None:
        self.until, self.broken, self.written = until, False, False

    def left(self, error: type[httpcore.TimeoutException]) -> float:
        left = self.until - uptime()
        if left <= 0:
            raise error("The call's deadline is over.")
        return left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        lost: Exception | None = None
        for address in (self.resolve or look_up)(host, port, self.until):
            timeout = min(CONNECT, self.left(httpcore.ConnectTimeout))
            try:
                return _Stream(self.backend.connect_tcp(address, port, timeout, local_address, socket_options), self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                lost = error
        raise lost or httpcore.ConnectError("no address")


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, wire: _Wire) -> None:
        self.stream = stream
        self.wire = wire

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self.wire.broken:
            self.wire.written = True
        return self.stream.read(max_bytes, self.wire.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            for at in range(0, len(buffer), PIECE):
                self.stream.write(buffer[at : at + PIECE], self.wire.left(httpcore.WriteTimeout))
        except (httpcore.WriteError, httpcore.WriteTimeout):
            self.wire.broken = True
            raise

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self.wire.left(httpcore.ConnectTimeout)
        return _Stream(self.stream.start_tls(ssl_context, server_hostname, left), self.wire)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)

    def close(self) -> None:
        self.stream.close()
