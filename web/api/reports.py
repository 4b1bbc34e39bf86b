"""Reports over the API: what was sent and what became of it, by day, campaign, recipient domain and user."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final

from pydantic import Field
from sqlalchemy import Connection

from app.errors import Invalid
from app.models import lead, report
from app.models.report import Named, Period
from web.api.cursors import Page
from web.api.problems import Refused
from web.api.route import Answering, Caller, Query, Routes
from web.api.shapes import Figures

routes: Final = Routes("reports")
MOST_DOMAINS: Final = 1_000
Number = Annotated[int, Field(ge=1, lt=2**31)]
# What flows call the parameters.
PARAMETERS: Final = {"first": "from", "last": "to", "zone": "zone", "domain": "domain"}


class ReportQuery(Query):
    """Days of a time zone, both included, and of what."""

    first: Annotated[date, Field(alias="from", description="The first day: 2026-03-01.")]
    last: Annotated[date, Field(alias="to", description="The last day.")]
    zone: Annotated[str, Field(description="The time zone whose days they are.", max_length=64)] = "UTC"
    campaign_id: Number | None = None
    user_id: Number | None = None
    domain: Annotated[str, Field(description="One recipient domain.", max_length=255)] = ""


class DomainsQuery(ReportQuery):
    """The same, and how many domains."""

    limit: Annotated[int, Field(ge=1, le=MOST_DOMAINS)] = 100


class Day(Answering):
    """What one user's emails came to on a day."""

    day: date
    user_id: int
    user: str | None
    figures: Figures


class Row(Answering):
    """What the emails of one campaign, or to one domain, came to; `name` is null where it no longer exists."""

    id: int
    name: str | None
    figures: Figures


@routes.get("/reports/days", "reports:read", query=ReportQuery, answer=Page[Day])
def days(caller: Caller, query: ReportQuery) -> Page[Day]:
    """Figures by day and user."""
    with caller.runtime.reports.begin() as conn:
        of, domain_id = _asked(conn, query)
        found = report.sum_days(
            conn, caller.organisation_id, of, query.user_id, campaign_id=query.campaign_id, domain_id=domain_id
        )
    return Page[Day](items=[Day.model_validate(each) for each in found], next=None)


@routes.get("/reports/campaigns", "reports:read", query=ReportQuery, answer=Page[Row])
def campaigns(caller: Caller, query: ReportQuery) -> Page[Row]:
    """Figures by campaign of which anything happened in these days, the greatest first."""
    with caller.runtime.reports.begin() as conn:
        of, domain_id = _asked(conn, query)
        found = report.sum_campaigns_of_days(
            conn, caller.organisation_id, of, query.user_id, campaign_id=query.campaign_id, domain_id=domain_id
        )
    return _rows(found)


@routes.get("/reports/domains", "reports:read", query=DomainsQuery, answer=Page[Row])
def domains(caller: Caller, query: DomainsQuery) -> Page[Row]:
    """Figures by recipient domain, those that most emails went to first."""
    with caller.runtime.reports.begin() as conn:
        of, domain_id = _asked(conn, query)
        found = report.sum_domains_of_days(
            conn,
            caller.organisation_id,
            of,
            query.user_id,
            query.limit,
            campaign_id=query.campaign_id,
            domain_id=domain_id,
        )
    return _rows(found)


def _asked(conn: Connection, query: ReportQuery) -> tuple[Period, int | None]:
    """The period, and the number of the domain. Raises Refused naming the parameter."""
    try:
        of = report.period(query.first, query.last, query.zone)
        domain_id = lead.find_domain(conn, query.domain) if query.domain else None
        if query.domain and domain_id is None:
            raise Invalid.one("domain", f"No lead has an address at {query.domain}.")
    except Invalid as invalid:
        errors = [{"parameter": PARAMETERS[fault.pointer], "detail": fault.message} for fault in invalid.faults]
        raise Refused(422, errors[0]["detail"], errors) from None
    return of, domain_id


def _rows(found: list[Named]) -> Page[Row]:
    return Page[Row](items=[Row.model_validate(each) for each in found], next=None)
