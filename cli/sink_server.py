"""The sink's HTTP side: a provider that takes real calls, answers as it is told to, and delivers nothing."""

from __future__ import annotations

import asyncio
import hashlib
import html
import os
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import orjson

from app.message_ids import is_message
from cli.sink_behaviour import Behaviour
from cli.sink_book import Answered, Book
from cli.sink_webhooks import Webhooks

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY = 64 << 20  # bytes of one call
ACCEPTED, REFUSED, DEFERRED = b"ard"
SAID = {ACCEPTED: "accepted", REFUSED: "refused"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `lost`: do everything but answer."""

    status: int
    body: bytes
    kind: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    lost: bool = False


class Sink:
    """An ASGI application over one book; it lives in one process, for its counts are in memory."""

    def __init__(self, behaviour: Behaviour, seed: int, log: str | None = None, secret: str = "") -> None:
        self.behaviour = behaviour
        self.seed = seed
        self.random = random.Random(seed)
        self.book = Book()
        self.webhooks = Webhooks(lambda: self.behaviour, seed, secret)
        self.next_ref = 1
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else None
        self.doors: dict[tuple[str, str], Callable[[Scope, bytes], Answer]] = {
            ("POST", "/send"): lambda scope, body: self.take(body),
            ("GET", "/health"): lambda scope, body: _json({"accepted": self.book.counts.accepted}),
            ("GET", "/stats"): lambda scope, body: _json(self.stats()),
            ("POST", "/lookup"): lambda scope, body: self.look_up(body),
            ("GET", "/messages"): self.show_messages,
            ("GET", "/"): lambda scope, body: self.show_page(),
            ("POST", "/settings"): self.change,
            ("POST", "/reset"): self.reset,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Only `/send` waits: a slow provider still answers questions about itself at once."""
        door = self.doors.get((scope["method"], scope["path"]))
        body = await _read(receive)
        if body is None:
            answer = _problem(413, f"A call is at most {BODY} bytes.")
        elif door is None:
            answer = _problem(404, "There is POST /send, /lookup, /settings, /reset and GET /, /stats, /messages.")
        else:
            answer = door(scope, body)
        if scope["path"] == "/send" and self.behaviour.latency:
            await asyncio.sleep(self.behaviour.latency)
        if answer.lost and self.behaviour.unsure_how == "silence":
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await _answer(send, answer)

    def take(self, body: bytes) -> Answer:
        """One call: what comes of each letter is decided and counted before the reply sets out."""
        behaviour, counts = self.behaviour, self.book.counts
        counts.calls += 1
        counts.bytes += len(body)
        if behaviour.down and self.random.random() < behaviour.down:
            counts.calls_down += 1
            return _problem(503, "Down, as told to be.", (b"retry-after", b"%d" % behaviour.retry_after))
        try:
            call = orjson.loads(body)
            key = UUID(call["key"]).bytes
            letters = _letters(call)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return self._refuse_call(400, f"This is no call: {error!r}.")
        if len(letters) > behaviour.batch:
            return self._refuse_call(422, f"A call has at most {behaviour.batch} letters.")
        digest = hashlib.blake2b(body, digest_size=16).digest() if behaviour.idempotent else b""
        before = self.book.keys.get(key)
        if behaviour.idempotent and before is not None:
            if before.digest != digest:
                counts.calls_conflicting += 1
                return _problem(409, "This key came with another body.")
            counts.calls_repeated += 1
            return self._reply(_results(letters, before.first_ref, before.statuses))
        if key in self.book.keys:
            counts.calls_repeated += 1
        statuses = self._decide(letters)
        if behaviour.strict and REFUSED in statuses:
            bad = letters[statuses.index(REFUSED)]["to"]
            return self._refuse_call(422, f"The address {bad} is refused, and with it the call.")
        self._accept(call, letters, statuses)
        self.book.keep_call(call["handoff"], [letter["lead"] for letter in letters], statuses)
        answered = Answered(digest, self.next_ref, statuses)
        self.book.remember(key, answered if behaviour.idempotent else None)
        self.next_ref += len(letters)
        return self._reply(_results(letters, answered.first_ref, statuses))

    def _reply(self, answer: Answer) -> Answer:
        """The answer, or what is left of it where replies are lost: those to repeated calls no less than others."""
        if not self.behaviour.unsure or self.random.random() >= self.behaviour.unsure:
            return answer
        self.book.counts.calls_unsure += 1
        if self.behaviour.unsure_how == "error":
            return _problem(500, "Something went wrong after all, as told to.")
        return replace(answer, lost=True)

    def _decide(self, letters: list[dict[str, Any]]) -> bytes:
        """One status a letter. A bad address is refused whatever the rates say."""
        refuse, defer, draw = self.behaviour.refuse, self.behaviour.defer, self.random.random
        statuses = bytearray(len(letters))
        for at, letter in enumerate(letters):
            if "@" not in letter["to"] or (refuse and _share(letter["lead"] ^ self.seed) < refuse):
                statuses[at] = REFUSED
            elif defer and draw() < defer:
                statuses[at] = DEFERRED
            else:
                statuses[at] = ACCEPTED
        return bytes(statuses)

    def _accept(self, call: dict[str, Any], letters: list[dict[str, Any]], statuses: bytes) -> None:
        accepted = [letter for letter, status in zip(letters, statuses, strict=True) if status == ACCEPTED]
        self.book.counts.refused += statuses.count(REFUSED)
        self.book.counts.deferred += statuses.count(DEFERRED)
        self.book.accept(call, accepted)
        self.webhooks.tell(
            call,
            [
                (letter, f"sink-{self.next_ref + at}")
                for at, (letter, status) in enumerate(zip(letters, statuses, strict=True))
                if status == ACCEPTED
            ],
        )
        if self.log is not None and accepted:
            leads = ",".join([str(letter["lead"]) for letter in accepted])
            line = f"{call['campaign']} {call['run']} {call['handoff']} {call['key']} {leads} {time.time():.3f}\n"
            os.write(self.log, line.encode())

    def _refuse_call(self, status: int, message: str) -> Answer:
        self.book.counts.calls_refused += 1
        return _problem(status, message)

    def stats(self) -> dict[str, Any]:
        return self.book.stats() | {"webhooks": self.webhooks.stats(), "settings": asdict(self.behaviour)}

    def look_up(self, body: bytes) -> Answer:
        """What became of a hand-off's emails, for whoever lost the reply; leads that were put off are not named."""
        try:
            calls = self.book.calls.get(orjson.loads(body)["handoff"], [])
        except (KeyError, TypeError, ValueError) as error:
            return _problem(400, f"This is no question: {error!r}.")
        said = [each for leads, statuses in calls for each in zip(leads, statuses, strict=True)]
        return _json({"known": [(lead, SAID[status]) for lead, status in said if status in SAID]})

    def show_messages(self, scope: Scope, body: bytes) -> Answer:
        wanted = parse_qs(scope["query_string"].decode("latin-1")).get("n", ["10"])[0]
        return _json(self.book.messages(int(wanted) if wanted.isdecimal() else 10))

    def show_page(self) -> Answer:
        """For people. A letter's HTML is shown in a frame that may neither run scripts nor load anything."""
        stats = self.book.stats()
        rows = "".join(
            f"<tr><th>{name.replace('_', ' ')}<td>{value}" for name, value in stats.items() if name != "campaigns"
        )
        letters = "".join(
            f"<details><summary>{html.escape(each['to'])}: {html.escape(each['subject'])}</summary>"
            f'<iframe sandbox srcdoc="{html.escape(each["html"])}"></iframe></details>'
            for each in self.book.messages(20)
        )
        page = f"{HEAD}<table>{rows}</table><h2>The last letters</h2>{letters or '<p>None yet.'}"
        policy = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'")
        return Answer(200, page.encode(), b"text/html; charset=utf-8", (policy,))

    def change(self, scope: Scope, body: bytes) -> Answer:
        if (refusal := _outsider(scope)) is not None:
            return refusal
        try:
            self.behaviour = self.behaviour.changed(orjson.loads(body))
        except ValueError as error:
            return _problem(400, str(error))
        return _json(asdict(self.behaviour))

    def reset(self, scope: Scope, body: bytes) -> Answer:
        """Forget every count, so that one process serves many trials."""
        if (refusal := _outsider(scope)) is not None:
            return refusal
        self.book = Book()
        self.webhooks.reset()
        return _json(self.book.stats())


HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>The sink</title><style>"
    "body{font:16px system-ui;margin:2rem} th{text-align:left;padding-right:2rem} iframe{width:100%;height:24rem}"
    "</style><h1>The sink</h1><p>A provider that accepts and delivers nothing. Figures: <a href=/stats>/stats</a>; "
    "the last letters: <a href='/messages?n=10'>/messages</a>; POST /settings changes how it answers.</p>"
)


