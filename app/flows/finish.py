"""Finishing: a campaign ends only when the audience, its ranges and its events say the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from app.errors import Conflict
from app.flows import reconcile
from app.flows.one_by_one import do_each
from app.flows.reconcile import Mended
from app.models import alert, campaign, outbox
from app.runtime import Runtime

log = logging.getLogger(__name__)

ENDS: Final = tuple(state for state, ways_out in outbox.MOVES.items() if not ways_out)


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
    return do_each(ready, lambda campaign_id: try_finish(runtime, campaign_id) is not None, "finishing campaign")


def mend_now(runtime: Runtime, campaign_id: int) -> Mended:
    """Mend what can be mended at an operator's word, and close the campaign where it adds up then.

    Raises Conflict while anything of it is open or under way, and where it is older than the record. Locked in
    everybody's order: the campaign, its ranges, then hand-offs; a webhook or a repeat that resolves some of it waits
    until then.
    """
    with runtime.db.begin() as conn:
        standing = campaign.lock_state(conn, campaign_id)
        if outbox.lock_all(conn, campaign_id) - set(ENDS):
            raise Conflict(f"The campaign is {standing.state} and not all of it is over: let it come to its end first.")
        mended = reconcile.mend(conn, campaign_id)
        _alarm(conn, campaign_id, mended)
    if mended.queued:
        runtime.ring("send", runtime.settings.worker_threads)
    try_finish(runtime, campaign_id)
    return mended


def _close(conn: Connection, campaign_id: int) -> str | None:
    standing = campaign.lock_state(conn, campaign_id)  # locked: of two last pages one closes the campaign
    if standing.is_stream or standing.state not in ("sending", "settling") or outbox.has_open(conn, campaign_id):
        return None
    sums = outbox.progress(conn, campaign_id)
    if sums.open:
        return None  # a quarantined range waits for a person
    waits = sums.unknown and not (standing.state == "settling" and standing.waited_enough)
    if waits and standing.state == "settling":
        return "settling"  # nothing has changed: the events need no counting
    if not _adds_up(conn, campaign_id):
        return None
    to = "settling" if waits else "finished"
    campaign.move(conn, campaign_id, to)
    cleared = [alert.Kind.PAGE_FAILED, alert.Kind.SUMS_DIFFER, *([] if sums.unknown else [alert.Kind.UNKNOWN])]
    for kind in cleared:
        alert.clear(conn, kind, campaign_id)
    return to


def _adds_up(conn: Connection, campaign_id: int) -> bool:
    """Whether audience, ranges and events agree, after mending what can be mended; else somebody is told."""
    comparison = reconcile.compare(conn, campaign_id)
    if not comparison.faults:
        return True
    if comparison.kept:
        outbox.lock_all(conn, campaign_id)  # whoever resolves some of it waits
        mended = reconcile.mend(conn, campaign_id)
        _alarm(conn, campaign_id, mended)
        if outbox.has_open(conn, campaign_id):
            return False  # leads that nobody had served are queued again
        comparison = reconcile.compare(conn, campaign_id)
        if not comparison.faults:
            return True
    faults = comparison.faults
    log.error("campaign %s does not add up: %s", campaign_id, "; ".join(faults))
    alert.raise_alert(conn, alert.Kind.SUMS_DIFFER, campaign_id, f"It is not finished: {'; '.join(faults)}.")
    campaign.look_later(conn, campaign_id)
    return False


def _alarm(conn: Connection, campaign_id: int, mended: Mended) -> None:
    """Somebody has two outcomes, at least on paper: that must never happen, and nobody may overlook it."""
    told = []
    if mended.doubled:
        told.append(
            f"{len(mended.doubled):,} leads have more than one outcome in provider calls: {_some(mended.doubled)}."
        )
    if mended.surplus:
        told.append(
            f"{len(mended.surplus):,} leads stood in the record as sent twice, though one provider call had them:"
            f" {_some(mended.surplus)}. The record was mended."
        )
    if told:
        log.error("campaign %s: %s", campaign_id, " ".join(told))
        alert.raise_alert(conn, alert.Kind.DOUBLED, campaign_id, " ".join(told))


def _some(lead_ids: Sequence[int]) -> str:
    return ", ".join(f"lead {lead_id}" for lead_id in lead_ids[:5]) + (" …" if len(lead_ids) > 5 else "")
