"""Reports across campaigns: who sent how many emails on which days, and what happened to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, jsonify, render_template, request
from sqlalchemy import Connection
from werkzeug.exceptions import NotFound as NoPage

import app
from app.errors import Invalid
from app.models import campaign_list, lead, report, user
from app.models.figures import Figures
from app.models.report import Day, Named, Period
from web.charts import DAY, HOUR, chart, second_of
from web.context import me, runtime
from web.zones import is_zone, keep_zone, last_zone, zone_names

blueprint = Blueprint("reports", __name__)
MANUAL = Path(app.__file__).parent.parent / "docs" / "reports.md"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form asks. `domain` is as it was typed; `domain_id` None with a domain: nobody has it."""

    first: date
    last: date
    zone: str
    user_id: int | None
    campaign_id: int | None
    domain: str
    domain_id: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A report: the whole, and the same by day, user, campaign and recipient domain."""

    whole: Figures
    days: list[Day]
    users: list[Named]
    campaigns: list[Named]
    domains: list[Named]


@blueprint.get("/reports")
def index() -> str | tuple[str, int]:
    with runtime().reports.begin() as conn:
        asked = _asked(conn)
        users, campaigns = _names(conn)
        try:
            answer = _answer(conn, asked, _period(asked))
            faults: tuple[str, ...] = ()
        except Invalid as invalid:
            answer, faults = None, tuple(fault.message for fault in invalid.faults)
    page = render_template(
        "reports/index.html",
        asked=asked,
        answer=answer,
        faults=faults,
        users=users,
        campaigns=campaigns,
        zones=zone_names(),
        spans=_spans(asked.zone),
        has_manual=MANUAL.is_file(),
    )
    return (page, 422) if faults else page


@blueprint.get("/reports/days.json")
def days() -> Response:
    """The chart of the same question."""
    with runtime().reports.begin() as conn:
        asked = _asked(conn)
        found = _days(conn, asked, _period(asked))
    return jsonify(chart(_by_day(found), DAY, "UTC", [second_of(asked.first), second_of(asked.last)]))


@blueprint.get("/campaigns/<int:campaign_id>/hours.json")
def hours(campaign_id: int) -> Response:
    """A campaign's chart."""
    with runtime().reports.begin() as conn:
        report.find_campaign(conn, me().organisation_id, campaign_id)
        found = report.sum_campaign_hours(conn, me().organisation_id, campaign_id)
    return jsonify(chart({second_of(hour.bucket): hour.figures for hour in found}, HOUR, "local"))


@blueprint.get("/reports/sql")
def manual() -> str:
    """The documented views, for people who write SQL."""
    if not MANUAL.is_file():
        raise NoPage
    return render_template("reports/manual.html", text=MANUAL.read_text())


def _asked(conn: Connection) -> Asked:
    zone = request.args.get("zone", "").strip() or last_zone()
    if is_zone(zone):
        keep_zone(zone)
    yesterday = _today(zone) - timedelta(days=1)
    first = request.args.get("from", type=date.fromisoformat) or yesterday
    last = request.args.get("to", type=date.fromisoformat) or max(first, yesterday)
    domain = request.args.get("domain", "").strip().lstrip("@")[:255]
    return Asked(
        first,
        last,
        zone,
        request.args.get("user", type=int),
        request.args.get("campaign", type=int),
        domain,
        lead.find_domain(conn, domain) if domain and domain.isprintable() else None,
    )


def _period(asked: Asked) -> Period:
    if asked.domain and asked.domain_id is None:
        raise Invalid.one("domain", f"No lead has an address at {asked.domain}.")
    return report.period(asked.first, asked.last, asked.zone)


def _answer(conn: Connection, asked: Asked, of: Period) -> Answer:
    ours, by = me().organisation_id, asked.user_id
    only: Any = {"campaign_id": asked.campaign_id, "domain_id": asked.domain_id}
    found = _days(conn, asked, of)
    return Answer(
        whole=_sum(day.figures for day in found),
        days=found,
        users=[] if by else report.sum_users(conn, ours, of, **only),
        campaigns=report.sum_campaigns_of_days(conn, ours, of, by, **only),
        domains=report.sum_domains_of_days(conn, ours, of, by, **only),
    )


def _days(conn: Connection, asked: Asked, of: Period) -> list[Day]:
    return report.sum_days(
        conn, me().organisation_id, of, asked.user_id, campaign_id=asked.campaign_id, domain_id=asked.domain_id
    )


def _by_day(days: Iterable[Day]) -> dict[int, Figures]:
    """Second of the day → its figures, all users together."""
    found: dict[int, Figures] = {}
    for day in days:
        at = second_of(day.day)
        found[at] = _sum([found.get(at, Figures()), day.figures])
    return found


def _sum(figures: Iterable[Figures]) -> Figures:
    sums: Counter[str] = Counter()
    for each in figures:
        sums.update(asdict(each))
    return Figures(**sums)


def _names(conn: Connection) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    return user.find_names(conn, me().organisation_id), campaign_list.find_names(conn, me().organisation_id)


def _today(zone: str) -> date:
    return datetime.now(ZoneInfo(zone) if is_zone(zone) else UTC).date()


def _spans(zone: str) -> list[tuple[str, date, date]]:
    """(label, from, to) of the spans that people ask for."""
    today = _today(zone)
    yesterday = today - timedelta(days=1)
    return [
        ("Today", today, today),
        ("Yesterday", yesterday, yesterday),
        ("7 days", today - timedelta(days=6), today),
        ("30 days", today - timedelta(days=29), today),
        ("This year", today.replace(month=1, day=1), today),
    ]
