"""How many alerts are open: the figure beside their room, on every page, counted every few seconds at most."""

from __future__ import annotations

import time
from typing import Final

from flask import current_app, g

from app.models import alert
from web.context import me, runtime

LASTS: Final = 3.0  # seconds that a count is good for


def count_open() -> int:
    """Open alerts of the reader's organisation. A page that tells of an error shows what is known and asks nothing."""
    organisation_id = me().organisation_id
    count, at = _counts().get(organisation_id, (0, 0.0))
    if time.monotonic() - at > LASTS and "problem" not in g:
        with runtime().db.begin() as conn:
            count = alert.count_open(conn, organisation_id)
        _counts()[organisation_id] = count, time.monotonic()
    return count


def forget(organisation_id: int) -> None:
    """Count anew on the next page."""
    _counts().pop(organisation_id, None)


def _counts() -> dict[int, tuple[int, float]]:
    """Organisation → count, and when it was counted (monotonic)."""
    counts: dict[int, tuple[int, float]] = current_app.extensions.setdefault("alert_count", {})
    return counts