def _letters(call: dict[str, Any]) -> list[dict[str, Any]]:
    """The letters of a call; raises KeyError, TypeError or ValueError where one lacks what every email needs."""
    if min(call["campaign"], call["run"], call["handoff"]) < 0 or "@" not in call["from"]["address"]:
        raise ValueError("campaign, run, handoff and from")
    letters: list[dict[str, Any]] = call["letters"]
    for letter in letters:
        if type(letter["lead"]) is not int or not 0 < letter["lead"] < 1 << 63:
            raise ValueError("lead")
        letter["to"] + letter["subject"] + letter["html"] + letter["text"]
        offered = letter["headers"].get("List-Unsubscribe")
        # a message may be what its reader asked for: then it offers none
        if not (offered.startswith("<http") if offered is not None else is_message(letter["lead"])):
            raise ValueError("List-Unsubscribe")
    return letters


def _share(number: int) -> float:
    """A number between 0 and 1 that is always the same for the same lead (the finaliser of splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (number ^ (number >> 31)) / 2.0**64


def _results(letters: list[dict[str, Any]], first_ref: int, statuses: bytes) -> Answer:
    results: list[dict[str, object]] = []
    for at, (letter, status) in enumerate(zip(letters, statuses, strict=True)):
        if status == ACCEPTED:
            results.append({"lead": letter["lead"], "status": "accepted", "id": f"sink-{first_ref + at}"})
        elif status == REFUSED:
            results.append({"lead": letter["lead"], "status": "refused", "reason": "550 5.1.1 No such mailbox"})
        else:
            results.append({"lead": letter["lead"], "status": "deferred", "reason": "451 4.7.1 Try again later"})
    return _json({"results": results})


def _json(value: object) -> Answer:
    return Answer(200, orjson.dumps(value))


def _problem(status: int, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    return Answer(status, orjson.dumps({"error": message}), headers=headers)


def _outsider(scope: Scope) -> Answer | None:
    """Settings are for this machine alone, and not for web pages open on it: JSON needs a preflight, which fails."""
    headers = dict(scope["headers"])
    if not ip_address(scope["client"][0]).is_loopback:
        return _problem(403, "Only from this machine.")
    if headers.get(b"content-type", b"").split(b";")[0] != b"application/json":
        return _problem(415, "Send application/json.")
    return None


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None for one that is too long."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY:
            return None
        if not message.get("more_body"):
            return b"".join(chunks) if len(chunks) > 1 else chunk


async def _answer(send: Send, answer: Answer) -> None:
    headers = [(b"content-type", answer.kind), (b"content-length", b"%d" % len(answer.body)), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if not answer.lost:  # left unfinished, the server cuts the connection
        await send({"type": "http.response.body", "body": answer.body})
