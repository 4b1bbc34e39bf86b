"""The door that clicks and opens come through: a WSGI layer in front of all else, since nearly everything is for it.

No session, no cookie, no login, no form: a token that we signed, and a link's number. It leads to addresses that stand
in the campaign, and nowhere else, whatever is asked for.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from app.errors import Unavailable
from app.flows.machines import judge
from app.flows.take_hit import Door

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

    from app.runtime import Runtime

CLICK: Final = re.compile(r"/t/([A-Za-z0-9_-]{28})/([0-9]{1,5})")
OPEN: Final = re.compile(r"/o/([A-Za-z0-9_-]{28})\.gif")
OURS: Final = ("/t/", "/o/")
GIF: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
NOTHING: Final = b"<!doctype html><meta charset=utf-8><title>Nothing here</title><p>There is nothing behind this link."
LATER: Final = b"<!doctype html><meta charset=utf-8><title>One moment</title><p>Please try this link again in a minute."
# What is behind a link learns nothing of it; nobody keeps an answer, or a second click would not be seen.
ALWAYS: Final = (
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store, private"),
    ("X-Robots-Tag", "noindex, nofollow"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'"),
    ("X-Frame-Options", "DENY"),
)


class Tracking:
    """Answers `/t/…` and `/o/…`, and passes everything else on."""

    def __init__(self, inner: WSGIApplication, runtime: Runtime) -> None:
        self.inner = inner
        self.door = Door(runtime)
        secure = (("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),)
        self._always = ALWAYS + (secure if runtime.settings.base_url.startswith("https://") else ())

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if not path.startswith(OURS):
            return self.inner(environ, start)
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            return self._answer(start, "405 Method Not Allowed", "text/plain", b"", ("Allow", "GET, HEAD"))
        machine = judge(method, environ.get("HTTP_USER_AGENT", ""), environ.get("REMOTE_ADDR", ""))
        try:
            body = self._open(start, path, machine) if path[1] == "o" else self._follow(start, path, machine)
        except Unavailable:
            body = self._answer(start, "503 Service Unavailable", "text/html", LATER, ("Retry-After", "5"))
        return [] if method == "HEAD" else body

    def _follow(self, start: StartResponse, path: str, machine: str | None) -> list[bytes]:
        asked = CLICK.fullmatch(path)
        target = self.door.follow(asked[1], int(asked[2]), machine) if asked else None
        if target:
            return self._answer(start, "302 Found", "text/plain", b"", ("Location", target))
        if target == "":
            return self._answer(start, "204 No Content")
        return self._answer(start, "404 Not Found", "text/html", NOTHING)

    def _open(self, start: StartResponse, path: str, machine: str | None) -> list[bytes]:
        """Pictures are shown in emails that are read elsewhere: another site's page may load this one."""
        asked = OPEN.fullmatch(path)
        known = asked is not None and self.door.open(asked[1], machine)
        status = "200 OK" if known else "404 Not Found"
        return self._answer(start, status, "image/gif", GIF, ("Cross-Origin-Resource-Policy", "cross-origin"))

    def _answer(
        self, start: StartResponse, status: str, kind: str = "", body: bytes = b"", *more: tuple[str, str]
    ) -> list[bytes]:
        headers = [*self._always, *more]
        if kind:
            headers += (
                ("Content-Type", f"{kind}; charset=utf-8" if kind != "image/gif" else kind),
                ("Content-Length", str(len(body))),
            )
        start(status, headers)
        return [body] if body else []
