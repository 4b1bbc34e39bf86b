"""When a campaign would end, as far as limits, warm-ups and its rate decide, with nothing else in its pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from math import ceil
from typing import Final

from sqlalchemy import Connection

from app.models import account, campaign_rate, limit, receiver, sender, warm_up
from app.models.limit import WHOLE, Limit

STEP: Final = 600.0  # seconds: as fine as days are counted
COUNTED: Final = 24 * 3600 + STEP  # seconds until an email counts for no day any more
FARTHEST: Final = 400  # days; what takes longer has no end that is worth naming


@dataclass(frozen=True, slots=True)
class Estimate:
    """`ends_at`: when the last one could leave; None: after more than a year. `bound_by`: what takes longest, in words;
    "": nothing does, it goes as fast as the provider takes it."""

    ends_at: datetime | None
    bound_by: str


@dataclass(frozen=True, slots=True)
class Ceiling:
    """So many emails in any 24 hours, by day; `spent` are (seconds since 1970, emails) of the day before."""

    name: str
    on: Callable[[date], int | None]
    spent: Sequence[tuple[float, int]] = ()


def end_estimate(
    conn: Connection, sender_id: int, leads: int, begin: datetime, *, campaign_id: int | None = None
) -> Estimate:
    """When so many leads, begun at `begin`, could all have been sent to through the pool that carries the sender now.

    With a campaign, its own rate holds too, and, once its audience stands, so do limits by receiver: by the share of
    its leads that each has.
    """
    way = sender.find_way(conn, sender_id)
    if way is None or leads <= 0:
        return Estimate(begin, "")
    rates: list[tuple[float, str]] = []
    ceilings: list[Ceiling] = []
    limits = {each.receiver: each for each in limit.list_limits(conn, way.pool_id)}
    whole = limits.pop(WHOLE, None)
    if whole is not None:
        rates, ceilings = _limited(conn, way.pool_id, whole, "the pool's limit")
    sharing = account.find_sharing(conn, way.pool_id)
    if sharing is not None and sharing.per_second is not None:
        rates.append((sharing.per_second, "the limit a second that its account has for all its pools"))
    if sharing is not None and sharing.per_day is not None:
        spent = account.find_slots(conn, way.pool_id)
        name = "the limit by day that its account has for all its pools"
        ceilings.append(Ceiling(name, partial(_always, sharing.per_day), spent))
    warm_ups = warm_up.find(conn, way.organisation_id, pool_id=way.pool_id, domain=way.domain)
    slots = warm_up.find_slots(conn, [each.id for each in warm_ups]) if warm_ups else {}
    for each in warm_ups:
        name = "the warm-up of its pool" if each.domain is None else f"the warm-up of {each.domain}"
        ceilings.append(Ceiling(name, partial(warm_up.on_day, each.starts_on, each.curve), slots[each.id]))
    known = campaign_rate.find(conn, campaign_id) if campaign_id is not None else None
    if known is not None:
        rates.append((known.rate.per_second, "its own rate"))
    found = [estimate(leads, begin, rates, ceilings)]
    if campaign_id is not None and limits:
        found += _by_receiver(conn, way.pool_id, campaign_id, limits, leads, begin)
    return max(found, key=lambda each: each.ends_at or datetime.max.replace(tzinfo=UTC))


def _by_receiver(
    conn: Connection, pool_id: int, campaign_id: int, limits: Mapping[str, Limit], leads: int, begin: datetime
) -> list[Estimate]:
    """When the leads of each receiver that has a limit could all have been sent to."""
    found = []
    for name, share in receiver.find_shares(conn, campaign_id, limits.keys()).items():
        each, known = limits[name], receiver.RECEIVERS.get(name)
        rates, ceilings = _limited(conn, pool_id, each, f"the limit for {known.name if known is not None else name}")
        if rates or ceilings:
            found.append(estimate(ceil(leads * share), begin, rates, ceilings))
    return found


def _limited(conn: Connection, pool_id: int, each: Limit, called: str) -> tuple[list[tuple[float, str]], list[Ceiling]]:
    """What one limit of a pool comes to, as `estimate` reads it."""
    rates, ceilings = [], []
    if each.per_second is not None:
        rates.append((each.per_second, f"{called} a second"))
    if each.per_day is not None:
        spent = limit.find_slots(conn, pool_id, each.receiver)
        ceilings.append(Ceiling(f"{called} by day", partial(_always, each.per_day), spent))
    return rates, ceilings


def estimate(leads: int, begin: datetime, rates: Sequence[tuple[float, str]], ceilings: Sequence[Ceiling]) -> Estimate:
    """The end of `leads` emails that are sent as soon as rates (a second, each with its name) and ceilings allow."""
    rate, rate_name = min(rates, default=(float("inf"), ""))
    if not ceilings:
        seconds = leads / rate
        if seconds > FARTHEST * 86400:
            return Estimate(None, rate_name)
        return Estimate(begin + timedelta(seconds=seconds), rate_name)
    at, left = begin.timestamp(), leads
    until = at + FARTHEST * 86400
    windows = [list(each.spent) for each in ceilings]
    waited: Counter[str] = Counter()
    while at < until:
        free, name, again_at = _free(at, ceilings, windows)
        if free <= 0:
            waited[name] += round(again_at - at)
            at = again_at
            continue
        step = STEP - at % STEP
        sent = min(left, free, max(1, int(rate * step)) if rate * step < left else left)
        for window in windows:
            window.append((at - at % STEP, sent))
        left -= sent
        took = sent / rate
        if left <= 0:
            most = max(waited.items(), key=lambda each: each[1], default=("", 0))[0]
            return Estimate(datetime.fromtimestamp(at + took, UTC), most or rate_name)
        waited[rate_name] += round(took) if took >= step else 0
        at += max(took, step) if sent < free else max(took, 1.0)
    return Estimate(None, max(waited.items(), key=lambda each: each[1])[0])


def _free(at: float, ceilings: Sequence[Ceiling], windows: Sequence[list[tuple[float, int]]]) -> tuple[int, str, float]:
    """How many may go at a moment; where none may, what holds them, and when to look again (seconds since 1970)."""
    today = datetime.fromtimestamp(at, UTC).date()
    midnight = at - at % 86400 + 86400
    free, name, again_at = 2**62, "", midnight
    for ceiling, window in zip(ceilings, windows, strict=True):
        most = ceiling.on(today)
        if most is None:
            continue
        while window and window[0][0] + COUNTED <= at:
            window.pop(0)
        left = most - sum(emails for _, emails in window)
        if left < free:
            free, name = left, ceiling.name
            again_at = min(midnight, window[0][0] + COUNTED) if window else midnight
    return free, name, max(again_at, at + 1.0)


def _always(emails: int, day: date) -> int:
    return emails
