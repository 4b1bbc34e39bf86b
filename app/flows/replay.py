"""Replaying: kept posts are read anew, as if they had just come, and no figure is changed twice.

An event that was taken is known by its key for eight days, and what is older than that is not taken again. What
belonged to no email of the pool was never noted as taken: where its email is known by now, it counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from app.flows import ingest
from app.models import kept_post
from app.models.kept_post import Choice, Progress
from app.runtime import Runtime

POSTS: Final = 500  # at a time: those that come meanwhile are not held up for long
LOOK: Final = 0.2  # seconds between two looks at what other workers are reading
PATIENCE: Final = 60.0  # seconds that these may take


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it: posts read, those of them that could not be, new events, and those that still match no email."""

    posts: int = 0
    failed: int = 0
    events: int = 0
    unmatched_before: int = 0
    unmatched: int = 0


def replay(runtime: Runtime, choice: Choice) -> Replayed:
    """Read the posts anew that are there now, the oldest first, in this process and whatever worker is up."""
    done, after = Replayed(), 0
    with runtime.db.begin() as conn:
        last = kept_post.find_last(conn)
    while not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            anew = kept_post.read_anew(conn, choice, after, last, POSTS)
        if not anew.ids:
            break
        after = max(anew.ids)
        found = _read(runtime, anew.ids)
        done = Replayed(
            posts=done.posts + len(anew.ids),
            failed=done.failed + found.failed,
            events=done.events + found.events - anew.events,
            unmatched_before=done.unmatched_before + anew.unmatched,
            unmatched=done.unmatched + found.unmatched,
        )
    return done


def _read(runtime: Runtime, ids: list[int]) -> Progress:
    """Until each was read, or could not be: by us, or by a worker that was quicker."""
    until = time.monotonic() + PATIENCE
    while True:
        ingest.read_waiting(runtime)
        with runtime.db.begin() as conn:
            progress = kept_post.find_progress(conn, ids)
        if not progress.waiting or runtime.stopping.is_set() or time.monotonic() > until:
            return progress
        runtime.stopping.wait(LOOK)
