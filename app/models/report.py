"""Reports: what was sent and what happened to it, by campaign, hour, day, user, recipient domain and link.

Everything here is summed from the report views (docs/reports.md); who got a campaign is in `recipient`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, TextClause, text

from app.db import Statements
from app.errors import Invalid, NotFound
from app.models.figures import Figures

SQL = Statements("report")

MOST_DAYS = 1100
FIRST_YEAR, LAST_YEAR = 2000, 2200  # nothing was sent before; at 9999 the calendar has no next midnight
_VIEW = re.compile(r"\b(report|brief)_hour\b")
# What stands in its place: the same of another level, or of one domain, or without campaigns.
_USUAL = r"\1_{level}"
_ONE_DOMAIN = "(SELECT * FROM report_{level} WHERE domain_id = :domain_id) AS report"
_WHOLE = "(SELECT *, CAST(NULL AS integer) AS campaign_id FROM user_{level}) AS report"
BEGINNING, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Reported:
    """A campaign as reports head it."""

    id: int
    name: str
    owner_id: int
    state: str
    audience: int | None
    created_at: datetime
    launched_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Named:
    """The figures of one user, campaign, domain or link; `name` is None where it no longer exists."""

    id: int
    name: str | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class Hour:
    """The figures of the hour that begins at `bucket`."""

    bucket: datetime
    figures: Figures


@dataclass(frozen=True, slots=True)
class Day:
    """What one user's emails came to on a day of the period's time zone."""

    day: date
    user_id: int
    user: str | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days of a time zone: from `since` up to, not including, `until`; `level` is the coarsest that fits them."""

    since: datetime
    until: datetime
    zone: str
    level: str


def period(first: date, last: date, zone: str = "UTC") -> Period:
    """The days from `first` to `last`, both included; raises Invalid for an unknown zone and for days out of order."""
    try:
        place = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise Invalid.one("zone", f"There is no time zone named {zone!r}: Europe/Berlin is one, UTC another.") from None
    days = (last - first).days + 1
    if days < 1:
        raise Invalid.one("last", "The last day lies before the first.")
    if days > MOST_DAYS:
        raise Invalid.one("last", f"A report spans {MOST_DAYS} days at most.")
    for name, asked in (("first", first), ("last", last)):
        if not FIRST_YEAR <= asked.year <= LAST_YEAR:
            raise Invalid.one(name, f"The {name} day lies outside of the years {FIRST_YEAR} to {LAST_YEAR}.")
    midnights = [_midnight(first + timedelta(days=n), place) for n in range(days + 1)]
    return Period(midnights[0], midnights[-1], zone, _level(midnights))


def _midnight(day: date, place: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=place).astimezone(UTC)


def _level(midnights: Sequence[datetime]) -> str:
    if all(midnight.hour == midnight.minute == 0 for midnight in midnights):
        return "day"
    return "hour" if all(midnight.minute == 0 for midnight in midnights) else "5min"


# -- One campaign ------------------------------------------------------------------------------------------------------


def find_campaign(conn: Connection, organisation_id: int, campaign_id: int) -> Reported:
    """The campaign that a report is about; raises NotFound where it is another organisation's, or nobody's."""
    row = conn.execute(SQL.find_campaign, {"organisation_id": organisation_id, "campaign_id": campaign_id}).first()
    if row is None:
        raise NotFound("There is no such campaign.")
    return Reported(*row)


def sum_campaign(conn: Connection, organisation_id: int, campaign_id: int) -> Figures:
    """A campaign's figures over all of its runs."""
    return sum_campaigns(conn, organisation_id, [campaign_id])[campaign_id]


def sum_runs(conn: Connection, organisation_id: int, campaign_id: int) -> dict[int, Figures]:
    """run -> figures, the first run first; within a run, the outcomes are one a lead."""
    rows = conn.execute(SQL.sum_runs, {"organisation_id": organisation_id, "campaign_id": campaign_id})
    return dict(sorted(_fold(rows, lambda row: int(row.run)).items()))


