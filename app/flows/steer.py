"""Steering a launched campaign: pause, resume, cancel; each in effect within a page."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from app.flows import recur, schedule
from app.flows.one_by_one import do_each
from app.models import alert, campaign, outbox, unknown
from app.models.outbox import Progress
from app.runtime import Runtime

# What may stand of a campaign while it has work, and is over with its last lead.
OF_ITS_WORK: Final = [
    kind
    for kind, meaning in alert.MEANINGS.items()
    if meaning.about == "campaign" and meaning.lasting and kind is not alert.Kind.UNKNOWN
]


def pause(runtime: Runtime, organisation_id: int, campaign_id: int) -> None:
    """No new page is handed over from the commit on; pages in flight are settled. Raises Conflict, NotFound."""
    with runtime.db.begin() as conn:
        campaign.lock(conn, organisation_id, campaign_id)
        campaign.move(conn, campaign_id, "paused")


def resume(runtime: Runtime, organisation_id: int, campaign_id: int) -> None:
    """Go on with what is left, quarantined ranges too. Raises Conflict, NotFound."""
    with runtime.db.begin() as conn:
        if campaign.lock(conn, organisation_id, campaign_id)["state"] != "paused":
            campaign.refuse(conn, campaign_id, "resumed")
        campaign.move(conn, campaign_id, "sending")
        _release(conn, campaign_id)
        schedule.respread(conn, campaign_id, "resumed")
    runtime.ring("send", runtime.settings.worker_threads)


def unschedule(runtime: Runtime, organisation_id: int, campaign_id: int) -> None:
    """Make a scheduled campaign a draft again, to be changed or left. Raises Conflict, NotFound."""
    with runtime.db.begin() as conn:
        campaign.lock(conn, organisation_id, campaign_id)
        campaign.move(conn, campaign_id, "draft")
        recur.take_back(conn, campaign_id)


def cancel(runtime: Runtime, organisation_id: int, campaign_id: int) -> Progress:
    """Stop for good; how far it had come. What is left gets its `cancelled` events in the background."""
    with runtime.db.begin() as conn:
        campaign.lock(conn, organisation_id, campaign_id)
        campaign.move(conn, campaign_id, "cancelled")
        _release(conn, campaign_id)
        progress = outbox.progress(conn, campaign_id)
    runtime.ring("upkeep")
    return progress


def _release(conn: Connection, campaign_id: int) -> None:
    outbox.release(conn, campaign_id)
    alert.clear(conn, alert.Kind.QUARANTINED, campaign_id)


def close_cancelled(runtime: Runtime, ranges: int = 20) -> int:
    """Write the `cancelled` outcomes of what cancelled campaigns have left; how many leads that was.

    In steps of `ranges`, so that cancelling five million leads holds no lock for long.
    """
    with runtime.db.begin() as conn:
        campaigns = campaign.closing(conn)
    return do_each(campaigns, lambda campaign_id: _close(runtime, campaign_id, ranges), "closing cancelled campaign")


def _close(runtime: Runtime, campaign_id: int, ranges: int) -> int:
    closed = 0
    with runtime.db.begin() as conn:
        _release(conn, campaign_id)  # its worker may have died after the cancelling, and nobody can resume it
    while not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            done, leads = outbox.cancel_open(conn, campaign_id, ranges)
            if not done:
                campaign.lock_state(conn, campaign_id)  # whoever puts leads off at this moment has it: wait, then look
                campaign.close_cancelled(conn, campaign_id)
                _clear(conn, campaign_id)
        closed += leads
        if not done:
            break
    return closed


def _clear(conn: Connection, campaign_id: int) -> None:
    """Nothing of it goes on that alerts could be about, but for what is unknown: that stands until it is known."""
    for kind in OF_ITS_WORK:
        alert.clear(conn, kind, campaign_id)
    if not unknown.count(conn, campaign_id).calls:
        alert.clear(conn, alert.Kind.UNKNOWN, campaign_id)
