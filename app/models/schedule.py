"""Schedules: what a person chose of when a campaign goes, the parts that its audience goes in, and what is left.

docs/schedule.md says what each choice means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from app.db import Statements
from app.errors import Fault, NotFound
from app.models.open_time import Stretch, Windows, all_zones, moment, next_stretch, stretches

SQL = Statements("schedule")

PAST: Final = ("now", "next_day")
GRACE: Final = timedelta(hours=1)  # a zone whose time was less than that ago has not missed it
LONGEST_LATENESS: Final = 366 * 24 * 60  # minutes
FAR: Final = timedelta(days=10 * 366)  # whatever lies farther, ahead or behind, is a slip and no plan
TOO_FAR: Final = "That is more than ten years away: choose another day."
STEP: Final = 60.0  # seconds: mail flows at least so often while there is enough of it


@dataclass(frozen=True, slots=True)
class OwnClock:
    """Times by each lead's own clock: without a zone. `past`: what becomes of leads whose time has passed already."""

    starts: datetime
    ends: datetime | None = None
    past: str = "now"

    def first_moment(self) -> datetime:
        """When the first zone in the world has come to the start."""
        return min(moment(self.starts, zone) for zone in all_zones())

    def last_moment(self) -> datetime:
        """When the last one has."""
        return max(moment(self.starts, zone) for zone in all_zones())


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a person chose but for the start: nothing, as a campaign has it that goes at once, is the default.

    `zone` is that of the windows and of leads whose own is not known; `lateness` in minutes: later than that it is not
    begun at all; None: at any time.
    """

    deliver_by: datetime | None = None
    own: OwnClock | None = None
    zone: str = "UTC"
    windows: Windows | None = None
    lateness: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether all of it goes at once, at any time: then there are no parts."""
        return self.deliver_by is None and self.own is None and self.windows is None

    @property
    def needs_zones(self) -> bool:
        """Whether leads' own zones matter."""
        return self.own is not None or (self.windows is not None and self.windows.own)

    def first_moment(self) -> datetime | None:
        """When the first zone in the world has come to the start by leads' own clocks; None without."""
        return None if self.own is None else self.own.first_moment()

    def late_since(self, start_at: datetime) -> datetime:
        """From when on it is late: its start, or when the last zone in the world comes to it by leads' own clocks."""
        return start_at if self.own is None else max(start_at, self.own.last_moment())

    def is_too_late(self, start_at: datetime, now: datetime) -> bool:
        """Whether it is not begun any more. What has passed in some zones alone is theirs: `OwnClock.past` says."""
        return self.lateness is not None and now - self.late_since(start_at) > timedelta(minutes=self.lateness)


AT_ONCE: Final = Schedule()


def to_json(schedule: Schedule) -> dict[str, Any]:
    """As it is kept; the default is nothing."""
    own, windows = schedule.own, schedule.windows
    kept: dict[str, Any] = {
        "deliver_by": schedule.deliver_by and schedule.deliver_by.isoformat(),
        "zone": schedule.zone if schedule.zone != "UTC" else None,
        "lateness": schedule.lateness,
        "own": own and {"starts": own.starts.isoformat(), "ends": own.ends and own.ends.isoformat(), "past": own.past},
        "windows": windows
        and {
            "days": list(windows.days),
            "opens": windows.opens.isoformat("minutes"),
            "closes": windows.closes.isoformat("minutes"),
            "own": windows.own,
        },
    }
    return {name: value for name, value in kept.items() if value is not None}


def from_json(kept: Mapping[str, Any]) -> Schedule:
    """What `to_json` gave."""
    own, windows = kept.get("own"), kept.get("windows")
    return Schedule(
        deliver_by=_moment(kept.get("deliver_by")),
        own=own and OwnClock(datetime.fromisoformat(own["starts"]), _moment(own.get("ends")), own["past"]),
        zone=kept.get("zone", "UTC"),
        windows=windows
        and Windows(
            tuple(windows["days"]),
            time.fromisoformat(windows["opens"]),
            time.fromisoformat(windows["closes"]),
            windows["own"],
        ),
        lateness=kept.get("lateness"),
    )


