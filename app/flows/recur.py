"""Repeating: at each of its times a campaign is copied, and the copy is launched to who matches then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from app.errors import Conflict, Fault, Invalid
from app.models import campaign, campaign_rate, recurrence
from app.models import schedule as planned
from app.models.open_time import moment
from app.models.recurrence import Recurrence
from app.models.schedule import OwnClock, Schedule, from_json, to_json
from app.runtime import Runtime

MOST: Final = 20_000  # times that are gone through to find the next


@dataclass(frozen=True, slots=True)
class Repeats:
    """What a form says of it: a rule (RRULE), and whether who got one of them is left out of the next."""

    rule: str
    skip_sent: bool = True


def faults_of(repeats: Repeats, begins: datetime | None) -> list[Fault]:
    """What is wrong with it, at "rule" or "start"."""
    if begins is None:
        return [Fault("start", "Say when it goes for the first time: a campaign that repeats goes at a time.")]
    try:
        recurrence.check(repeats.rule, begins)
    except Invalid as invalid:
        return list(invalid.faults)
    return []


def begins_of(schedule: Schedule, start_at: datetime | None) -> datetime | None:
    """A campaign's first time by the clock that its rule goes by."""
    if schedule.own is not None:
        return schedule.own.starts
    return None if start_at is None else start_at.astimezone(ZoneInfo(schedule.zone)).replace(tzinfo=None)


def next_times(repeats: Recurrence, schedule: Schedule, after: datetime, count: int = 5) -> list[datetime]:
    """The moments of the next times, at most so many."""
    return [at for _, at in islice(_moments(repeats, schedule, after), count)]


def find_next(conn: Connection, campaign_id: int, after: datetime) -> datetime | None:
    """When a campaign that repeats goes next; None where it does not repeat, or has no time to come."""
    repeats = recurrence.find(conn, campaign_id)
    if repeats is None:
        return None
    return next(iter(next_times(repeats, planned.find(conn, campaign_id).schedule, after, 1)), None)


def _moments(repeats: Recurrence, schedule: Schedule, after: datetime) -> Iterator[tuple[datetime, datetime]]:
    """(by the clock, the moment) of times after a moment. By leads' own clocks it is the first zone's."""
    local = after.astimezone(ZoneInfo(repeats.zone)).replace(tzinfo=None) - timedelta(days=1)
    for at in islice(recurrence.times(repeats.rule, repeats.begins, local), MOST):
        due = moment(at, repeats.zone) if schedule.own is None else OwnClock(at).first_moment()
        if due > after:
            yield at, due


def next_schedule(repeats: Recurrence, schedule: Schedule, after: datetime) -> Schedule:
    """What was chosen, as it is at the next time; as it was at the first where none is to come."""
    found = next(_moments(repeats, schedule, after), None)
    return schedule if found is None else _moved(schedule, repeats, *found)


def _moved(schedule: Schedule, repeats: Recurrence, local: datetime, at: datetime) -> Schedule:
    """What was chosen, as it is at one time: as far from that as it was from the first."""
    if schedule.own is not None:
        own = schedule.own
        ends = None if own.ends is None else own.ends + (local - own.starts)
        return replace(schedule, own=replace(own, starts=local, ends=ends))
    if schedule.deliver_by is not None:
        return replace(schedule, deliver_by=at + (schedule.deliver_by - moment(repeats.begins, repeats.zone)))
    return schedule


def schedule_first(conn: Connection, row: Mapping[str, Any], now: datetime) -> Schedule:
    """Set a draft that repeats to its next time, as it is launched; what it chose, as it is then.

    Raises Invalid ("start") where there is no time to come.
    """
    repeats, schedule = recurrence.find(conn, row["id"]), from_json(row["schedule"])
    if repeats is None:
        return schedule
    found = next(_moments(repeats, schedule, now), None)
    if found is None:
        raise Invalid.one("start", "It has no time to come: choose a later start, or a rule that goes on.")
    recurrence.set_paused(conn, row["id"], False)
    recurrence.set_next(conn, row["id"], found[1])
    return _moved(schedule, repeats, *found)


