"""The sink's webhooks: what became of every accepted email, posted in the background, signed, again until it is taken.

A thread of its own does it, so that no call waits for it. What waits is in memory, and bounded: what comes beyond that
is dropped and counted.
"""

from __future__ import annotations

import logging
import random
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import httpx
import orjson

from app.providers.standard import sign
from cli.sink_behaviour import Behaviour

log = logging.getLogger(__name__)

MOST: Final = 1_500_000  # emails of which something is still to be told
LINGER: Final = 0.05  # seconds that an event waits for others to go with it
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # seconds between tries of a post that was not taken
GIVE_UP: Final = 3600.0  # seconds after the first try
LINK = re.compile(r'href="(https?://[^"]+)"')


class Email(NamedTuple):
    """An accepted email. `call` has its campaign, run and hand-off; `url` is a link in it."""

    call: tuple[int, int, int]
    lead: int
    address: str
    ref: str
    url: str | None


class Step(NamedTuple):
    """What is to be told of some emails next, when it is due (by time.monotonic): accepted, delivered, answered."""

    due: float
    stage: str
    emails: Sequence[Email]


@dataclass(slots=True)
class Counts:
    """Sums since the start; told = taken by the receiver, repeats left out."""

    events: int = 0
    told: int = 0
    lost: int = 0
    beyond: int = 0
    given_up: int = 0
    posts: int = 0
    repeats: int = 0
    retries: int = 0
    trouble: str = ""