def _moment(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None


def faults_of(schedule: Schedule, start_at: datetime | None) -> list[Fault]:
    """What is wrong in itself, at the fields of the form: start, zone, deliver_by, past, days, opens, lateness."""
    own = schedule.own
    starts, ends = (start_at, schedule.deliver_by) if own is None else (own.starts, own.ends)
    times = {("start", starts), ("start", start_at), ("deliver_by", ends), ("deliver_by", schedule.deliver_by)}
    faults = [Fault(name, TOO_FAR) for name in sorted({name for name, at in times if at is not None and is_far(at)})]
    if faults:  # all that follows reckons with zones, which ends with the calendar
        return faults
    if schedule.zone not in all_zones():
        faults.append(
            Fault("zone", f"There is no time zone named “{schedule.zone}”: Europe/Berlin is one, UTC another.")
        )
    if schedule.deliver_by and start_at and schedule.deliver_by <= start_at:
        faults.append(Fault("deliver_by", "It must be later than the start."))
    if schedule.deliver_by and schedule.own:
        faults.append(Fault("deliver_by", "Say it by leads' own clocks, as the start."))
    if schedule.own and schedule.own.ends and schedule.own.ends <= schedule.own.starts:
        faults.append(Fault("deliver_by", "It must be later than the start."))
    if schedule.own and schedule.own.past not in PAST:
        faults.append(Fault("past", f"Choose one of these: {', '.join(PAST)}."))
    if schedule.windows and not (schedule.windows.days and set(schedule.windows.days) <= set(range(1, 8))):
        faults.append(Fault("days", "Choose at least one day."))
    if schedule.lateness is not None and not 1 <= schedule.lateness <= LONGEST_LATENESS:
        faults.append(Fault("lateness", "It must be between 1 minute and a year."))
    return faults


def is_far(at: datetime) -> bool:
    """Whether a time, with its zone or without, is too far away for a plan; half a day more or less is no matter."""
    return abs(at.replace(tzinfo=None) - datetime.now(UTC).replace(tzinfo=None)) > FAR


def range_size(leads: int, seconds: float, most: int) -> int:
    """How large ranges are that are spread over so long: while leads are enough, at least one goes every minute."""
    return max(1, min(most, int(leads // max(1.0, seconds / STEP))))


@dataclass(frozen=True, slots=True)
class Part:
    """Leads that go by one clock, their zone's: from `begins_at` on, evenly until `deliver_by` where there is one.

    `tested`: they go when they begin, since others wait for what comes of them.
    """

    part: int
    zone: str
    begins_at: datetime
    deliver_by: datetime | None = None
    tested: bool = False

    def spreads(self, now: datetime) -> bool:
        """Whether what is left of it is spread: not when it is late already."""
        return not self.tested and self.deliver_by is not None and self.deliver_by > max(now, self.begins_at)

    def open_time(self, schedule: Schedule, now: datetime) -> list[Stretch]:
        """When it goes from now on: all its open time where it is spread, and else when it next opens."""
        windows, since = schedule.windows, max(now, self.begins_at)
        zone = self.zone if windows and windows.own else schedule.zone
        if self.deliver_by is not None and self.spreads(now):
            return stretches(windows, zone, since, self.deliver_by)
        return [next_stretch(windows, zone, since)]


def begin_of(own: OwnClock, zone: str, now: datetime) -> tuple[datetime, datetime | None]:
    """When leads of a zone begin, and until when they are to be delivered, by their own clocks.

    Where that has passed: now, or on the next day on which it has not.
    """
    days = timedelta(0)
    if own.past == "next_day":
        while moment(own.starts + days, zone) < now - GRACE:
            days += timedelta(days=1)
    ends = None if own.ends is None else moment(own.ends + days, zone)
    return moment(own.starts + days, zone), ends


@dataclass(frozen=True, slots=True)
class Standing:
    """A campaign and its schedule as they are at `now`."""

    campaign_id: int
    state: str
    start_at: datetime | None
    schedule: Schedule
    parts: int
    now: datetime


def find(conn: Connection, campaign_id: int) -> Standing:
    """A campaign's schedule; raises NotFound."""
    row = conn.execute(SQL.find, {"campaign_id": campaign_id}).first()
    if row is None:
        raise NotFound("There is no such campaign.")
    return Standing(row.id, row.state, row.start_at, from_json(row.schedule), row.parts, row.now)


def set_schedule(conn: Connection, campaign_id: int, start_at: datetime | None, schedule: Schedule) -> None:
    """Give a campaign these times and no others."""
    conn.execute(
        SQL.set_schedule, {"campaign_id": campaign_id, "start_at": start_at, "schedule": Jsonb(to_json(schedule))}
    )


def find_parts(conn: Connection, campaign_id: int) -> list[Part]:
    """The parts of a campaign that does not simply go at once; of one that does, none."""
    return [Part(*row) for row in conn.execute(SQL.find_parts, {"campaign_id": campaign_id})]


def set_parts(conn: Connection, campaign_id: int, parts: Sequence[Part]) -> None:
    """Give a campaign these parts and no others."""
    conn.execute(SQL.drop_parts, {"campaign_id": campaign_id})
    values = {
        "campaign_id": campaign_id,
        "parts": [each.part for each in parts],
        "zones": [each.zone for each in parts],
        "begins": [each.begins_at for each in parts],
        "deliver_by": [each.deliver_by for each in parts],
        "tested": [each.tested for each in parts],
    }
    conn.execute(SQL.add_parts, values)


def spread(conn: Connection, campaign_id: int, open_time: Mapping[int, Sequence[Stretch]]) -> int:
    """Give what is left of parts its times anew, evenly over a part's open time; the number of ranges.

    What was put off keeps its turn, but for parts that are not open then. What is held is not touched.
    """
    values = {"campaign_id": campaign_id} | _columns(open_time)
    return conn.execute(SQL.spread, values).rowcount + conn.execute(SQL.push, values).rowcount


def push(conn: Connection, campaign_id: int, open_time: Mapping[int, Sequence[Stretch]]) -> int:
    """Move ranges that are past their window, or before their part, to the part's next opening; the number of them."""
    values = {"campaign_id": campaign_id} | _columns(open_time)
    return conn.execute(SQL.push_closed, values).rowcount


def _columns(open_time: Mapping[int, Sequence[Stretch]]) -> dict[str, list[Any]]:
    """Stretches as columns, each with the seconds of open time before it in its part."""
    columns: dict[str, list[Any]] = {name: [] for name in ("parts", "opens", "closes", "before", "seconds")}
    for part, found in open_time.items():
        before = 0.0
        for each in found:
            for name, value in zip(columns, (part, each.opens, each.closes, before, each.seconds), strict=True):
                columns[name].append(value)
            before += each.seconds
    return columns


def free_rest(conn: Connection, campaign_id: int) -> int:
    """What waited for no time of a campaign without parts is due now; the number of ranges."""
    return conn.execute(SQL.free_rest, {"campaign_id": campaign_id}).rowcount


def shut(conn: Connection, campaign_id: int) -> None:
    """Whatever workers hold of a campaign comes back past its window, so that the clock moves it."""
    conn.execute(SQL.shut, {"campaign_id": campaign_id})


def find_closed(conn: Connection) -> dict[int, list[int]]:
    """campaign -> parts with ranges that are past their window, of campaigns that send."""
    found: dict[int, list[int]] = {}
    for row in conn.execute(SQL.find_closed):
        found.setdefault(row.campaign_id, []).append(row.part)
    return found


def find_behind(conn: Connection, seconds: float) -> list[int]:
    """Campaigns that are spread, and have ranges that were due so long ago; none that was spread less than that ago."""
    return list(conn.execute(SQL.find_behind, {"seconds": seconds}).scalars())


@dataclass(frozen=True, slots=True)
class Plan:
    """What was planned: (seconds since 1970, leads until then), and when and why that was last changed."""

    spread_at: datetime
    times: int
    why: str
    points: list[tuple[float, int]]


def find_plan(conn: Connection, campaign_id: int) -> Plan | None:
    """A campaign's plan; None where it has none."""
    row = conn.execute(SQL.find_plan, {"campaign_id": campaign_id}).first()
    return None if row is None else Plan(row.spread_at, row.times, row.why, [tuple(each) for each in row.points])


def keep_plan(conn: Connection, campaign_id: int, why: str, points: Sequence[tuple[float, int]]) -> None:
    """Keep a plan in the place of the one before."""
    conn.execute(SQL.keep_plan, {"campaign_id": campaign_id, "why": why, "points": Jsonb(list(points))})


def find_due(conn: Connection, campaign_id: int, slots: int) -> tuple[int, list[tuple[float, int]]]:
    """Leads that wait for no time any more, and of the others (seconds since 1970, leads due until then).

    The time between the first and the last is cut into so many steps at most.
    """
    rows = conn.execute(SQL.find_due, {"campaign_id": campaign_id, "slots": slots}).all()
    gone = sum(row.leads for row in rows if row.at is None)
    return int(gone), [(float(row.at), int(row.leads)) for row in rows if row.at is not None]


def find_next_due(conn: Connection, campaign_id: int) -> datetime | None:
    """When something is due next of a campaign; None where something is now, or nothing waits for a time."""
    found: datetime | None = conn.execute(SQL.find_next_due, {"campaign_id": campaign_id}).scalar()
    return found


def find_gone(conn: Connection, campaign_id: int, since: datetime) -> list[tuple[float, int]]:
    """(seconds since 1970, leads that came to their end in the five minutes from then on), in order."""
    values = {"campaign_id": campaign_id, "since": since}
    return [(float(row.at), int(row.leads)) for row in conn.execute(SQL.find_gone, values)]
