"""Pace: no more of a page goes than its pool's limits, warm-ups and its campaign's rate allow now. The rest keeps its
place, and costs no attempt.

A range of a pool with limits by receiver is put together by receiver once, the first time that it is claimed. From then
on its parts wait each for its own limit, a page at a time, so limits do not shatter ranges. A limit that is used up
says until when (`paced_until`), and nothing is claimed for it before: no worker holds a range and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from app.buckets import Bucket
from app.models import campaign_rate, limit, outbox, pool, process, receiver, warm_up
from app.models.campaign_rate import KeptRate
from app.models.limit import ACCOUNT, WHOLE, Left
from app.models.outbox import Lease
from app.runtime import Runtime

BY_OURSELVES: Final = 5.0  # seconds: for longer waits the clock's bells do
LONGEST: Final = 600.0  # seconds until a limit by day is looked at again


@dataclass(frozen=True, slots=True)
class Brake:
    """Something that holds a page back. `bucket`: its tokens of a second; `left`: of a day; None: it has no such limit.

    `wait` says of it that it is used up for so many seconds.
    """

    bucket: Bucket | None
    left: int | None
    frees_in: float
    wait: Callable[[Connection, float], None]


def pace(runtime: Runtime, lease: Lease) -> Lease | None:
    """The page as far as it may go now, its tokens taken; None where nothing of it may, and it was given back.

    Raises LeaseLost.
    """
    assert lease.pool_id is not None
    with runtime.db.begin() as conn:
        found = limit.find_left(conn, lease.pool_id) if lease.limited else []
        limits = {each.receiver: each for each in found if each.account_id is None}
        if _put_together(conn, lease, limits):
            _end_probe(conn, lease)
            return None
        warm_ups = warm_up.find_left(conn, lease.campaign_id, lease.pool_id) if lease.warms else []
        rate = campaign_rate.find(conn, lease.campaign_id) if lease.rated else None
    bounds = [limits[each] for each in dict.fromkeys((WHOLE, lease.waits_for or WHOLE)) if each in limits]
    bounds += [each for each in found if each.account_id is not None]
    brakes = [_brake_of_limit(lease.pool_id, each) for each in bounds] + [_brake_of_warm_up(each) for each in warm_ups]
    if rate is not None:
        brakes.append(_brake_of_rate(lease.campaign_id, rate))
    tokens, waits = _take(runtime, len(lease.lead_ids), brakes)
    if any(waits):
        with runtime.db.begin() as conn:
            for brake, seconds in zip(brakes, waits, strict=True):
                if seconds:
                    brake.wait(conn, seconds)
    if not tokens:
        give_back(runtime, lease)
        return None
    by_day = tuple({each: None for bound in bounds if bound.left is not None for each in _days_of(bound)})
    counted = tuple(each.id for each in warm_ups)
    return replace(lease, lead_ids=lease.lead_ids[:tokens], by_day=by_day, warm_ups=counted)


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
    if receiver.sort(conn, lease.lead_ids, named, lease.campaign_id).keys() <= {receiver.OTHERS, lease.waits_for}:
        return False
    outbox.move_rest(conn, lease, receiver.sort(conn, outbox.read_rest(conn, lease), named, lease.campaign_id))
    return True


def _days_of(each: Left) -> tuple[str, ...]:
    """An account's day is the sum of what its pools have sent in all."""
    return (each.receiver,) if each.account_id is None else (each.receiver, ACCOUNT)


def _brake_of_limit(pool_id: int, each: Left) -> Brake:
    bucket = None
    if each.per_second is not None:
        key = f"millrace:pace:{pool_id}:{each.receiver}"
        if each.account_id is not None:
            key = f"millrace:account:{each.account_id}"
        bucket = Bucket(key, each.per_second, each.burst)
    return Brake(bucket, each.left, each.frees_in, lambda conn, seconds: limit.wait(conn, pool_id, [(each, seconds)]))


def _brake_of_warm_up(each: warm_up.Left) -> Brake:
    return Brake(None, each.left, each.frees_in, lambda conn, seconds: warm_up.wait(conn, each, seconds))


def _brake_of_rate(campaign_id: int, known: KeptRate) -> Brake:
    bucket = Bucket(f"millrace:rate:{campaign_id}", known.rate.per_second, known.rate.burst)
    return Brake(bucket, None, 0.0, lambda conn, seconds: campaign_rate.wait(conn, campaign_id, known, seconds))


def _take(runtime: Runtime, leads: int, brakes: Sequence[Brake]) -> tuple[int, list[float]]:
    """How many of a page's leads may go now; and for each brake the seconds until it has more, 0 where it has some."""
    wanted = min([leads, *(each.left for each in brakes if each.left is not None)])
    waits = [min(max(each.frees_in, 1.0), LONGEST) if each.left == 0 else 0.0 for each in brakes]
    paced = {place: each.bucket for place, each in enumerate(brakes) if each.bucket is not None}
    if not wanted or not paced:
        return wanted, waits
    taken = runtime.buckets.take(wanted, list(paced.values()), lambda: _workers(runtime))
    for place, wait in zip(paced, taken.waits, strict=True):
        waits[place] = max(waits[place], wait)
        if taken.shared and 0 < wait < BY_OURSELVES:  # while Redis is away no bell is heard
            runtime.ring_later("send", wait)
    return taken.tokens, waits


def _workers(runtime: Runtime) -> int:
    """How many worker processes share the limits while they cannot ask Redis."""
    with runtime.db.begin() as conn:
        return len(process.alive(conn, "worker"))
