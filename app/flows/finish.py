"""Finishing: a campaign ends only when the audience, its ranges and its events say the same."""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from app.mail import OUTCOMES
from app.models import campaign, event, outbox
from app.models.outbox import Progress
from app.runtime import Runtime

log = logging.getLogger(__name__)


def try_finish(runtime: Runtime, campaign_id: int) -> str | None:
    """Close a campaign that has nothing open; the state it is in then, None where it still has work.

    `settling` while some outcomes are unknown; `finished` when none is. Where the sums differ it stays and says so.
    """
    with runtime.db.begin() as conn:
        if outbox.has_open(conn, campaign_id):
            return None
        return _close(conn, campaign_id)


def finish_due(runtime: Runtime) -> int:
    """Close every campaign that nobody has closed, as after a crash between the last page and its finish."""
    with runtime.db.begin() as conn:
        ready = campaign.handed_over(conn)
    return sum(try_finish(runtime, campaign_id) is not None for campaign_id in ready)


def _close(conn: Connection, campaign_id: int) -> str | None:
    standing = campaign.lock_state(conn, campaign_id)  # locked: of two last pages one closes the campaign
    if standing.state not in ("sending", "settling") or outbox.has_open(conn, campaign_id):
        return None
    sums = outbox.progress(conn, campaign_id, standing.run)
    if sums.open:
        return None  # a quarantined range waits for a person
    waits = sums.unknown and not (standing.state == "settling" and standing.waited_enough)
    if waits and standing.state == "settling":
        return "settling"  # nothing has changed: the events need no counting
    record = event.count_outcomes(conn, campaign_id, standing.run, standing.launched_at)
    fault = differences(sums, record)
    if fault is not None:
        log.error("campaign %s does not add up: %s", campaign_id, fault)
        campaign.note(conn, campaign_id, f"The counts differ, so it is not finished: {fault}.")
        return None
    to = "settling" if waits else "finished"
    campaign.move(conn, campaign_id, to)
    return to


def differences(sums: Progress, events: dict[str, int]) -> str | None:
    """What does not add up, in words; None where audience, ranges and events agree."""
    faults = [] if sums.adds_up else [f"audience {sums.audience} is not the sum of its outcomes"]
    for kind in OUTCOMES:
        ranges, record = getattr(sums, kind.value), events.get(kind.value, 0)
        if ranges != record:
            faults.append(f"{kind.value}: ranges count {ranges}, events {record}")
    return "; ".join(faults) or None
