"""What a campaign's policy will do with its calls of unknown outcome, as far as is known now: for pages to say.

It says in advance what app/flows/unknowns.py does when the time has come; tests hold one against the other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection

from app.models import unknown, webhook
from app.models.unknown import Held

READ_WITHIN: Final = 120.0  # seconds after which a post that has come was read
# "leave" and "resend": the policy does so. "twice": it was sent again once already. "gap": the pool's webhooks did not
# come all the while, so silence proves nothing. "quiet": none has spoken of a later call yet, or some were not read.
Act = Literal["leave", "resend", "twice", "gap", "quiet"]


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a call by itself: `act` in so many seconds; 0 or less: at the clock's next turn."""

    act: Act
    seconds: float


def foresee(conn: Connection, campaign_id: int, handoff_ids: Collection[int]) -> dict[int, Fate]:
    """call -> its fate, of some unknown calls of a campaign; left out where its policy has nothing to do with one."""
    if not handoff_ids:
        return {}
    after = campaign_id, min(handoff_ids) - 1
    found = unknown.find_held(conn, 0.0, after, campaign_id, len(handoff_ids))
    held = [each for each in found if each.id in handoff_ids and each.policy != "hold"]
    pools = {each.pool_id for each in held}
    lags = {pool_id: webhook.lag(conn, pool_id) for pool_id in pools}
    holds = {pool_id: webhook.hold(conn, pool_id) for pool_id in pools}
    listening = {pool_id: webhook.listens(conn, pool_id) for pool_id in pools}
    known = {pool_id: min(seconds + READ_WITHIN, holds[pool_id]) for pool_id, seconds in listening.items()}
    over = {each.id: listening[each.pool_id] for each in held if each.age > known[each.pool_id]}
    gaps = over.keys() - unknown.find_heard(conn, over)
    return {
        each.id: Fate(
            _act(each, each.age > holds[each.pool_id], each.id in gaps, lags[each.pool_id] is not None),
            holds[each.pool_id] - each.age,
        )
        for each in held
    }


def _act(each: Held, ripe: bool, gap: bool, heard: bool) -> Act:
    if each.policy == "leave":
        return "leave"
    if each.resent:
        return "twice"
    if gap:
        return "gap"
    return "resend" if (each.arrive if ripe else heard) else "quiet"
