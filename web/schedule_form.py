"""The part of the campaign form that says when it goes: its start, its pace, its windows, and whether it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, time
from typing import Final

from wtforms import BooleanField, IntegerField, RadioField, SelectField, SelectMultipleField, StringField
from wtforms.validators import Optional
from wtforms.widgets import CheckboxInput, DateTimeLocalInput, ListWidget, TimeInput

from app.errors import Fault, Invalid
from app.flows.recur import Repeats
from app.models.open_time import Windows
from app.models.recurrence import Recurrence
from app.models.schedule import OwnClock, Schedule
from web.forms import Form, choices
from web.zones import AHEAD, is_zone, last_zone, read_moment, write_moment

WHEN: Final = [
    ("now", "As soon as it is launched"),
    ("later", "At a time"),
    ("own", "At a time by each lead's own clock"),
]
PAST: Final = [("now", "go at once"), ("next_day", "go on the next day")]
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LOCAL: Final = "%a %-d %b %Y, %H:%M"
RULES: Final = {
    "": "No",
    "FREQ=DAILY": "Every day",
    "FREQ=WEEKLY": "Every week",
    "FREQ=MONTHLY": "Every month",
    "own": "By a rule",
}


class DaysField(SelectMultipleField):  # type: ignore[misc]
    """Weekdays, 1 to 7, each a box of its own."""

    widget = ListWidget(prefix_label=False)
    option_widget = CheckboxInput()


class ScheduleFields:
    """Its fields are named like the faults of app.models.schedule and app.flows.recur."""

    when = RadioField("Sent", choices=choices(WHEN), default="now")
    start = StringField("Day and time", widget=DateTimeLocalInput())
    zone = StringField("Time zone", description="Of all times here, and for leads whose own is not known.")
    past = SelectField("Leads whose time has passed", choices=choices(PAST), default="now")
    deliver_by = StringField(
        "All of it by",
        widget=DateTimeLocalInput(),
        description="Evenly until then, corrected as it goes. Left empty, it goes as fast as limits allow.",
    )
    windows = BooleanField("Only on some days and hours")
    days = DaysField("Days", choices=choices(enumerate(DAYS, 1)), coerce=int, validate_choice=False)
    opens = StringField("Opens at", widget=TimeInput(), default="08:00")
    closes = StringField("Closes at", widget=TimeInput(), default="18:00")
    windows_own = BooleanField("By each lead's own clock")
    lateness = IntegerField(
        "Not begun when late by more than (minutes)",
        validators=[Optional()],
        description="If nothing could run at its time. Left empty, it goes as soon as it can.",
    )
    repeats = SelectField("Repeats", choices=choices(RULES.items()), default="")
    rule = StringField("Rule", description="As in calendars (RFC 5545): FREQ=MONTHLY;BYDAY=1MO is each first Monday.")
    skip_sent = BooleanField("Leave out who got one of them", default=True)


NAMES: Final = ("start", "zone", "past", "deliver_by", "days", "opens", "closes", "lateness", "repeats", "rule")


def offer(form: Form) -> None:
    """A campaign goes without any of these: none is called optional."""
    for field in form:
        if field.name in NAMES:
            field.flags.plain = True


def fresh() -> dict[str, object]:
    """What a new campaign's form holds."""
    return {"when": "now", "zone": last_zone(), "days": [1, 2, 3, 4, 5]}


def read(form: Form) -> tuple[datetime | None, Schedule, Repeats | None]:
    """What was written: the start, the schedule, and how it repeats. Raises Invalid naming what is wrong."""
    faults: list[Fault] = []
    zone = (form["zone"].data or "UTC").strip()
    if not is_zone(zone):
        raise Invalid.one("zone", f"There is no time zone named “{zone}”: Europe/Berlin is one, UTC another.")
    when, start_at, own, by = form["when"].data, None, None, None
    if when == "own":
        own = _own_clock(form, faults)
    else:
        start_at = _moment(form, "start", zone, faults) if when == "later" else None
        by = _moment(form, "deliver_by", zone, faults) if form["deliver_by"].data else None
    windows = _windows(form, faults) if form["windows"].data else None
    if form["lateness"].errors:
        faults.append(Fault("lateness", "It is a number of minutes."))
    if faults:
        raise Invalid(faults)
    return start_at, Schedule(by, own, zone, windows, form["lateness"].data), _repeats(form)


