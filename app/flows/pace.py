"""Pace: no more of a page goes than its pool's limits allow now. The rest keeps its place, and costs no attempt.

A range of a pool with limits by receiver is put together by receiver once, the first time that it is claimed. From then
on its parts wait each for its own limit, a page at a time, so limits do not shatter ranges. A limit that is used up
says until when (`paced_until`), and nothing is claimed for it before: no worker holds a range and waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from app.buckets import Bucket
from app.models import limit, outbox, pool, process, receiver
from app.models.limit import WHOLE, Left
from app.models.outbox import Lease
from app.runtime import Runtime

BY_OURSELVES: Final = 5.0  # seconds: for longer waits the clock's bells do
LONGEST: Final = 600.0  # seconds until a limit by day is looked at again


def pace(runtime: Runtime, lease: Lease) -> Lease | None:
    """The page as far as it may go now, its tokens taken; None where nothing of it may, and it was given back.

    Raises LeaseLost.
    """
    assert lease.pool_id is not None
    with runtime.db.begin() as conn:
        limits = {each.receiver: each for each in limit.find_left(conn, lease.pool_id)}
        if _put_together(conn, lease, limits):
            _end_probe(conn, lease)
            return None
    bounds = [limits[each] for each in dict.fromkeys((WHOLE, lease.waits_for or WHOLE)) if each in limits]
    tokens, waits = _take(runtime, lease, bounds)
    if waits:
        with runtime.db.begin() as conn:
            limit.wait(conn, lease.pool_id, [(each, waits[each.receiver]) for each in bounds if each.receiver in waits])
    if not tokens:
        give_back(runtime, lease)
        return None
    by_day = tuple(each.receiver for each in bounds if each.left is not None)
    return replace(lease, lead_ids=lease.lead_ids[:tokens], by_day=by_day)


def give_back(runtime: Runtime, lease: Lease) -> None:
    """Leave a page that was not handed over to its next turn, as if it had not been claimed."""
    with runtime.db.begin() as conn:
        outbox.let_wait(conn, lease)
        _end_probe(conn, lease)


def _end_probe(conn: Connection, lease: Lease) -> None:
    if lease.probe and lease.pool_id is not None:
        pool.end_probe(conn, lease.pool_id)


def _put_together(conn: Connection, lease: Lease, limits: Mapping[str, Left]) -> bool:
    """Put the rest of a range into ranges by receiver, where leads with other limits are among the page's."""
    named = limits.keys() - {WHOLE}
    domains = named - receiver.RECEIVERS.keys()
    if not named or lease.waits_for in domains or (lease.waits_for in named and not domains):
        return False
    # A domain may have got a limit of its own since its leads were put together with others of its receiver.
    if receiver.sort(conn, lease.lead_ids, named).keys() <= {receiver.OTHERS, lease.waits_for}:
        return False
    outbox.move_rest(conn, lease, receiver.sort(conn, outbox.read_rest(conn, lease), named))
    return True


def _take(runtime: Runtime, lease: Lease, bounds: Sequence[Left]) -> tuple[int, dict[str, float]]:
    """How many of the page's leads may go now; and of limits with little left, the seconds until they have more."""
    wanted = min([len(lease.lead_ids), *(each.left for each in bounds if each.left is not None)])
    waits = {each.receiver: min(max(each.frees_in, 1.0), LONGEST) for each in bounds if each.left == 0}
    paced = [each for each in bounds if each.per_second is not None]
    if not wanted or not paced:
        return wanted, waits
    buckets = [_bucket(lease, each) for each in paced]
    taken = runtime.buckets.take(wanted, buckets, lambda: _workers(runtime))
    waits |= {each.receiver: wait for each, wait in zip(paced, taken.waits, strict=True) if wait > 0}
    for wait in taken.waits:
        if taken.shared and 0 < wait < BY_OURSELVES:  # while Redis is away no bell is heard
            runtime.ring_later("send", wait)
    return taken.tokens, waits


def _bucket(lease: Lease, each: Left) -> Bucket:
    assert each.per_second is not None
    return Bucket(f"millrace:pace:{lease.pool_id}:{each.receiver}", each.per_second, each.burst)


def _workers(runtime: Runtime) -> int:
    """How many worker processes share the limits while they cannot ask Redis."""
    with runtime.db.begin() as conn:
        return len(process.alive(conn, "worker"))
