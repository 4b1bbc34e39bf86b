"""What the sink has seen: a bit per lead and run, a small entry per idempotency key, the last letters to look at."""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

PAGE = 12  # bits: a page of 4,096 leads is 512 bytes, so five million leads in a row take under 1 MB
KEYS = 250_000  # idempotency keys remembered, the oldest forgotten first: 12 million emails at 50 a call
KEPT = 500  # letters kept to look at
CALLS = 10_000  # hand-offs that can be looked up, the oldest forgotten first


class Leads:
    """A set of lead ids as pages of bits; memory follows the ids' spread, not the number of emails."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.distinct = 0

    def add(self, leads: Sequence[int]) -> int:
        """Put them in; gives how many of them were there already."""
        pages, repeated = self.pages, 0
        for lead in leads:
            number, at = lead >> PAGE, lead & ((1 << PAGE) - 1)
            page = pages.get(number)
            if page is None:
                page = pages[number] = bytearray(1 << (PAGE - 3))
            bit = 1 << (at & 7)
            if page[at >> 3] & bit:
                repeated += 1
            else:
                page[at >> 3] |= bit
        self.distinct += len(leads) - repeated
        return repeated


@dataclass(slots=True)
class Run:
    """One campaign's run: emails accepted, and how many of them had been accepted before."""

    accepted: int = 0
    duplicates: int = 0
    leads: Leads = field(default_factory=Leads)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a key was answered: enough to say the same again, whatever the rates are by then."""

    digest: bytes
    first_ref: int
    statuses: bytes


@dataclass(slots=True)
class Counts:
    """Sums since the start. `accepted` counts emails with repeats, so accepted = distinct + duplicates."""

    calls: int = 0
    calls_down: int = 0
    calls_refused: int = 0
    calls_unsure: int = 0
    calls_repeated: int = 0
    calls_conflicting: int = 0
    accepted: int = 0
    refused: int = 0
    deferred: int = 0
    duplicates: int = 0
    bytes: int = 0
    first_at: float = 0.0
    last_at: float = 0.0


class Book:
    """Everything counted. One thread writes it, so nothing is locked."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.runs: dict[tuple[int, int], Run] = {}
        self.keys: OrderedDict[bytes, Answered | None] = OrderedDict()
        self.calls: OrderedDict[int, list[tuple[array[int], bytes]]] = OrderedDict()
        self.last: deque[tuple[dict[str, Any], dict[str, Any]]] = deque(maxlen=KEPT)

    def accept(self, call: dict[str, Any], letters: Sequence[dict[str, Any]]) -> None:
        """Count letters of one call as accepted, the repeated ones among them as duplicates too."""
        run = self.runs.setdefault((call["campaign"], call["run"]), Run())
        repeated = run.leads.add([letter["lead"] for letter in letters])
        run.accepted += len(letters)
        run.duplicates += repeated
        counts = self.counts
        counts.accepted += len(letters)
        counts.duplicates += repeated
        counts.last_at = time.time()
        counts.first_at = counts.first_at or counts.last_at
        self.last.extend((call, letter) for letter in letters)

    def remember(self, key: bytes, answered: Answered | None) -> None:
        """Keep a key, and what it was answered where that may be asked again."""
        self.keys[key] = answered
        if len(self.keys) > KEYS:
            self.keys.popitem(last=False)

    def keep_call(self, handoff: int, leads: Sequence[int], statuses: bytes) -> None:
        """Keep what one call came to, by the hand-off that it belongs to: a halved one makes several calls."""
        self.calls.setdefault(handoff, []).append((array("q", leads), statuses))
        if len(self.calls) > CALLS:
            self.calls.popitem(last=False)

    def stats(self) -> dict[str, Any]:
        """Every figure as plain JSON; `seconds` runs from the first accepted email to the last."""
        counts = {name: getattr(self.counts, name) for name in Counts.__slots__}
        distinct = sum(run.leads.distinct for run in self.runs.values())
        seconds = self.counts.last_at - self.counts.first_at
        return counts | {
            "distinct": distinct,
            "keys": len(self.keys),
            "seconds": round(seconds, 3),
            "per_second": round(self.counts.accepted / seconds, 1) if seconds > 0 else None,
            "campaigns": [
                {
                    "campaign": campaign,
                    "run": number,
                    "accepted": run.accepted,
                    "distinct": run.leads.distinct,
                    "duplicates": run.duplicates,
                }
                for (campaign, number), run in sorted(self.runs.items())
            ],
        }

    def messages(self, number: int) -> list[dict[str, Any]]:
        """The last letters accepted, newest first, each with what its call said about all of them."""
        newest = list(self.last)[::-1][:number]
        return [{name: call[name] for name in call if name != "letters"} | letter for call, letter in newest]
