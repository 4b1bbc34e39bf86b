"""Time zones of people: which there are, which one they used last, and moments written in one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from flask import session

from app.errors import Invalid

YEARS_AHEAD = 5  # the farthest that anything is planned; rather a slip of the keyboard than a plan


@cache
def zone_names() -> tuple[str, ...]:
    """The zones that a form offers: UTC, then those that are named after places."""
    places = sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/"))
    return ("UTC", *places)


def last_zone() -> str:
    """The zone that was used last in this session; UTC at first."""
    zone = session.get("zone")
    return zone if isinstance(zone, str) and is_zone(zone) else "UTC"


def keep_zone(zone: str) -> None:
    """Remember a zone for the next form."""
    if session.get("zone") != zone:
        session["zone"] = zone


def is_zone(name: str) -> bool:
    """Whether there is a time zone of this name."""
    return name in available_timezones()


def read_moment(written: str, zone: str, now: datetime | None = None) -> datetime:
    """A future moment from "2026-03-29T02:30" in a zone, as UTC. Raises Invalid naming "start" or "zone"."""
    if not is_zone(zone):
        raise Invalid.one("zone", f"There is no time zone named “{zone}”: Europe/Berlin is one, UTC another.")
    try:
        moment = datetime.fromisoformat(written).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        back = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise Invalid.one("start", "Say when: a day and a time.") from None
    if back != datetime.fromisoformat(written).replace(tzinfo=None):
        raise Invalid.one("start", f"This time does not exist in {zone}: the clocks are put forward then.")
    now = now or datetime.now(UTC)
    if moment > now + timedelta(days=366 * YEARS_AHEAD):
        raise Invalid.one("start", f"The day and time lie more than {YEARS_AHEAD} years ahead: choose an earlier day.")
    if moment <= now:
        raise Invalid.one("start", f"That has passed already in {zone}: choose a later time, or send when launched.")
    return moment


def write_moment(moment: datetime, zone: str) -> str:
    """A moment as a form's field holds it."""
    try:
        moment = moment.astimezone(ZoneInfo(zone))
    except OverflowError:  # a day that the calendar ends on: as it stands
        pass
    return moment.strftime("%Y-%m-%dT%H:%M")
