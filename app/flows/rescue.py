"""Rescue: ranges whose worker died are freed; what it had handed over and not settled is unknown, and says so."""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy import Connection

from app.mail import Kind
from app.models import campaign, event, handoff, outbox
from app.models.event import Fact, Source
from app.models.handoff import Standing
from app.runtime import Runtime

log = logging.getLogger(__name__)

# A range that was held by this many workers when they died waits for a person: it may be what kills them.
MOST_CRASHES: Final = 3


def rescue_expired(runtime: Runtime) -> int:
    """Free every range whose lease ran out, each in a transaction of its own; how many. They are rung for."""
    with runtime.db.begin() as conn:
        expired = outbox.expired(conn)
    rescued = 0
    for range_id in expired:
        with runtime.db.begin() as conn:
            rescued += _rescue(conn, range_id)
    if rescued:
        runtime.ring("send", rescued)
    return rescued


def _rescue(conn: Connection, range_id: int) -> bool:
    if not outbox.lock_expired(conn, range_id):
        return False
    standing = handoff.stand_unknown(conn, range_id)
    unknown = sum(len(each.lead_ids) for each in standing)
    state = outbox.rescue(conn, range_id, unknown, MOST_CRASHES)
    for each in standing:
        _record(conn, each)
    if state == "quarantined":
        notice = (
            f"Range {range_id} waits for a person: {MOST_CRASHES} workers died on it. Pause and resume to try again."
        )
        campaign.note(conn, outbox.campaign_of(conn, range_id), notice)
    log.warning("range %s was rescued: %s, %s leads unknown", range_id, state, unknown)
    return True


def _record(conn: Connection, standing: Standing) -> None:
    sending = campaign.load_sending(conn, standing.campaign_id)
    source = Source(
        organisation_id=sending.organisation_id,
        user_id=sending.owner_id,
        campaign_id=standing.campaign_id,
        pool_id=standing.pool_id,
        variant=standing.variant,
        run=standing.run,
    )
    domains = outbox.domains(conn, standing.lead_ids)
    detail = {"reason": "the worker died while the call was under way"}
    event.append(
        conn,
        source,
        [Fact(lead_id, domains.get(lead_id, 0), Kind.UNKNOWN, detail) for lead_id in standing.lead_ids],
    )
