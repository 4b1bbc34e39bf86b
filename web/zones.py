"""Time zones of people: which there are, which one they used last, and moments written in one."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from flask import session

from app.errors import Invalid

AHEAD = timedelta(days=5 * 366)  # whatever lies farther is a slip of the keyboard, not a plan


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


def read_moment(written: str, zone: str, now: datetime | None = None, *, past: bool = False) -> datetime:
    """A moment of the next 5 years from "2026-03-29T02:30" in a zone, as UTC; of the `past` too where that may be.

    Raises Invalid: "start" or "zone".
    """
    if not is_zone(zone):
        raise Invalid.one("zone", f"There is no time zone named “{zone}”: Europe/Berlin is one, UTC another.")
    now = now or datetime.now(UTC)
    try:
        local = datetime.fromisoformat(written).replace(tzinfo=None)
        # Before any reckoning with zones, which ends with the calendar; half a day more or less is no matter here.
        if local - now.astimezone(UTC).replace(tzinfo=None) > AHEAD:
            raise Invalid.one("start", "The day and time lie more than 5 years ahead: choose an earlier day.")
        moment = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        back = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise Invalid.one("start", "Say when: a day and a time.") from None
    if back != local:
        raise Invalid.one("start", f"This time does not exist in {zone}: the clocks are put forward then.")
    if moment <= now and not past:
        raise Invalid.one("start", f"That has passed already in {zone}: choose a later time, or send when launched.")
    return moment


def write_moment(moment: datetime, zone: str) -> str:
    """A moment as a form's field holds it."""
    with suppress(OverflowError):  # at the end of the calendar, where the zone's clock may lie beyond it: as it stands
        moment = moment.astimezone(ZoneInfo(zone))
    return moment.strftime("%Y-%m-%dT%H:%M")
