"""What repeats: a rule (RFC 5545's RRULE), and the campaigns that were made of the one that has it."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from math import prod
from typing import Any, Final

from dateutil.rrule import rrulestr
from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from app.db import Statements
from app.errors import Invalid

SQL = Statements("recurrence")
AHEAD: Final = timedelta(days=5 * 366)  # a rule that names no time for so long names none
LONGEST: Final = 300  # characters
A_DAY: Final = 24  # times: each is a campaign of its own
# What a rule may say. Less than RFC 5545: of some others the library would look for a time until the
# year 9999, for seconds, where there is none.
ALWAYS: Final = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "BYHOUR", "BYMINUTE", "WKST"})
OF_MONTHS: Final = ALWAYS | {"BYMONTHDAY", "BYMONTH", "BYSETPOS"}
PARTS: Final = {"DAILY": ALWAYS, "WEEKLY": ALWAYS, "MONTHLY": OF_MONTHS, "YEARLY": OF_MONTHS}
DAYS: Final = {"DAILY": 1, "WEEKLY": 7}
MONTHS: Final = {"MONTHLY": 1, "YEARLY": 12}


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A campaign's rule, from `begins` (by its zone's clock) on. Paused, it makes nothing; `missed` were overdue."""

    campaign_id: int
    rule: str
    begins: datetime
    zone: str
    skip_sent: bool = True
    paused_at: datetime | None = None
    made: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """A campaign that was made for one time."""

    id: int
    name: str
    state: str
    occurs_at: datetime
    audience: int | None


def times(rule: str, begins: datetime, after: datetime | None = None) -> Iterator[datetime]:
    """The times of a rule by the zone's clock, those later than `after`, in order. Raises Invalid naming "rule".

    What has no time for five years ends there, whatever it says: rules may name days that there are not.
    """
    parts = _parts(rule)
    count = _number(parts.pop("COUNT", None), "COUNT")
    interval = _number(parts.get("INTERVAL"), "INTERVAL") or 1
    first = max(begins, after or begins)
    start = begins if count else _near(begins, first, parts["FREQ"], interval)
    limit = first + AHEAD
    try:
        limit = min(limit, _until(parts.pop("UNTIL", None)))
        written = ";".join(f"{name}={value}" for name, value in parts.items())
        found = iter(rrulestr(f"{written};UNTIL={limit:%Y%m%dT%H%M%S}", dtstart=start))
        yield from (at for at in islice(found, count) if after is None or at > after)
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid.one("rule", f"This is no rule: {error}.") from None


