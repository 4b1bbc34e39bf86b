"""Millrace from a program: messages and leads in a few calls. Copy this file; it needs Python 3.11 and httpx alone.

Every change carries an Idempotency-Key, and is asked for again under it until there is an answer: it is done once.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any, Final, Required, TypedDict, cast
from uuid import uuid4

import httpx

MOST: Final = 1000  # things in one request
NOT_NOW: Final = (429, 502, 503, 504)  # and 409 where it says when: the same request is under way
LOST: Final = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)  # it may have arrived


class Message(TypedDict, total=False):
    """An email: a template by its name with its data, or a subject with html or text or both."""

    to: Required[str]
    template: str
    subject: str
    html: str
    text: str
    data: Mapping[str, Any]
    sender: str
    send_at: datetime  # with its zone
    metadata: Mapping[str, Any]
    idempotency_key: str


class Status(TypedDict):
    """A message and what became of it; times are ISO 8601's."""

    id: str
    to: str
    template: str | None
    sender: str
    state: str  # scheduled, queued, sent, delivered, bounced, complained, refused, failed, skipped, unknown, cancelled
    created_at: str
    send_at: str
    metadata: dict[str, Any] | None
    events: list[dict[str, Any]]


class Lead(TypedDict, total=False):
    email: Required[str]
    time_zone: str | None
    attributes: Mapping[str, str | float | bool]


class Problem(Exception):
    """A refusal. `faults`: where -> what is wrong there; a JSON pointer ("/17/to"), a parameter or a header."""

    def __init__(self, answer: httpx.Response) -> None:
        ours = answer.headers.get("Content-Type", "").startswith("application/problem+json")
        said: dict[str, Any] = answer.json() if ours else {"detail": answer.reason_phrase}
        self.status, self.detail, faults = answer.status_code, str(said["detail"]), said.get("errors", [])
        self.faults = {next(each[name] for name in each if name != "detail"): each["detail"] for each in faults}
        super().__init__(f"{self.status}: {self.detail} {self.faults or ''}".rstrip())


class Millrace:
    """The API at `base` ("https://mail.example.com") with a key's secret; `http` is for all that is not here.

    A call goes on for `patience` seconds, then raises Problem where it is refused, or httpx.TransportError. Where your
    program may end amid one give a `key` of your own: the same call under it is done once within a day.
    """

    def __init__(self, base: str, secret: str, *, patience: float = 120.0, timeout: float = 30.0) -> None:
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        self.http = httpx.Client(base_url=f"{base.rstrip('/')}/api/v1", headers=headers, timeout=timeout)
        self.patience = patience

    def send(self, message: Message, *, key: str | None = None) -> str:
        """The message's id."""
        return self.send_many([message], key=key)[0]

    def send_many(self, messages: Sequence[Message], *, key: str | None = None) -> list[str]:
        """Ids, in order. Of each thousand all are taken over, or none."""
        return self._put("/messages", messages, key)

    def put_leads(self, leads: Sequence[Lead], *, key: str | None = None) -> list[int]:
        """Add leads, or change those whose address is known; ids, in order. Of each thousand all are put, or none."""
        return self._put("/leads", leads, key)

    def status(self, message_id: str) -> Status:
        return cast(Status, self._ask("GET", f"/messages/{message_id}").json())

    def cancel(self, message_id: str) -> bool:
        """Call a message back; False where it has left, is just leaving, or was called back before."""
        return self._ask("DELETE", f"/messages/{message_id}", key=str(uuid4()), or_else=409).status_code == 204

    def _put(self, path: str, things: Sequence[Any], key: str | None) -> list[Any]:
        key, ids = key or str(uuid4()), []
        for first in range(0, len(things), MOST):
            ids += self._ask("POST", path, things[first : first + MOST], f"{key}-{first}").json()["ids"]
        return ids

    def _ask(self, method: str, path: str, body: object = None, key: str = "", or_else: int = 0) -> httpx.Response:
        content = None if body is None else json.dumps(body, default=datetime.isoformat)
        headers = {"Idempotency-Key": key} if key else {}
        until = time.monotonic() + self.patience
        for tries in count():
            wait = random.uniform(0.5, 1.0) * 2 ** min(tries, 5)
            try:
                answer = self.http.request(method, path, content=content, headers=headers)
            except LOST:
                if time.monotonic() + wait > until:
                    raise
            else:
                after = answer.headers.get("Retry-After", "")
                wait = float(after) if after.isdecimal() else wait
                again = answer.status_code in NOT_NOW or (answer.status_code == 409 and after)
                if not again or time.monotonic() + wait > until:
                    break
            time.sleep(wait)
        if answer.is_success or (answer.status_code == or_else and not after):
            return answer
        raise Problem(answer)