def sum_campaign_hours(
    conn: Connection,
    organisation_id: int,
    campaign_id: int,
    since: datetime = BEGINNING,
    until: datetime = END,
) -> list[Hour]:
    """A campaign by hours (of UTC) in which anything happened, in order."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id, "since": since, "until": until}
    rows = conn.execute(SQL.sum_campaign_hours, values)
    return [Hour(bucket, figures) for bucket, figures in _fold(rows, lambda row: row.bucket).items()]


def sum_campaign_domains(conn: Connection, organisation_id: int, campaign_id: int, limit: int = 20) -> list[Named]:
    """A campaign by recipient domain: those that most emails went to, the greatest first."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id, "limit": limit}
    sums = _fold(conn.execute(SQL.sum_domains_of_campaign, values), lambda row: int(row.domain_id))
    return _greatest(_named(sums, _names(conn, SQL.name_domains, sums)))


def sum_campaign_pools(conn: Connection, organisation_id: int, campaign_id: int) -> list[Named]:
    """A campaign by the pools that its emails went through, the one that most went through first.

    What never went to any pool, skipped or cancelled, is left out.
    """
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id}
    rows = [row for row in conn.execute(SQL.sum_pools_of_campaign, values) if row.kind not in ("skipped", "cancelled")]
    sums = _fold(rows, lambda row: int(row.pool_id))
    return _greatest(_named(sums, _names(conn, SQL.name_pools, sums, organisation_id=organisation_id)))


def sum_campaign_variants(conn: Connection, organisation_id: int, campaign_id: int) -> dict[int, Figures]:
    """variant -> figures; -1 are those who waited for the winner of a test when the campaign was cancelled."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id}
    return _fold(conn.execute(SQL.sum_variants_of_campaign, values), lambda row: int(row.variant))


def sum_links(conn: Connection, organisation_id: int, campaign_id: int) -> list[Named]:
    """A campaign's links and who clicked them, the most clicked first."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id}
    sums = _fold(conn.execute(SQL.sum_links, values), lambda row: int(row.link_id))
    named = _named(sums, _names(conn, SQL.name_links, sums, campaign_id=campaign_id))
    return sorted(named, key=lambda link: (-link.figures.clicked, link.id))


# -- Across campaigns --------------------------------------------------------------------------------------------------


def find_campaigns(
    conn: Connection, organisation_id: int, *, before: int | None = None, limit: int = 50, user_id: int | None = None
) -> list[Reported]:
    """Launched campaigns (of `user_id`, if given), the newest first: at most `limit`, from below the id `before` on."""
    values = {"organisation_id": organisation_id, "before": before or 2**31 - 1, "limit": limit, "user_id": user_id}
    return [Reported(*row) for row in conn.execute(SQL.find_campaigns, values)]


def sum_campaigns(conn: Connection, organisation_id: int, campaign_ids: Sequence[int]) -> dict[int, Figures]:
    """campaign id -> figures, for every id asked for."""
    values = {"organisation_id": organisation_id, "campaign_ids": list(campaign_ids)}
    sums = _fold(conn.execute(SQL.sum_campaigns, values), lambda row: int(row.campaign_id))
    return {campaign_id: sums.get(campaign_id, Figures()) for campaign_id in campaign_ids}


def sum_days(
    conn: Connection,
    organisation_id: int,
    of: Period,
    user_id: int | None = None,
    *,
    campaign_id: int | None = None,
    domain_id: int | None = None,
) -> list[Day]:
    """By day and user (or one user's days): how many emails, and what happened to them on that day."""
    only = {"user_id": user_id, "campaign_id": campaign_id, "domain_id": domain_id}
    rows = _over(conn, SQL.sum_days, organisation_id, of, whole=campaign_id is None, zone=of.zone, **only)
    sums = _fold(rows, lambda row: (row.day, int(row.user_id)))
    names = _names(conn, SQL.name_users, {user for _, user in sums}, organisation_id=organisation_id)
    return [Day(day, user, names.get(user), figures) for (day, user), figures in sums.items()]


