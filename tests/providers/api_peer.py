"""A provider's HTTP API on a loopback port: it keeps every call, and answers as its vendor does, or as a test says."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Call:
    """One request; names of headers in small letters."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What is answered. `cut`: the connection is closed instead, after the call was taken; `delay` is in seconds."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    delay: float = 0.0


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class ApiPeer:
    """Answers by `answer`, unless replies were scripted: those first. `sent` are the emails it took."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.scripted: deque[Reply] = deque()
        self.sent: list[Any] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                _serve(peer, self)

            do_GET = do_POST

            def log_message(self, *args: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def script(self, *replies: Reply) -> None:
        self.scripted.extend(replies)

    def answer(self, call: Call) -> Reply:
        raise NotImplementedError

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


P = TypeVar("P", bound=ApiPeer)


@contextmanager
def running(peer: P) -> Iterator[P]:
    try:
        yield peer
    finally:
        peer.stop()


def _serve(peer: ApiPeer, handler: BaseHTTPRequestHandler) -> None:
    parts = urlsplit(handler.path)
    body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
    call = Call(
        handler.command,
        parts.path,
        {name: values[0] for name, values in parse_qs(parts.query).items()},
        {name.lower(): value for name, value in handler.headers.items()},
        body,
    )
    peer.calls.append(call)
    reply = peer.scripted.popleft() if peer.scripted else peer.answer(call)
    sleep(reply.delay)
    if reply.cut:
        peer.answer(call)
        handler.close_connection = True
        return
    written = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    with suppress(ConnectionError):  # whoever asked may have had enough of it
        handler.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(written)))
        handler.end_headers()
        handler.wfile.write(written)
