"""The people who may be mailed: a list to search, and a page for each."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from app.models import lead, recipient, suppression
from app.models.field import load_fields
from web.context import me, runtime
from web.paging import LIMIT, after_number, page_of

blueprint = Blueprint("leads", __name__)
CHAPTERS = 10  # campaigns of a lead's timeline that are shown at a time


@blueprint.get("/leads")
def index() -> str:
    search = request.args.get("q", "").strip()[:320]
    with runtime().db.begin() as conn:
        found = lead.find_page(conn, me().organisation_id, search, after_number(), LIMIT + 1)
        fields = load_fields(conn, me().organisation_id)
    return render_template("leads/index.html", page=page_of(found, lambda row: row.id), search=search, fields=fields)


@blueprint.get("/leads/<int:lead_id>")
def show(lead_id: int) -> str:
    with runtime().db.session() as session:
        found = lead.get(session, me().organisation_id, lead_id)
        fields = load_fields(session.connection(), me().organisation_id)
        suppressed = suppression.find(session.connection(), me().organisation_id, found.email)
    return render_template("leads/show.html", lead=found, fields=fields, suppressed=suppressed)


@blueprint.get("/leads/<int:lead_id>/timeline")
def timeline(lead_id: int) -> str:
    """A piece of the lead's page, fetched behind it: the record may be far longer than the lead."""
    with runtime().db.session() as session:
        lead.get(session, me().organisation_id, lead_id)
    with runtime().reports.begin() as conn:
        before = request.args.get("before", type=int)
        told = recipient.find_timeline(conn, me().organisation_id, lead_id, before=before, limit=CHAPTERS)
    return render_template("leads/_timeline.html", lead_id=lead_id, told=told, begins=before is None, full=CHAPTERS)
