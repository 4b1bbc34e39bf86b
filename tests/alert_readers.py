"""Those that hear of alerts in the tests: a mail server with STARTTLS and a login, and an operator's webhook."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMh"


class Inbox:
    """Keeps every message; `refusals` are what it answers to the next ones instead of a receipt."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.refusals: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.original_content, bytes)
        if self.refusals:
            return self.refusals.pop(0)
        assert session.authenticated and session.ssl
        message = message_from_bytes(envelope.original_content, policy=policy.default)
        assert [message["To"]] == envelope.rcpt_tos
        self.messages.append(message)
        return "250 2.0.0 Ok"


class Hook:
    """The operator's webhook: verifies each post, keeps its headers and body; answers `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.tries = 0
        self.posts: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.url = ""

    def take(self, headers: dict[str, str], body: bytes) -> int:
        self.tries += 1
        Webhook(SECRET).verify(body, headers)
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body  # as the docs tell it
        mac = hmac.digest(base64.b64decode(SECRET.removeprefix("whsec_")), signed, "sha256")
        assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
        if self.status == 200:
            self.posts.append((headers, json.loads(body)))
        return self.status


@contextmanager
def listening() -> Iterator[Hook]:
    """A webhook on a free loopback port."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(hook.take({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_port}/hooks/canary-path"
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