def sum_users(
    conn: Connection,
    organisation_id: int,
    of: Period,
    *,
    campaign_id: int | None = None,
    domain_id: int | None = None,
) -> list[Named]:
    """By user, who sent most first."""
    only = {"campaign_id": campaign_id, "domain_id": domain_id}
    rows = _over(conn, SQL.sum_users, organisation_id, of, whole=campaign_id is None, **only)
    sums = _fold(rows, lambda row: int(row.user_id))
    return _greatest(_named(sums, _names(conn, SQL.name_users, sums, organisation_id=organisation_id)))


def sum_campaigns_of_days(
    conn: Connection,
    organisation_id: int,
    of: Period,
    user_id: int | None = None,
    *,
    campaign_id: int | None = None,
    domain_id: int | None = None,
) -> list[Named]:
    """By campaign of which anything happened in these days, the greatest first."""
    only: dict[str, Any] = {"user_id": user_id, "campaign_id": campaign_id, "domain_id": domain_id}
    rows = _over(conn, SQL.sum_campaigns_of_days, organisation_id, of, **only)
    sums = _fold(rows, lambda row: int(row.campaign_id))
    return _greatest(_named(sums, _names(conn, SQL.name_campaigns, sums, organisation_id=organisation_id)))


def sum_domains_of_days(
    conn: Connection,
    organisation_id: int,
    of: Period,
    user_id: int | None = None,
    limit: int = 20,
    *,
    campaign_id: int | None = None,
    domain_id: int | None = None,
) -> list[Named]:
    """By recipient domain: those that most emails went to in these days, the greatest first."""
    only: dict[str, Any] = {"user_id": user_id, "campaign_id": campaign_id, "domain_id": domain_id}
    rows = _over(conn, SQL.sum_domains_of_days, organisation_id, of, limit=limit, **only)
    sums = _fold(rows, lambda row: int(row.domain_id))
    return _greatest(_named(sums, _names(conn, SQL.name_domains, sums)))


# -- How ---------------------------------------------------------------------------------------------------------------


def _over(
    conn: Connection,
    statement: TextClause,
    organisation_id: int,
    of: Period,
    *,
    whole: bool = False,
    domain_id: int | None = None,
    **values: object,
) -> Iterable[Row[Any]]:
    """`whole`: campaigns are neither told apart nor chosen among."""
    bounds = {"organisation_id": organisation_id, "since": of.since, "until": of.until}
    only = {} if domain_id is None else {"domain_id": domain_id}
    view = _ONE_DOMAIN if only else _WHOLE if whole else _USUAL
    return conn.execute(_at(of.level, statement, view), bounds | values | only)


@cache
def _at(level: str, statement: TextClause, view: str) -> TextClause:
    """The statement over another view's level: that is what differs, and nothing else."""
    return text(_VIEW.sub(view.format(level=level), statement.text))


def _fold(rows: Iterable[Row[Any]], key: Callable[[Row[Any]], Key]) -> dict[Key, Figures]:
    facts: defaultdict[Key, list[tuple[str, bool, int]]] = defaultdict(list)
    for row in rows:
        facts[key(row)].append((row.kind, row.machine, int(row.total)))
    return {at: Figures.fold(of) for at, of in facts.items()}


def _names(conn: Connection, statement: TextClause, ids: Iterable[int], **values: object) -> dict[int, str]:
    wanted = list(ids)
    return {row.id: row.name for row in conn.execute(statement, {"ids": wanted, **values})} if wanted else {}


def _named(sums: dict[int, Figures], names: dict[int, str]) -> list[Named]:
    return [Named(at, names.get(at), figures) for at, figures in sums.items()]


def _greatest(rows: list[Named]) -> list[Named]:
    return sorted(rows, key=lambda row: (-row.figures.emails, row.id))
