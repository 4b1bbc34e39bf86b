"""How a campaign keeps its time: what was planned and what has gone, and whether limits let it be delivered in time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final

from sqlalchemy import Connection

from app.flows.estimate import Estimate, end_estimate
from app.models import schedule
from app.models.open_time import stretches
from app.models.schedule import Part, Plan, Schedule

BUCKET: Final = 300.0  # seconds: as fine as what has gone is known
POINTS: Final = 160  # of a curve, at most
TOLERATED: Final = 0.02  # of the audience that may be behind before it is called so


@dataclass(frozen=True, slots=True)
class Curve:
    """Leads until each of these times (seconds since 1970), as planned and as it was; None: not yet."""

    step: float
    times: list[float]
    planned: list[float]
    gone: list[float | None]


@dataclass(frozen=True, slots=True)
class Kept:
    """A launched campaign's time. `deliver_by` is that of its last part; `behind` leads should have gone, and have not.

    `waits_until`: nothing is due before.
    """

    now: datetime
    plan: Plan | None
    deliver_by: datetime | None
    behind: int
    waits_until: datetime | None
    parts: list[Part]

    @property
    def is_late(self) -> bool:
        """Whether the time that all was to be delivered by has passed."""
        return self.deliver_by is not None and self.deliver_by <= self.now


def find_kept(conn: Connection, campaign_id: int, audience: int, gone: int) -> Kept:
    """How a launched campaign stands, of so many leads and so many of them gone."""
    standing = schedule.find(conn, campaign_id)
    parts = schedule.find_parts(conn, campaign_id)
    plan = schedule.find_plan(conn, campaign_id)
    planned = _due(plan.points, standing.now.timestamp()) if plan else 0
    behind = planned - gone
    ends = [each.deliver_by for each in parts if each.deliver_by is not None]
    return Kept(
        standing.now,
        plan,
        max(ends, default=None),
        behind if behind > max(1.0, TOLERATED * audience) else 0,
        schedule.find_next_due(conn, campaign_id) if parts else None,
        parts,
    )


def find_shortage(
    conn: Connection, sender_id: int, campaign_id: int, leads: int, begin: datetime, chosen: Schedule
) -> Estimate | None:
    """What limits allow where it is not enough for so many leads to be delivered in time; None where it is.

    Time outside the windows does not count: limits a second need as much longer.
    """
    by = chosen.deliver_by
    if by is None and chosen.own is not None and chosen.own.ends is not None:
        by = begin + (chosen.own.ends - chosen.own.starts)
    if by is None or by <= begin or not leads:
        return None
    told = end_estimate(conn, sender_id, leads, begin, campaign_id=campaign_id)
    if not told.bound_by or told.ends_at is None:
        return told if told.bound_by else None
    opened = sum(each.seconds for each in stretches(chosen.windows, chosen.zone, begin, by))
    taken = told.ends_at - begin
    if chosen.windows and taken < timedelta(days=1):  # what a day allows is waited for outside of the windows as well
        return told if taken.total_seconds() > opened else None
    return told if told.ends_at > by else None


def draw(plan: Plan, went: Sequence[tuple[float, int]], now: float) -> Curve:
    """The curve that was planned, and that of what has gone in five minutes each."""
    begin = min([plan.points[0][0], *(at for at, _ in went[:1])]) if plan.points else now
    end = max(plan.points[-1][0] if plan.points else now, now)
    step = max(60.0, (end - begin) / POINTS)
    times = [begin + step * number for number in range(int((end - begin) / step) + 2)]
    sums = list(accumulate((leads for _, leads in went), initial=0))
    known = [(begin, 0), *((min(at + BUCKET, now), total) for (at, _), total in zip(went, sums[1:], strict=True))]
    return Curve(
        step,
        times,
        [float(_due(plan.points, at)) for at in times],
        [round(_at(known, at), 1) if at <= now + step else None for at in times],
    )


def _due(points: Sequence[tuple[float, int]], moment: float) -> int:
    """Leads who were due before then: nobody is until their time has come, however many are at the next."""
    number = bisect_left(points, moment, key=lambda point: point[0])
    return points[max(number - 1, 0)][1] if points else 0


def _at(points: Sequence[tuple[float, int]], moment: float) -> float:
    """The value of a line through these points."""
    if not points or moment <= points[0][0]:
        return float(points[0][1]) if points else 0.0
    number = bisect_right(points, moment, key=lambda point: point[0])
    if number == len(points):
        return float(points[-1][1])
    (begin, before), (end, after) = points[number - 1], points[number]
    return before + (after - before) * (moment - begin) / (end - begin) if end > begin else float(after)
