"""Standing: senders whose emails come back or are complained of are moved away from everybody else's, or paused.

The clock looks every minute at sums that reports keep anyway; nothing of this is on an email's way.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from app.errors import Conflict, Fault, Invalid
from app.flows.one_by_one import do_each
from app.models import account, alert, outbox, pool, standing
from app.models.alert import Kind
from app.models.pool import BETTERS, QUARANTINES
from app.models.standing import MOVES, Move, Policy, Standing
from app.runtime import Runtime

log = logging.getLogger(__name__)

# The pools that a policy names: what they may be there for, and what is said of another.
PLACES: Final[Mapping[str, tuple[Collection[str], str]]] = {
    "quarantine_pool_id": (QUARANTINES, "All of a sender's mail goes through it: choose a pool that is for anything."),
    "better_pool_id": (BETTERS, "Campaigns of many senders go through it: choose one for anything, or for campaigns."),
}
ALERTS: Final = {"quarantined": Kind.SENDER_QUARANTINED, "paused": Kind.SENDER_PAUSED}


def judge_senders(runtime: Runtime) -> int:
    """Move the senders that the rules move; how many. Any number of clocks may do so at once."""
    with runtime.db.begin() as conn:
        found = standing.find_standings(conn)
        policies = {each: _acting(conn, each) for each in {each.organisation_id for each in found}}
    judged = [(each, standing.judge(policies[each.organisation_id], each)) for each in found]
    moves = [(each, to) for each, to in judged if to is not None]
    return do_each(moves, lambda each: _move(runtime, each[0], each[1]), "moving sender")


def set_policy(runtime: Runtime, organisation_id: int, policy: Policy) -> None:
    """Change an organisation's thresholds. Raises Invalid naming fields of Policy."""
    with runtime.db.begin() as conn:
        account.hold(conn, organisation_id)
        purposes = pool.find_purposes(conn, organisation_id)
        faults = []
        for field, (fit, said) in PLACES.items():
            pool_id = getattr(policy, field)
            if pool_id is not None and pool_id not in purposes:
                faults.append(Fault(field, "Choose one of your pools, or none."))
            elif pool_id is not None and purposes[pool_id] not in fit:
                faults.append(Fault(field, said))
        if faults:
            raise Invalid(faults)
        standing.set_policy(conn, organisation_id, policy)


def move_by_hand(runtime: Runtime, organisation_id: int, sender_id: int, to: str, user_id: int) -> None:
    """A person pauses a sender ("paused"), or lets it send again as before ("good"). Raises NotFound, Conflict.

    Its figures begin anew: what was before is not held against it twice.
    """
    with runtime.db.begin() as conn:
        now = standing.find_standing(conn, organisation_id, sender_id)
    if to not in ("good", "paused") or to not in MOVES[now.state]:
        raise Conflict(f"The sender is {now.state}: it cannot become {to}.")
    reason = "Paused by hand." if to == "paused" else "It may send again."
    if not _move(runtime, now, Move(to, reason), user_id):
        raise Conflict("Somebody has moved this sender just now: look again.")


def _acting(conn: Connection, organisation_id: int) -> Policy:
    """The thresholds without pools that are there for something else: one that was named before that was asked."""
    policy, purposes = standing.find_policy(conn, organisation_id), pool.find_purposes(conn, organisation_id)
    unfit: dict[str, Any] = {
        field: None for field, (fit, _) in PLACES.items() if purposes.get(getattr(policy, field)) not in fit
    }
    return replace(policy, **unfit)


def _move(runtime: Runtime, now: Standing, to: Move, user_id: int | None = None) -> bool:
    with runtime.db.begin() as conn:
        if not standing.move(conn, now, to, user_id):
            return False
        if to.went_to == "good":
            for pool_id in {now.moved_to, to.pool_id} - {None}:
                outbox.hurry(conn, int(str(pool_id)))
        _tell(conn, now, to, by_hand=user_id is not None)
    log.warning("sender %s is %s and was %s: %s", now.sender_id, to.went_to, now.state, to.reason)
    runtime.ring("send", runtime.settings.worker_threads)
    return True


def _tell(conn: Connection, now: Standing, to: Move, *, by_hand: bool) -> None:
    for state, kind in ALERTS.items():
        if state != to.went_to:
            alert.clear(conn, kind, now.sender_id)
    if to.went_to in ALERTS and not by_hand:
        alert.raise_alert(conn, ALERTS[to.went_to], now.sender_id, to.reason)
