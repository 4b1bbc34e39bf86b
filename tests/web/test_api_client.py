"""Promises of the client that people copy (web/static/millrace_client.py): each call is done once, whatever is lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.flows import api_keys, message_templates, range_messages, send_range
from app.flows.message_templates import TemplateDraft
from app.models.api_key import SCOPES
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.web_server import running_web
from web.static.millrace_client import Lead, Message, Millrace, Problem

ANN = Message(to="ann@example.com", template="Receipt", data={"number": 7})


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(replace(settings, look_every=0.1))
    yield opened
    opened.close()


@pytest.fixture
def web(runtime: Runtime, peer: Peer) -> Iterator[str]:
    """Its address; there is one organisation, with the template Receipt."""
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, provider_url=peer.url)
    draft = TemplateDraft("Receipt", "Order {{ data.number }}", "<p>Thank you.</p>")
    message_templates.create(runtime, built.organisation_id, built.user_id, draft)
    with running_web(runtime) as base:
        yield base


@contextmanager
def client(runtime: Runtime, base: str, *, patience: float = 30.0, per_minute: int = 6000) -> Iterator[Millrace]:
    with runtime.db.begin() as conn:
        organisation_id, user_id = conn.execute(text('SELECT organisation_id, id FROM "user"')).one()
    made = api_keys.create(runtime, organisation_id, user_id, "Shop", tuple(SCOPES), per_minute=per_minute)
    millrace = Millrace(base, made.secret, patience=patience)
    with millrace.http:
        yield millrace


@dataclass(slots=True)
class Line:
    """A bad line to the server: what happens to the next requests, and the keys that they came with.

    "": nothing; "lost": it never arrives; "unheard": its answer never does; a number: somebody between answers that.
    """

    base: str
    moods: deque[str]
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def bad_line(base: str, *moods: str) -> Iterator[tuple[str, Line]]:
    line = Line(base, deque(moods))

    class Way(BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            line.keys.append(self.headers.get("Idempotency-Key"))
            mood = line.moods.popleft() if line.moods else ""
            if mood.isdecimal():
                self.send_response(int(mood))
                self.send_header("Retry-After", "2")
                self.end_headers()
                return
            if mood != "lost":
                kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                answer = httpx.request(self.command, line.base + self.path, content=body, headers=kept)
            if not mood:
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.end_headers()
                self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = pass_on

        def log_message(self, *_: object) -> None:
            """Not on the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Way)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", line
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def stored(runtime: Runtime) -> int:
    with runtime.db.begin() as conn:
        return int(conn.execute(text("SELECT count(*) FROM message")).scalar_one())


def test_messages_are_sent_looked_at_and_called_back_and_leads_are_put(runtime: Runtime, web: str, peer: Peer) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    with client(runtime, web) as millrace:
        first = millrace.send(ANN)
        many = [Message(to=f"lead{n}@example.com", template="Receipt", send_at=later) for n in range(1500)]
        ids = millrace.send_many(many, key="monday")
        assert millrace.send_many(many, key="monday") == ids
        assert len(set(ids)) == 1500
        assert millrace.status(ids[1200])["to"] == "lead1200@example.com"
        assert millrace.status(ids[0])["state"] == "scheduled"
        assert millrace.cancel(ids[0])
        assert not millrace.cancel(ids[0])
        assert millrace.status(ids[0])["state"] == "cancelled"
        range_messages.cut_due(runtime)
        send_range.drain(runtime)
        status = millrace.status(first)
        assert (status["state"], [step["kind"] for step in status["events"]]) == ("sent", ["sent"])
        leads = [Lead(email=f"c{n}@example.com", attributes={"orders": n}) for n in range(1200)]
        numbers = millrace.put_leads(leads)
        assert millrace.put_leads(leads[::-1]) == numbers[::-1]
        assert millrace.http.get(f"/leads/{numbers[1100]}").json()["email"] == "c1100@example.com"


def test_a_refusal_names_the_fields_and_is_not_tried_again(runtime: Runtime, web: str) -> None:
    with bad_line(web) as (base, line), client(runtime, base) as millrace:
        with pytest.raises(Problem) as raised:
            millrace.send_many([ANN, Message(to="nobody", template="Recipt")])
        with pytest.raises(Problem) as missing:
            millrace.status("msg_00000000000")
        with pytest.raises(Problem):
            millrace.cancel("msg_00000000000")
    assert raised.value.status == 422
    assert raised.value.faults.keys() == {"/1/to", "/1/template"}
    assert "There is no template named 'Recipt'." in str(raised.value)
    assert (missing.value.status, missing.value.faults) == (404, {})
    assert len(line.keys) == 3
    assert stored(runtime) == 0


def test_whatever_is_lost_on_the_way_a_message_is_taken_over_once(runtime: Runtime, web: str) -> None:
    with bad_line(web, "lost", "unheard", "unheard", "503") as (base, line), client(runtime, base) as millrace:
        message_id = millrace.send(ANN)
        assert len(line.keys) == 5
        assert len(set(line.keys)) == 1 and line.keys[0]
        line.moods.append("unheard")
        assert millrace.cancel(message_id)
        assert millrace.send(ANN) != message_id
        assert line.keys[-1] not in line.keys[:-1]
    assert stored(runtime) == 2


@pytest.mark.parametrize("mood", ["429", "503", "409"])
def test_who_is_told_when_to_ask_again_asks_then(runtime: Runtime, web: str, mood: str) -> None:
    with bad_line(web, mood) as (base, line), client(runtime, base) as millrace:
        begun = time.monotonic()
        millrace.send(ANN)
        assert time.monotonic() - begun >= 2
    assert len(line.keys) == 2


def test_who_asks_for_the_same_at_once_gets_the_same_answer(runtime: Runtime, web: str) -> None:
    many = [ANN] * 1000
    found: list[list[str]] = []
    with client(runtime, web) as millrace:
        threads = [
            threading.Thread(target=lambda: found.append(millrace.send_many(many, key="same"))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4
    assert all(each == found[0] for each in found)
    assert stored(runtime) == 1000


def test_a_call_ends_when_its_patience_would(runtime: Runtime, web: str) -> None:
    with client(runtime, web, per_minute=1, patience=0.0) as millrace:
        millrace.send(ANN)
        begun = time.monotonic()
        with pytest.raises(Problem) as raised:
            millrace.send(ANN)
        assert raised.value.status == 429
    with bad_line(web, *["lost"] * 9) as (base, line), client(runtime, base, patience=0.8) as millrace:
        with pytest.raises(httpx.RemoteProtocolError):
            millrace.send(ANN)
        assert 1 <= len(line.keys) < 4
    assert time.monotonic() - begun < 5
