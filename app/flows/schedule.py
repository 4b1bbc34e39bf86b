"""Keeping time: an audience is laid out over the time it has, and what is left is spread anew when that changes.

docs/schedule.md says what people may choose. Everything here is `due_at` and `closes_at` of ranges that nobody holds.
Who calls has the campaign's row locked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate
from typing import Final

from sqlalchemy import Connection

from app.errors import Conflict, Fault, Invalid
from app.flows.one_by_one import do_each
from app.models import campaign, outbox, recurrence, schedule
from app.models.open_time import Stretch, group_zones, moment
from app.models.outbox import Place, Test
from app.models.schedule import OwnClock, Part, Schedule, Standing, begin_of, range_size
from app.runtime import Runtime

BEHIND: Final = 60.0  # seconds that due ranges may wait before what is left is spread anew
POINTS: Final = 120  # of the curve that is planned


@dataclass(frozen=True, slots=True)
class Layout:
    """An audience laid out: where its leads are cut into, and the parts that this makes. Both empty: all at once."""

    places: list[Place]
    parts: list[Part]


def lay_out(chosen: Schedule, zones: Mapping[str | None, int], now: datetime, test: Test | None, most: int) -> Layout:
    """Lay leads (by zone as they have it) out from now on, in ranges of `most` or, where they go slowly, fewer."""
    if chosen.is_plain:
        return Layout([], [])
    found: list[tuple[str, dict[str | None, int]]] = [(chosen.zone, dict(zones))]
    if chosen.needs_zones:
        found = list(group_zones(zones, chosen.zone, now).items())
    places, parts = [], []
    slots = outbox.parts_of((), test)
    for number, (zone, leads) in enumerate(found):
        begins_at, deliver_by = now, chosen.deliver_by
        if chosen.own is not None:
            begins_at, deliver_by = begin_of(chosen.own, zone, now)
        part = Part(number * slots, zone, begins_at, deliver_by)
        time = part.open_time(chosen, now)
        size = range_size(sum(leads.values()), sum(each.seconds for each in time), most) if time[0].seconds else most
        places.append(Place(time[0].opens, time[0].closes, size, tuple(name for name in leads if name is not None)))
        for variant in range(slots):
            tested = test is not None and test.share_percent < 100 and variant < test.variants
            parts.append(replace(part, part=part.part + variant, tested=tested))
    return Layout(places, parts)


def begin(conn: Connection, campaign_id: int, layout: Layout) -> None:
    """Keep the parts of an audience that was just cut, and spread it."""
    if layout.parts:
        schedule.set_parts(conn, campaign_id, layout.parts)
        respread(conn, campaign_id, "started")


def respread(conn: Connection, campaign_id: int, why: str = "changed") -> int:
    """Give everything of a campaign that waits, and was never put off, its times anew; the number of ranges changed.

    Evenly over the time that is left where it is to be delivered by a time; at its part's next opening where it is not.
    Of a campaign that goes at once, what waited for the winner of a test is due now.
    """
    standing = schedule.find(conn, campaign_id)
    parts = schedule.find_parts(conn, campaign_id)
    if not parts:
        return schedule.free_rest(conn, campaign_id)
    changed = schedule.spread(conn, campaign_id, _open_time(standing, parts))
    _keep_plan(conn, standing, why)
    return changed


def correct(conn: Connection, campaign_id: int) -> int:
    """Spread what is left of a campaign that is behind; what was planned stays, to be compared with. Ranges changed."""
    standing = schedule.find(conn, campaign_id)
    parts = [each for each in schedule.find_parts(conn, campaign_id) if each.spreads(standing.now)]
    plan = schedule.find_plan(conn, campaign_id)
    changed = schedule.spread(conn, campaign_id, _open_time(standing, parts)) if parts else 0
    schedule.keep_plan(conn, campaign_id, plan.why if plan else "", plan.points if plan else ())
    return changed


def _open_time(standing: Standing, parts: Sequence[Part]) -> dict[int, list[Stretch]]:
    return {each.part: each.open_time(standing.schedule, standing.now) for each in parts}


def _keep_plan(conn: Connection, standing: Standing, why: str) -> None:
    """What was planned until now, and from here on what is due when."""
    now = standing.now.timestamp()
    before = schedule.find_plan(conn, standing.campaign_id)
    gone, due = schedule.find_due(conn, standing.campaign_id, POINTS)
    past = [point for point in before.points if point[0] < now][-POINTS:] if before else []
    sums = accumulate((leads for _, leads in due), initial=gone)
    times = [now, *(at for at, _ in due)]
    schedule.keep_plan(conn, standing.campaign_id, why, [*past, *zip(times, sums, strict=True)])


def keep_time(runtime: Runtime) -> int:
    """Move what is past its window to the next one, and spread what is behind; the number of campaigns changed.

    Of the clock. Nothing is sent late for want of it but what windows hold back.
    """
    with runtime.db.begin() as conn:
        closed = schedule.find_closed(conn)
        behind = [each for each in schedule.find_behind(conn, BEHIND) if each not in closed]
    moved = do_each(closed.items(), lambda each: _reopen(runtime, *each), "moving campaign past its window")
    return moved + do_each(behind, lambda each: _correct(runtime, each), "spreading campaign")


def _reopen(runtime: Runtime, campaign_id: int, closed: Sequence[int]) -> bool:
    with runtime.db.begin() as conn:
        if campaign.lock_state(conn, campaign_id).state != "sending":
            return False
        standing = schedule.find(conn, campaign_id)
        parts = [each for each in schedule.find_parts(conn, campaign_id) if each.part in closed]
        changed = schedule.push(conn, campaign_id, _open_time(standing, parts))
        if any(each.spreads(standing.now) for each in parts):
            correct(conn, campaign_id)
    return changed > 0


def _correct(runtime: Runtime, campaign_id: int) -> bool:
    with runtime.db.begin() as conn:
        if campaign.lock_state(conn, campaign_id).state != "sending":
            return False
        return correct(conn, campaign_id) > 0


# -- By a person -------------------------------------------------------------------------------------------------------


def reschedule(
    runtime: Runtime, organisation_id: int, campaign_id: int, start_at: datetime | None, chosen: Schedule
) -> None:
    """Give a campaign that has not started other times. Raises Invalid, Conflict, NotFound."""
    with runtime.db.begin() as conn:
        if campaign.lock(conn, organisation_id, campaign_id)["state"] != "scheduled":
            campaign.refuse(conn, campaign_id, "given another start")
        if recurrence.find(conn, campaign_id) is not None:
            raise Conflict("The campaign repeats: make it a draft again, and change its times there.")
        now = campaign.now(conn)
        check(chosen, start_at, now)
        start_at = max(chosen.first_moment() or start_at or now, now)  # what a person sets to a past time is not late
        check(chosen, start_at, now)
        schedule.set_schedule(conn, campaign_id, start_at, chosen)


def check(chosen: Schedule, start_at: datetime | None, now: datetime) -> None:
    """Raises Invalid where a campaign could not keep this."""
    faults = faults_of(chosen, start_at, now)
    if faults:
        raise Invalid(faults)


def faults_of(chosen: Schedule, start_at: datetime | None, now: datetime) -> list[Fault]:
    """What stands in the way of a schedule as of now."""
    faults = schedule.faults_of(chosen, start_at)
    if not faults and chosen.deliver_by is not None and chosen.deliver_by <= now:
        faults.append(Fault("deliver_by", "That has passed already: choose a later time."))
    if not faults and chosen.own and chosen.own.ends and chosen.own.past == "now":
        last = moment(chosen.own.ends, "Etc/GMT+12")
        if last <= now:
            faults.append(Fault("deliver_by", "That has passed everywhere: choose a later time."))
    return faults


def move_rest(
    runtime: Runtime,
    organisation_id: int,
    campaign_id: int,
    begins: datetime,
    deliver_by: datetime | None = None,
    *,
    own: bool = False,
) -> None:
    """Let all that has not gone of a launched campaign go from a time on, spread until another.

    A paused one goes on then. `own`: both are times without a zone, by each lead's own clock. What a worker holds in
    this moment is finished.
    Raises Invalid naming "begins", "deliver_by" or "own", Conflict, NotFound.
    """
    times = (("begins", begins), ("deliver_by", deliver_by))
    if faults := [Fault(name, schedule.TOO_FAR) for name, at in times if at is not None and schedule.is_far(at)]:
        raise Invalid(faults)
    with runtime.db.begin() as conn:
        row = campaign.lock(conn, organisation_id, campaign_id)
        if row["state"] not in ("sending", "paused"):
            campaign.refuse(conn, campaign_id, "moved")
        standing = schedule.find(conn, campaign_id)
        if deliver_by is not None and deliver_by <= begins:
            raise Invalid.one("deliver_by", "It must be later than the new start.")
        if own and not knows_clocks(standing.schedule, schedule.find_parts(conn, campaign_id)):
            raise Invalid.one("own", "Its audience was not cut by time zones as it started: say a time of one zone.")
        _set_parts(conn, standing, begins, deliver_by, own)
        outbox.lock_all(conn, campaign_id)  # waits for claims under way: what they took is shut, too
        schedule.shut(conn, campaign_id)
        respread(conn, campaign_id, "moved")
        if row["state"] == "paused":
            campaign.move(conn, campaign_id, "sending")
    runtime.ring("send")


def knows_clocks(chosen: Schedule, parts: Sequence[Part]) -> bool:
    """Whether an audience was cut by leads' zones, so that its parts can go by their own clocks."""
    return chosen.needs_zones or any(each.zone != chosen.zone for each in parts)


def _set_parts(conn: Connection, standing: Standing, begins: datetime, deliver_by: datetime | None, own: bool) -> None:
    """Parts that begin later, and what the schedule says of it."""
    before = schedule.find_parts(conn, standing.campaign_id)
    parts = before or [Part(number, standing.schedule.zone, standing.now) for number in range(standing.parts)]

    past = standing.schedule.own.past if standing.schedule.own else "now"  # as was chosen at first
    clock = OwnClock(begins, deliver_by, past) if own else None

    def moved(part: Part) -> Part:
        since, until = begin_of(clock, part.zone, standing.now) if clock else (begins, deliver_by)
        return replace(part, begins_at=since, deliver_by=until, tested=part.tested and not until)

    changed = [moved(each) for each in parts]
    told = replace(standing.schedule, own=clock, deliver_by=None if own else deliver_by)
    schedule.set_parts(conn, standing.campaign_id, changed)
    schedule.set_schedule(conn, standing.campaign_id, standing.start_at, told)