def _repeats(form: Form) -> Repeats | None:
    chosen = form["repeats"].data if "repeats" in form else ""
    if not chosen:
        return None
    return Repeats((form["rule"].data or "") if chosen == "own" else chosen, bool(form["skip_sent"].data))


def _moment(form: Form, name: str, zone: str, faults: list[Fault]) -> datetime | None:
    written = form[name].data or ""
    # what repeats began when it did: as it was saved, its first time may have passed
    stays = bool(_repeats(form)) and written == form[name].object_data
    try:
        return read_moment(written, zone, past=stays)
    except Invalid as invalid:
        faults.extend(Fault(name, each.message) for each in invalid.faults)
        return None


def _own_clock(form: Form, faults: list[Fault]) -> OwnClock | None:
    starts = read_local(form["start"].data or "")
    ends = read_local(form["deliver_by"].data) if form["deliver_by"].data else None
    if starts is None:
        faults.append(Fault("start", "Say when: a day and a time of the next five years."))
    if form["deliver_by"].data and ends is None:
        faults.append(Fault("deliver_by", "Say until when: a day and a time of the next five years."))
    return OwnClock(starts, ends, form["past"].data or "now") if starts else None


def read_local(written: str) -> datetime | None:
    """A day and a time without a zone; None where it is none, or no plan: years ago, or years ahead."""
    with suppress(ValueError):
        local = datetime.fromisoformat(written).replace(tzinfo=None)
        if abs(local - datetime.now()) < AHEAD:
            return local
    return None


def _windows(form: Form, faults: list[Fault]) -> Windows | None:
    hours = []
    for name in ("opens", "closes"):
        try:
            hours.append(time.fromisoformat(form[name].data or "").replace(second=0, microsecond=0, tzinfo=None))
        except ValueError:
            faults.append(Fault(name, "Say a time, as 08:00."))
    if not form["days"].data:
        faults.append(Fault("days", "Choose at least one day."))
    if len(hours) < 2:
        return None
    return Windows(tuple(sorted(form["days"].data or ())), hours[0], hours[1], bool(form["windows_own"].data))


def written(start_at: datetime | None, schedule: Schedule, repeats: Recurrence | None) -> dict[str, object]:
    """A saved schedule in the form's fields."""
    by_its_clock = schedule.own or schedule.windows or repeats  # in another zone these would mean other times
    zone = schedule.zone if by_its_clock or schedule.zone != "UTC" else last_zone()
    values: dict[str, object] = {"when": "later" if start_at else "now", "zone": zone, "days": [1, 2, 3, 4, 5]}
    values |= {"start": write_moment(start_at, zone) if start_at else "", "lateness": schedule.lateness}
    if schedule.deliver_by:
        values["deliver_by"] = write_moment(schedule.deliver_by, zone)
    if schedule.own:
        values |= {"when": "own", "start": _local(schedule.own.starts), "past": schedule.own.past}
        values["deliver_by"] = _local(schedule.own.ends) if schedule.own.ends else ""
    if schedule.windows:
        windows = schedule.windows
        values |= {"windows": True, "days": list(windows.days), "windows_own": windows.own}
        values |= {"opens": f"{windows.opens:%H:%M}", "closes": f"{windows.closes:%H:%M}"}
    if repeats:
        known = repeats.rule in RULES
        values |= {"repeats": repeats.rule if known else "own", "rule": "" if known else repeats.rule}
        values |= {"skip_sent": repeats.skip_sent}
    return values


def _local(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"


def words_of(schedule: Schedule, show: Sequence[str] = DAYS) -> list[tuple[str, str]]:
    """A schedule for people: (what, how), without its start."""
    told = []
    if schedule.own:
        past = dict(PAST)[schedule.own.past]
        told.append(("By leads' own clocks", f"{schedule.own.starts:{LOCAL}} wherever they are"))
        told.append(("Zones not known", f"as {schedule.zone}; leads whose time has passed {past}"))
        if schedule.own.ends:
            told.append(("All of it by", f"{schedule.own.ends:{LOCAL}} by their clocks"))
    if schedule.windows:
        windows = schedule.windows
        days = "every day" if len(windows.days) == 7 else ", ".join(show[number - 1] for number in windows.days)
        clock = "each lead's own clock" if windows.own else schedule.zone
        told.append(("Only", f"{days}, {windows.opens:%H:%M} to {windows.closes:%H:%M} by {clock}"))
    if schedule.lateness:
        told.append(("If late", f"not begun when more than {schedule.lateness:,} minutes late"))
    return told
