"""Telling of campaigns whose time has come, and that cannot be started: others go on, and nobody would know."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from app.db import words_of
from app.flows.one_by_one import do_each
from app.models import alert, schedule
from app.models.alert import Kind
from app.models.schedule import Standing
from app.runtime import Runtime

# It is tried every second: what fails once, as of two that wait for each other, is nobody's business.
LONG: Final = timedelta(minutes=1)


def tell(runtime: Runtime, campaign_id: int, error: Exception) -> None:
    """Raise the alert of a campaign that should have started a minute ago, and failed to once more."""
    with runtime.db.begin() as conn:
        standing = schedule.find(conn, campaign_id)
        if _is_due(standing, LONG):
            message = f"It was to start at {standing.start_at:%Y-%m-%d %H:%M} UTC, and cannot: {words_of(error)}"[:500]
            alert.raise_alert(conn, Kind.NOT_STARTED, campaign_id, message)


def clear_over(runtime: Runtime) -> int:
    """Clear the alerts of campaigns that have started, or that somebody saw to otherwise; how many."""
    with runtime.db.begin() as conn:
        told = alert.find_subjects(conn, Kind.NOT_STARTED)
    return do_each(told, lambda campaign_id: _clear(runtime, campaign_id), "clearing the alert of campaign")


def _clear(runtime: Runtime, campaign_id: int) -> bool:
    with runtime.db.begin() as conn:
        over = not _is_due(schedule.find(conn, campaign_id))
        if over:
            alert.clear(conn, Kind.NOT_STARTED, campaign_id)
    return over


def _is_due(standing: Standing, since: timedelta = timedelta(0)) -> bool:
    """Whether a campaign should have started so long ago."""
    return standing.state == "scheduled" and standing.start_at is not None and standing.start_at <= standing.now - since
