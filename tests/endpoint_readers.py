"""Endpoints of users in the tests: a web server that verifies each post by Standard Webhooks and answers as told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook


@dataclass
class Reader:
    """What came, and what is answered: `answers` are used up first, then `status`. `delay` is in seconds."""

    status: int = 200
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    delay: float = 0.0
    said: bytes = b"thanks"
    secret: str = ""
    url: str = ""
    tries: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events of posts that were taken."""
        return [event for post in self.taken for event in post["data"]["events"]]

    @property
    def ids(self) -> list[str]:
        """The webhook-id of each try."""
        return [headers["webhook-id"] for headers, _ in self.tries]

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        self.tries.append((headers, body))
        if self.secret:
            Webhook(self.secret).verify(body, headers)
        time.sleep(self.delay)
        status, more = self.answers.pop(0) if self.answers else (self.status, {})
        if status < 300:
            self.taken.append(json.loads(body))
        return status, more


@contextmanager
def reading() -> Iterator[Reader]:
    """An endpoint on a free loopback port."""
    reader = Reader()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, more = reader.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(reader.said)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reader.said)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    reader.url = f"http://127.0.0.1:{server.server_port}/canary-path?canary=1"
    try:
        yield reader
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
