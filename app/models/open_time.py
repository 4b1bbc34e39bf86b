"""Open time: when mail may go, by which clock, and which zones' clocks are alike.

Local times become moments by the rules of PEP 495 with fold 0: an hour that is skipped when clocks are put forward is
counted by the clock before (02:30 is 03:30 then), and of an hour that comes twice the first is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

AHEAD: Final = timedelta(days=400)  # as far as openings are looked for, and zones are told apart
QUARTER: Final = timedelta(minutes=15)
A_DAY: Final = 96  # quarters of an hour


@dataclass(frozen=True, slots=True)
class Windows:
    """When mail may go: on these weekdays from `opens` to `closes`, on the next day where that is not later.

    `own`: by each lead's own clock; otherwise by that of the schedule's zone.
    """

    days: tuple[int, ...]
    opens: time
    closes: time
    own: bool = False


def moment(local: datetime, zone: str) -> datetime:
    """When a zone's clock shows this; see the file's head for clocks that are changed."""
    return local.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)


def known_zone(zone: str | None, otherwise: str) -> str:
    """A lead's zone, or another where it has none or one that there is not."""
    return zone if zone in all_zones() else otherwise


@lru_cache(4)
def all_zones() -> frozenset[str]:
    """Every zone's name; read once, since `available_timezones` opens a file for each."""
    return frozenset(available_timezones())


@dataclass(frozen=True, slots=True)
class Opening:
    """Mail may go from `opens` on, and until `closes`; None: for ever."""

    opens: datetime
    closes: datetime | None


def openings(windows: Windows | None, zone: str, since: datetime) -> Iterator[Opening]:
    """When mail may go, from `since` on, in order; what began before begins then. Ends after a year or so.

    Windows that follow each other without a gap, or overlap, are one.
    """
    if windows is None:
        yield Opening(since, None)
        return
    current: Opening | None = None
    for each in _days(windows, zone, since):
        if current is not None and current.closes is not None and each.opens <= current.closes:
            current = replace(current, closes=max(current.closes, each.closes or current.closes))
        else:
            if current is not None:
                yield current
            current = each
    if current is not None:
        yield current


def _days(windows: Windows, zone: str, since: datetime) -> Iterator[Opening]:
    """Each day's window that is not over at `since`."""
    day = since.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)
    last = day + AHEAD
    overnight = timedelta(days=windows.closes <= windows.opens)
    while day < last:
        if day.isoweekday() in windows.days:
            opens = max(since, moment(datetime.combine(day, windows.opens), zone))
            closes = moment(datetime.combine(day + overnight, windows.closes), zone)
            if opens < closes:
                yield Opening(opens, closes)
        day += timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Open time that leads are spread over: `seconds` of it from `opens` on, 0 where all go at once.

    Its window ends at `closes`, which may be later; None: never.
    """

    opens: datetime
    closes: datetime | None
    seconds: float


def next_stretch(windows: Windows | None, zone: str, since: datetime) -> Stretch:
    """The first time from `since` on when mail may go, for all at once."""
    found = next(openings(windows, zone, since), Opening(since, None))
    return Stretch(found.opens, found.closes, 0.0)


def stretches(windows: Windows | None, zone: str, since: datetime, until: datetime) -> list[Stretch]:
    """All open time between two moments; where there is none, the next after it, for all at once."""
    found: list[Stretch] = []
    for each in openings(windows, zone, since):
        if each.opens >= until:
            break
        ends = until if each.closes is None else min(each.closes, until)
        found.append(Stretch(each.opens, each.closes, (ends - each.opens).total_seconds()))
    return found or [next_stretch(windows, zone, since)]


def group_zones(leads: Mapping[str | None, int], zone: str, now: datetime) -> dict[str, dict[str | None, int]]:
    """Leads by zone as they have it, put together by zones whose clocks show the same for a year from now on.

    One zone of each stands for it: -> zones as leads have them -> leads. Those unknown are with `zone`, in the first.
    """
    groups: dict[str, dict[str | None, int]] = {zone: {}}
    alike = {_clock(zone, now.date().toordinal()): zone}
    for own, count in sorted(leads.items(), key=lambda each: -each[1]):
        known = known_zone(own, zone)
        head = alike.setdefault(_clock(known, now.date().toordinal()), known)
        groups.setdefault(head, {})[own] = count
    return {head: found for head, found in groups.items() if found}


@lru_cache(2000)
def _clock(zone: str, day: int) -> tuple[tuple[int, timedelta | None], ...]:
    """What tells a zone's clock from others: when it will change, in quarters of an hour, and to what."""
    first, info = datetime.fromordinal(day).replace(tzinfo=UTC), ZoneInfo(zone)

    def offset(quarter: int) -> timedelta | None:
        return (first + quarter * QUARTER).astimezone(info).utcoffset()

    last = offset(0)
    changes = [(0, last)]
    for quarter in range(0, AHEAD // QUARTER, A_DAY):
        if offset(quarter + A_DAY) != last:
            at = next(each for each in range(quarter, quarter + A_DAY + 1) if offset(each) != last)
            last = offset(at)
            changes.append((at, last))
    return tuple(changes)
