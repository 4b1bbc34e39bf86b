"""Leads over the API: put in by the thousand, read, changed, erased."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from app.flows import edit_lead, put_leads
from app.flows.edit_lead import Entry
from app.flows.put_leads import NewLead
from app.models import lead
from web.api.cursors import Page, Paged, number, page_of
from web.api.route import MANY, MANY_LIMIT, Answering, Asking, Caller, Routes
from web.api.values import Value, ValueOrNone

routes: Final = Routes("leads")


class LeadQuery(Paged):
    """Leads, all or some."""

    prefix: Annotated[str, Field(description="How the address begins.", max_length=320)] = ""


class LeadEntry(Asking):
    """A lead. Attributes that are given replace what was there; the others stay."""

    email: Annotated[str, Field(max_length=320)]
    time_zone: Annotated[str | None, Field(description="Europe/Berlin", max_length=64)] = None
    attributes: dict[str, Value] = Field(default_factory=dict)


class LeadChange(Asking):
    """What is to be different; what is not said stays. An attribute that is null is taken away."""

    email: Annotated[str | None, Field(max_length=320)] = None
    time_zone: Annotated[str | None, Field(description="null: not known.", max_length=64)] = None
    attributes: dict[str, ValueOrNone] = Field(default_factory=dict)


class Lead(Answering):
    """A person who may be mailed. Status: active, unsubscribed, invalid."""

    id: int
    email: str
    status: str
    time_zone: str | None
    attributes: dict[str, Any]
    created_at: datetime


class PutLeads(Answering):
    """How many leads were added, changed, and known like this; `ids` in the order that was given."""

    added: int
    changed: int
    unchanged: int
    ids: list[int]


@routes.get("/leads", "leads:read", query=LeadQuery, answer=Page[Lead])
def list_all(caller: Caller, query: LeadQuery) -> Page[Lead]:
    """List leads by address."""
    with caller.runtime.db.begin() as conn:
        found = lead.find_page(conn, caller.organisation_id, query.prefix, number(query), query.limit + 1)
    return page_of(found, query, lambda row: row.id, Lead.model_validate)


@routes.post("/leads", "leads:write", body=LeadEntry, answer=PutLeads, many=MANY, largest=MANY_LIMIT)
def put(caller: Caller, body: list[LeadEntry]) -> PutLeads:
    """Add leads, or change those whose address is known: one, or a list of up to 1,000; all of them or none."""
    given = [NewLead(each.email, each.time_zone, each.attributes) for each in body]
    return PutLeads.model_validate(put_leads.put(caller.runtime, caller.organisation_id, given))


@routes.get("/leads/<int:lead_id>", "leads:read", answer=Lead)
def get(caller: Caller, lead_id: int) -> Lead:
    """Read a lead."""
    with caller.runtime.db.session() as session:
        return Lead.model_validate(lead.get(session, caller.organisation_id, lead_id))


@routes.patch("/leads/<int:lead_id>", "leads:write", body=LeadChange, answer=Lead)
def change(caller: Caller, lead_id: int, body: LeadChange) -> Lead:
    """Change a lead, its address too. Attributes are those that leads have already."""
    known = get(caller, lead_id)
    zone = body.time_zone if "time_zone" in body.model_fields_set else known.time_zone
    entry = Entry(
        email=known.email if body.email is None else body.email,
        time_zone=zone or "",
        attributes={name: _written(value) for name, value in body.attributes.items()},
    )
    edit_lead.update(caller.runtime, caller.organisation_id, lead_id, entry)
    return get(caller, lead_id)


@routes.delete("/leads/<int:lead_id>", "leads:write")
def erase(caller: Caller, lead_id: int) -> None:
    """Forget a lead. A suppression of the address stays, or it might be mailed again."""
    edit_lead.erase(caller.runtime, caller.organisation_id, lead_id)


def _written(value: object) -> str:
    """A value as a form has it: "" for one that the lead is not to have."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