def _near(begins: datetime, until: datetime, frequency: str, interval: int) -> datetime:
    """The last day until then that is whole intervals after a rule's first, so that it goes on from it as from that.

    From the first on, what repeats every minute is half a million steps after a year, at each look at a page.
    """
    if frequency in DAYS:
        step = timedelta(days=DAYS[frequency] * interval)
        return begins + (until - begins) // step * step
    step_months = MONTHS[frequency] * interval
    months = (until.year - begins.year) * 12 + until.month - begins.month
    for steps in range(months // step_months, 0, -1):
        year, month = divmod(begins.month - 1 + steps * step_months, 12)
        if begins.day <= monthrange(begins.year + year, month + 1)[1]:  # not every month has a 31st
            found = begins.replace(year=begins.year + year, month=month + 1)
            if found <= until:
                return found
    return begins


def check(rule: str, begins: datetime) -> None:
    """Raises Invalid naming "rule" where it is none, or names no time, or too many."""
    if next(times(rule, begins), None) is None:
        raise Invalid.one("rule", "It names no time in the five years to come.")
    parts = _parts(rule)
    a_day = prod(len(set(parts[name].split(","))) for name in ("BYHOUR", "BYMINUTE") if name in parts)
    if a_day > A_DAY:
        raise Invalid.one("rule", f"It names {a_day:,} times a day: at most {A_DAY} may be.")


def _parts(rule: str) -> dict[str, str]:
    text = rule.strip().upper().removeprefix("RRULE:")
    if not text or len(text) > LONGEST:
        raise Invalid.one("rule", f"Write a rule of at most {LONGEST} characters: FREQ=WEEKLY;BYDAY=MO,TH is one.")
    pieces = [piece.partition("=") for piece in text.split(";") if piece]
    parts = {name: value for name, _, value in pieces}
    frequency = parts.get("FREQ", "")
    if frequency not in PARTS:
        raise Invalid.one("rule", f"FREQ is one of {', '.join(PARTS)}: FREQ=WEEKLY;BYDAY=MO,TH is a rule.")
    for name, value in parts.items():
        if name not in PARTS[frequency] or not value:
            raise Invalid.one("rule", f"“{name}” cannot be said of {frequency}, or says nothing.")
    return parts


def _until(written: str | None) -> datetime:
    """UNTIL by the zone's clock; a day without a time to its end."""
    if written is None:
        return datetime.max
    text = written.rstrip("Z")
    if "T" in text:
        return datetime.strptime(text, "%Y%m%dT%H%M%S")
    return datetime.strptime(text + "235959", "%Y%m%d%H%M%S")


def _number(written: str | None, name: str) -> int | None:
    """A number of a rule, at least 1: with INTERVAL=0 time would stand still."""
    if written is None:
        return None
    if not written.isascii() or not written.isdigit() or not 1 <= int(written) <= 10_000:
        raise Invalid.one("rule", f"{name} is a number from 1 to 10,000.")
    return int(written)


def find(conn: Connection, campaign_id: int) -> Recurrence | None:
    """A campaign's rule; None where it does not repeat."""
    row = conn.execute(SQL.find, {"campaign_id": campaign_id}).first()
    return None if row is None else Recurrence(*row)


def keep(conn: Connection, campaign_id: int, rule: str, begins: datetime, zone: str, *, skip_sent: bool) -> None:
    """Let a campaign repeat by this rule; what it made so far stays counted. Raises Invalid naming "rule"."""
    check(rule, begins)
    values = {"campaign_id": campaign_id, "rule": rule.strip().upper(), "begins": begins, "zone": zone}
    conn.execute(SQL.keep, values | {"skip_sent": skip_sent})


def drop(conn: Connection, campaign_id: int) -> None:
    """Let a campaign be one that is sent once."""
    conn.execute(SQL.drop, {"campaign_id": campaign_id})


def count(conn: Connection, campaign_id: int, *, made: int, missed: int) -> None:
    """So many more campaigns were made of it, and so many times missed."""
    conn.execute(SQL.count, {"campaign_id": campaign_id, "made": made, "missed": missed})


def set_paused(conn: Connection, campaign_id: int, paused: bool) -> None:
    """Make nothing of it any more for now, or go on."""
    conn.execute(SQL.set_paused, {"campaign_id": campaign_id, "paused": paused})


def set_next(conn: Connection, campaign_id: int, start_at: datetime | None) -> None:
    """When the next one is made; None: not before somebody says so."""
    conn.execute(SQL.set_next, {"campaign_id": campaign_id, "start_at": start_at})


def copy(conn: Connection, campaign_id: int, label: str, occurs_at: datetime, schedule: dict[str, Any]) -> int | None:
    """A draft for one time of a campaign, all of its contents too, no rate; its id, None where there is one already."""
    values = {"campaign_id": campaign_id, "label": label, "occurs_at": occurs_at, "schedule": Jsonb(schedule)}
    copy_id = conn.execute(SQL.copy_campaign, values).scalar()
    if copy_id is None:
        return None
    for statement in (SQL.copy_content, SQL.copy_links, SQL.copy_test):
        conn.execute(statement, {"campaign_id": campaign_id, "copy_id": copy_id})
    return int(copy_id)


def find_made(conn: Connection, campaign_id: int, limit: int = 20) -> list[Made]:
    """Campaigns that were made of one, the newest first."""
    return [Made(*row) for row in conn.execute(SQL.find_made, {"campaign_id": campaign_id, "limit": limit})]


def find_origin(conn: Connection, campaign_id: int) -> tuple[int, str] | None:
    """(id, name) of the campaign that one was made of."""
    row = conn.execute(SQL.find_origin, {"campaign_id": campaign_id}).first()
    return None if row is None else (row.id, row.name)