class Webhooks:
    """Tells one receiver. `behaviour` is asked anew for every post, for it changes while the sink runs."""

    def __init__(self, behaviour: Callable[[], Behaviour], seed: int, secret: str = "") -> None:
        self.behaviour = behaviour
        self.secret = secret
        self.random = random.Random(seed)
        self.nonce = secrets.token_hex(4)
        self.number = 0
        self.counts = Counts()
        self.generation = 0
        self.steps: deque[Step] = deque()  # every step follows by the same delay, so they stand in order
        self.again: deque[tuple[float, str, bytes]] = deque()
        self.buffer: list[dict[str, Any]] = []
        self.came = self.went = 0  # emails; each is written by one thread alone
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None

    def tell(self, call: dict[str, Any], letters: Iterable[tuple[dict[str, Any], str]]) -> None:
        """Report on these accepted letters, each with its ref, by and by."""
        behaviour = self.behaviour()
        if not behaviour.webhook:
            return
        ids = (call["campaign"], call["run"], call["handoff"])
        emails = [Email(ids, each["lead"], each["to"], ref, _link(each, behaviour)) for each, ref in letters]
        if self.came - self.went + len(emails) > MOST:
            self.counts.beyond += len(emails)
            return
        self.came += len(emails)
        self.steps.append(Step(time.monotonic() + behaviour.webhook_delay, "accepted", emails))
        if self.thread is None:
            self.thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
            self.thread.start()

    def stats(self) -> dict[str, Any]:
        return asdict(self.counts) | {"waiting": self.came - self.went}

    def reset(self) -> None:
        """Forget what waits and what was counted."""
        self.generation += 1
        self.steps.clear()
        self.again.clear()
        self.counts, self.buffer, self.came, self.went = Counts(), [], 0, 0

    def close(self) -> None:
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(15)

    def _run(self) -> None:
        with httpx.Client(timeout=10.0, trust_env=False) as client:
            while not self.stopping.wait(LINGER if self._is_idle() else 0):
                try:
                    self._turn(client)
                except Exception:  # a sink that falls silent would look like a fault of the receiver
                    log.exception("telling failed")

    def _is_idle(self) -> bool:
        now = time.monotonic()
        return not (self.steps and self.steps[0].due <= now) and not (self.again and self.again[0][0] <= now)

    def _turn(self, client: httpx.Client) -> None:
        """Take what is due until a post is full, and post it; a post that is not full goes when nothing else is due."""
        size = self.behaviour().webhook_batch
        while len(self.buffer) < size and self.steps and self.steps[0].due <= time.monotonic():
            self._take(self.steps.popleft())
        while len(self.buffer) >= size or (self.buffer and self._is_idle()):
            events, self.buffer = self.buffer[:size], self.buffer[size:]
            self._post(client, f"msg_{secrets.token_hex(12)}", orjson.dumps({"events": events}), len(events))
        if self.again and self.again[0][0] <= time.monotonic():
            _, name, body = self.again.popleft()
            self._post(client, name, body, 0)

    def _take(self, step: Step) -> None:
        """Events of this step, and the steps that follow from it."""
        behaviour, now = self.behaviour(), datetime.now(UTC).isoformat()
        onward: list[Email] = []
        for email in step.emails:
            for type_, more, goes_on in self._fates(step.stage, behaviour, email):
                self._event(email, type_, now, more, behaviour.webhook_lose)
                if goes_on:
                    onward.append(email)
        self.went += len(step.emails) - len(onward)
        if onward:
            stage = "delivered" if step.stage == "accepted" else "answered"
            self.steps.append(Step(time.monotonic() + behaviour.webhook_delay, stage, onward))

    def _fates(self, stage: str, behaviour: Behaviour, email: Email) -> Iterator[tuple[str, dict[str, Any], bool]]:
        """(type, more of it, whether there is a next step) for an email at this stage."""
        draw = self.random.random
        if stage == "accepted":
            dropped = draw() < behaviour.drop
            yield ("dropped", {"reason": "suppressed"}, False) if dropped else ("accepted", {}, True)
        elif stage == "delivered":
            answers = behaviour.complain + behaviour.open + behaviour.click > 0
            if draw() < behaviour.bounce:
                yield "bounced", {"bounce": "hard", "reason": "550 5.1.1 No such mailbox"}, False
            else:
                yield "delivered", {}, answers
        else:
            if draw() < behaviour.open:
                yield "opened", {}, False
            if draw() < behaviour.click:
                yield "clicked", {"url": email.url}, False
            if draw() < behaviour.complain:
                yield "complained", {}, False

    def _event(self, email: Email, type_: str, now: str, more: dict[str, Any], lose: float) -> None:
        self.number += 1
        self.counts.events += 1
        if lose and self.random.random() < lose:
            self.counts.lost += 1
            return
        campaign, run, handoff = email.call
        told = {"id": f"{self.nonce}-{self.number}", "type": type_, "time": now, "campaign": campaign, "run": run}
        told |= {"handoff": handoff, "lead": email.lead, "ref": email.ref, "address": email.address}
        self.buffer.append(told | more)

    def _post(self, client: httpx.Client, name: str, body: bytes, events: int) -> None:
        """Post until it is taken, signed anew each time; `events` are those in it that were not told before."""
        generation, began, wait = self.generation, time.monotonic(), FIRST_WAIT
        while not self._is_taken(client, name, body):
            if generation != self.generation:
                return
            if time.monotonic() - began > GIVE_UP or self.stopping.wait(wait):
                self.counts.given_up += events
                return
            self.counts.retries += 1
            wait = min(wait * 2, LONGEST_WAIT)
        if generation != self.generation:
            return
        self.counts.posts += 1
        self.counts.told += events
        self.counts.repeats += not events
        behaviour = self.behaviour()
        if events and self.random.random() < behaviour.webhook_repeat:
            self.again.append((time.monotonic() + behaviour.webhook_delay, name, body))

    def _is_taken(self, client: httpx.Client, name: str, body: bytes) -> bool:
        url = self.behaviour().webhook
        if not url:  # switched off meanwhile
            return True
        try:
            headers = sign(name, body, self.secret) | {"content-type": "application/json"}
            answer = client.post(url, content=body, headers=headers)
        except Exception as error:
            self.counts.trouble = repr(error)[:200]
            return False
        if not answer.is_success:
            self.counts.trouble = f"{answer.status_code} {answer.text[:200]}"
        return answer.is_success


def _link(letter: dict[str, Any], behaviour: Behaviour) -> str | None:
    found = LINK.search(letter["html"]) if behaviour.click else None
    return found[1] if found else None
