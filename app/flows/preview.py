"""Looking at an email as one real lead would get it, without sending anything."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.errors import Conflict, Invalid, NotFound, Unrenderable
from app.flows import launch
from app.flows.compose import unsubscribe_base
from app.models import audience, campaign, lead
from app.models.campaign import Campaign, Content
from app.models.sender import Sender
from app.models.template import Compiled, LeadView, Shared
from app.models.template import preview as fill
from app.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Preview:
    """An email to `lead`; `fault` says why this lead would get none. `previous` and `next` are leads by address."""

    lead: LeadView
    subject: str
    html: str
    text: str
    fault: str | None
    previous: int | None
    next: int | None


def preview(
    runtime: Runtime, organisation_id: int, campaign_id: int, lead_id: int | None = None, variant: int = 0
) -> Preview:
    """The email of a lead; without one, of somebody in the audience. The unsubscribe address in it unsubscribes nobody.

    Raises NotFound, or Conflict while there is no content, or nobody to show it for.
    """
    with runtime.db.session() as session:
        found = campaign.get(session, organisation_id, campaign_id)
        content = session.get(Content, (campaign_id, variant))
        if content is None and variant:
            raise NotFound("The campaign has no such variant.")
        if content is None or content.compiled is None:
            raise Conflict("There is nothing to see yet: write a subject and the HTML, then save.")
        view = _somebody(session, found) if lead_id is None else _lead(session, organisation_id, lead_id)
        sender = session.get(Sender, found.sender_id) if found.sender_id else None
        around = lead.find_neighbours(session.connection(), organisation_id, view.id)
    base = unsubscribe_base(runtime.settings.base_url)
    shared = Shared(found.name, sender.name if sender else "", base)
    subject = html = text = ""
    fault = None
    try:
        subject, html, text = fill(Compiled.from_json(content.compiled), view, shared, f"{base}preview")
    except Unrenderable as error:
        fault = str(error)
    return Preview(view, subject, html, text, fault, *around)


def _lead(session: Session, organisation_id: int, lead_id: int) -> LeadView:
    found = lead.get(session, organisation_id, lead_id)
    return LeadView(found.id, found.email, found.time_zone, found.attributes)


def _somebody(session: Session, found: Campaign) -> LeadView:
    """Somebody of the audience; where that is empty, or its segment needs mending, the first lead by address."""
    conn = session.connection()
    try:
        clause = launch.clause(conn, found.organisation_id, found.segment_id)
        view = audience.first(conn, found.organisation_id, found.sender_id, clause)
    except (Invalid, NotFound):
        view = None
    if view is not None:
        return view
    page = lead.find_page(conn, found.organisation_id, "", None, 1)
    if not page:
        raise Conflict("There are no leads yet: import some, and see this as one of them would get it.")
    return LeadView(page[0].id, page[0].email, page[0].time_zone, page[0].attributes)