def take_back(conn: Connection, campaign_id: int) -> None:
    """Let what repeats, and is a draft again, begin when it did.

    The start of its form would be its next time otherwise, and once that is saved a COUNT begins anew.
    """
    repeats = recurrence.find(conn, campaign_id)
    if repeats is not None:
        chosen = planned.find(conn, campaign_id).schedule
        recurrence.set_paused(conn, campaign_id, False)
        recurrence.set_next(conn, campaign_id, chosen.first_moment() or moment(repeats.begins, repeats.zone))


def occur(
    conn: Connection,
    row: Mapping[str, Any],
    repeats: Recurrence,
    now: datetime,
    start: Callable[[Connection, Mapping[str, Any]], int],
) -> int | None:
    """Make the campaign of the time that has come, and launch it; its id, None where it was skipped.

    `row` is the origin's, locked. Of several times that were missed, the last is made: nobody wants three newsletters
    at once. It is skipped as well where it is later than the campaign allows.
    """
    schedule = from_json(row["schedule"])
    due = _until(repeats, schedule, row["start_at"], now)
    (local, at), made_id = due[-1], None
    if not _moved(schedule, repeats, local, at).is_too_late(at, now):
        made_id = _make(conn, row, repeats, schedule, local, at)
        if made_id is not None:
            start(conn, campaign.lock(conn, row["organisation_id"], made_id))
    recurrence.count(conn, row["id"], made=int(made_id is not None), missed=len(due) - (made_id is not None))
    _go_on(conn, row["id"], repeats, schedule, now)
    return made_id


def _until(repeats: Recurrence, schedule: Schedule, first: datetime, now: datetime) -> list[tuple[datetime, datetime]]:
    """Times from the one that was due first until now; at least one."""
    found = []
    for local, at in _moments(repeats, schedule, first - timedelta(microseconds=1)):
        if at > now:
            break
        found.append((local, at))
    return found or [(first.astimezone(ZoneInfo(repeats.zone)).replace(tzinfo=None), first)]


def _make(
    conn: Connection, row: Mapping[str, Any], repeats: Recurrence, schedule: Schedule, local: datetime, at: datetime
) -> int | None:
    """The copy for one time, its own times as far from it as the first one's were."""
    moved = to_json(_moved(schedule, repeats, local, at))
    copied = recurrence.copy(conn, row["id"], f" · {local:%-d %b %Y %H:%M}", at, moved)
    if copied is not None:
        campaign_rate.copy(conn, row["id"], copied)
    return copied


def _go_on(conn: Connection, campaign_id: int, repeats: Recurrence, schedule: Schedule, now: datetime) -> None:
    """Wait for the next time, or end."""
    found = next_times(repeats, schedule, now, 1)
    if found:
        recurrence.set_next(conn, campaign_id, found[0])
    else:
        campaign.move(conn, campaign_id, "finished", "It has come to the end of its rule, and repeats no more.")


# -- By a person -------------------------------------------------------------------------------------------------------


def pause(runtime: Runtime, organisation_id: int, campaign_id: int) -> None:
    """Make nothing of it until somebody lets it go on. Raises Conflict, NotFound."""
    with runtime.db.begin() as conn:
        _find(conn, organisation_id, campaign_id)
        recurrence.set_paused(conn, campaign_id, True)
        recurrence.set_next(conn, campaign_id, None)


def go_on(runtime: Runtime, organisation_id: int, campaign_id: int) -> None:
    """Go on with the next time to come; those of the pause are not made up for. Raises Conflict, NotFound."""
    with runtime.db.begin() as conn:
        row, repeats = _find(conn, organisation_id, campaign_id)
        recurrence.set_paused(conn, campaign_id, False)
        _go_on(conn, campaign_id, repeats, from_json(row["schedule"]), campaign.now(conn))


def end(runtime: Runtime, organisation_id: int, campaign_id: int) -> None:
    """Repeat no more; what was made of it goes on. Raises Conflict, NotFound."""
    with runtime.db.begin() as conn:
        _find(conn, organisation_id, campaign_id)
        campaign.move(conn, campaign_id, "finished", "Somebody ended it: it repeats no more.")


def _find(conn: Connection, organisation_id: int, campaign_id: int) -> tuple[Mapping[str, Any], Recurrence]:
    row = campaign.lock(conn, organisation_id, campaign_id)
    repeats = recurrence.find(conn, campaign_id)
    if repeats is None or row["state"] != "scheduled":
        raise Conflict("The campaign does not repeat now.")
    return row, repeats
