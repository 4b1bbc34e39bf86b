"""Figures: what emails came to, counted by kind of event, with machines' opens and clicks apart from people's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

from app.mail import OUTCOMES


@dataclass(frozen=True, slots=True)
class Figures:
    """Events by kind, as sums of their weights. `opened` and `clicked` are people's; each open and click counts."""

    sent: int = 0
    refused: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    unknown: int = 0
    deferred: int = 0
    delivered: int = 0
    bounced: int = 0
    complained: int = 0
    opened: int = 0
    clicked: int = 0
    unsubscribed: int = 0
    opened_by_machines: int = 0
    clicked_by_machines: int = 0

    @property
    def emails(self) -> int:
        """Outcomes of all six kinds: one a lead and run."""
        return sum(getattr(self, kind.value) for kind in OUTCOMES)

    @classmethod
    def fold(cls, facts: Iterable[tuple[str, bool, int]]) -> Self:
        """From (kind, machine, total)."""
        sums: Counter[str] = Counter()
        for kind, machine, total in facts:
            apart = f"{kind}_by_machines" if machine else kind
            sums[apart if apart in NAMES else kind] += total
        return cls(**sums)


NAMES = frozenset(field.name for field in fields(Figures))
