"""How fast a campaign goes: measured between what its page saw some seconds ago and what it sees now.

The page carries its last two samples in the address that it fetches, so nothing is kept here and none is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask import request

from app.models.campaign_list import Line

STEP: Final = 4.0  # seconds between samples: the rate spans one to two of them


@dataclass(frozen=True, slots=True)
class Pace:
    """`rate` in emails a second over `span` seconds, None while too little was seen; `seen` goes into the next address.

    `left` is in seconds, None where what is left waits for more than its turn; `mean` is over the whole campaign, once
    it has come to its end.
    """

    rate: float | None
    span: float
    left: float | None
    mean: float | None
    seen: str


def read_pace(line: Line, *, waits: bool = False) -> Pace:
    """The pace of a campaign, as its page has seen it so far. `waits`: what is left goes at a time of its own."""
    now = (line.read_at.timestamp(), line.gone)
    samples = [sample for sample in _samples(request.args.get("seen", "")) if now[0] - 60 < sample[0] <= now[0]]
    rate, span = None, 0.0
    if samples and line.state == "sending":
        span = now[0] - samples[0][0]
        if span >= 0.9:
            rate = max(0.0, (now[1] - samples[0][1]) / span)
    left = line.open / rate if rate and line.open and not waits else None
    if not samples or now[0] - samples[-1][0] >= STEP:
        samples.append(now)
    return Pace(rate, span, left, _mean(line), "_".join(f"{at:.2f}-{gone}" for at, gone in samples[-2:]))


def _mean(line: Line) -> float | None:
    if line.launched_at is None or line.finished_at is None:
        return None
    seconds = (line.finished_at - line.launched_at).total_seconds()
    return line.gone / seconds if seconds > 0 else None


def _samples(written: str) -> list[tuple[float, int]]:
    """From the address; what is not ours gives none."""
    try:
        pairs = [piece.split("-") for piece in written[:100].split("_") if piece]
        return [(float(at), int(gone)) for at, gone in pairs][:2]
    except ValueError:
        return []
