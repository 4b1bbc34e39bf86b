"""How figures, times and states are written on a page."""

from __future__ import annotations

from datetime import MAXYEAR, UTC, date, datetime
from zoneinfo import ZoneInfo

from flask import Flask
from markupsafe import Markup, escape

# The colour of every state and outcome, wherever one is shown: a class of app.css.
TONES = {
    "draft": "quiet",
    "scheduled": "info",
    "sending": "live",
    "settling": "warn",
    "paused": "warn",
    "finished": "good",
    "cancelled": "quiet",
    "uploading": "live",
    "waiting": "info",
    "running": "live",
    "failed": "bad",
    "active": "good",
    "unsubscribed": "warn",
    "invalid": "bad",
    "sent": "good",
    "delivered": "good",
    "opened": "info",
    "clicked": "info",
    "queued": "info",
    "refused": "bad",
    "bounced": "bad",
    "complained": "bad",
    "skipped": "quiet",
    "deferred": "warn",
    "unknown": "warn",
    "manual": "quiet",
    # Tones by their own names, where a figure has one without having a state.
    **{name: name for name in ("good", "warn", "bad", "info", "live", "quiet")},
}


def init_app(app: Flask) -> None:
    app.jinja_env.filters.update(
        number=number,
        size=size,
        percent=percent,
        when=when,
        tone=tone,
        attribute=attribute,
        address=address,
        in_zone=in_zone,
        day=day,
        duration=duration,
    )


def number(value: float | None) -> str:
    """1234567 as "1,234,567"; nothing as a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def size(value: int) -> str:
    """Bytes, as people say them."""
    amount = float(value)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def percent(part: float, whole: float) -> str:
    """A share, e.g. "12.5 %"; a dash of nothing. Never 100 % or 0 % by rounding alone."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


def when(moment: datetime | None) -> Markup:
    """A time in UTC that app.js writes again in the reader's own zone."""
    if moment is None:
        return Markup("–")
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:  # on the calendar's first or last day UTC may lie beyond it
        utc = (datetime.max if moment.year == MAXYEAR else datetime.min).replace(tzinfo=UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        utc.strftime("%Y-%m-%d %H:%M:%S UTC"),
        utc.strftime("%d %b %Y, %H:%M UTC").lstrip("0"),
    )


def in_zone(moment: datetime, zone: str) -> str:
    """A time with its zone said: "Sun 29 Mar 2026, 08:00 (Europe/Berlin)"."""
    try:
        moment = moment.astimezone(ZoneInfo(zone))
    except OverflowError:  # on the calendar's first or last day the zone's clock may lie beyond it
        zone = moment.tzname() or "UTC"
    return moment.strftime("%a %-d %b %Y, %H:%M") + f" ({zone})"


def day(value: date) -> str:
    """A day, as people say it: "Sun 29 Mar 2026"."""
    return value.strftime("%a %-d %b %Y")


def tone(state: str) -> str:
    """The colour class of a state."""
    return TONES.get(state, "quiet")


def attribute(value: object) -> str:
    """A lead's attribute: JSON's words for truth are not people's."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def address(value: str) -> Markup:
    """An email address that breaks before its @ where the line is too short."""
    return escape(value).replace("@", Markup("<wbr>@"))


def duration(seconds: float) -> str:
    """A stretch of time, as people say it: "12 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
