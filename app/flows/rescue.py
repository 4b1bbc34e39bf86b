"""Rescue: ranges whose worker died are freed; what it had handed over and not settled is unknown, and says so."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from sqlalchemy import Connection

from app.flows.one_by_one import do_each
from app.flows.resolve import source_of
from app.mail import Kind
from app.models import addressee, alert, event, handoff, outbox
from app.models.event import Fact
from app.models.handoff import COUNTS_AS, LETTERS, Standing
from app.models.outbox import Counts
from app.runtime import Runtime

log = logging.getLogger(__name__)

# A range that was held by this many workers when they died waits for a person: it may be what kills them.
MOST_CRASHES: Final = 3


def rescue_expired(runtime: Runtime) -> int:
    """Free every range whose lease ran out, each in a transaction of its own; how many. They are rung for.

    One that cannot be freed, the oldest of all perhaps, is tried again each turn, and stands in no other's way.
    """

    def free(range_id: int) -> bool:
        with runtime.db.begin() as conn:
            return _rescue(conn, range_id)

    with runtime.db.begin() as conn:
        expired = outbox.expired(conn)
    rescued = do_each(expired, free, "rescuing range")
    if rescued:
        runtime.ring("send", rescued)
    return rescued


def _rescue(conn: Connection, range_id: int) -> bool:
    if not outbox.lock_expired(conn, range_id):
        return False
    standing = handoff.stand_unknown(conn, range_id)
    letters = Counter("".join(each.letters for each in standing))
    unknown = letters[LETTERS[Kind.UNKNOWN]]
    counts = Counts(letters[LETTERS[Kind.SENT]], letters[LETTERS[Kind.REFUSED]], unknown=unknown)
    state = outbox.rescue(conn, range_id, counts, MOST_CRASHES)
    for each in standing:
        _record(conn, each)
    if state == "quarantined":
        notice = (
            f"Range {range_id} waits for a person: {MOST_CRASHES} workers died on it. The rest of the campaign goes on."
            " Pause and resume it to try the range again."
        )
        alert.raise_alert(conn, alert.Kind.QUARANTINED, outbox.campaign_of(conn, range_id), notice)
    log.warning("range %s was rescued: %s, %s leads unknown", range_id, state, unknown)
    return True


def _record(conn: Connection, standing: Standing) -> None:
    domains = addressee.find_domains(conn, standing.campaign_id, standing.lead_ids)
    detail = {"reason": "the worker died while the call was under way"}
    facts = [
        Fact(lead_id, domains.get(lead_id, 0), COUNTS_AS[letter], detail if COUNTS_AS[letter] is Kind.UNKNOWN else None)
        for lead_id, letter in zip(standing.lead_ids, standing.letters, strict=True)
    ]
    event.append(conn, source_of(conn, standing), facts)
