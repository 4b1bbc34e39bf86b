"""An email as one real lead would get it, in a frame that can do nothing."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from markupsafe import escape

from app.addresses import read_address
from app.errors import Conflict, Invalid
from app.flows.preview import preview
from app.models import campaign_list, lead, variant
from app.models.variant import LETTERS
from web import security
from web.context import me, runtime

blueprint = Blueprint("previews", __name__)
PARTS = {"html": "HTML", "text": "Text"}
WIDTHS = {"wide": "Desktop", "phone": "Phone"}


@blueprint.get("/campaigns/<int:campaign_id>/preview")
def show(campaign_id: int) -> str | tuple[str, int]:
    with runtime().db.begin() as conn:
        line = campaign_list.find(conn, me().organisation_id, campaign_id)
        variants = variant.find_headings(conn, campaign_id)
    number = _variant()
    asked = request.args.get("email", "").strip()
    lead_id, fault = (_named(asked)) if asked else (request.args.get("lead", type=int), None)
    try:
        shown = preview(runtime(), me().organisation_id, campaign_id, lead_id, number)
    except Conflict as conflict:
        return render_template("previews/show.html", each=line, shown=None, why=str(conflict))
    return render_template(
        "previews/show.html",
        each=line,
        shown=shown,
        asked=asked,
        fault=fault,
        part=_one_of(PARTS, "part"),
        width=_one_of(WIDTHS, "width"),
        parts=PARTS,
        widths=WIDTHS,
        variants=variants if len(variants) > 1 else [],
        letter=LETTERS[number] if len(variants) > 1 else None,
    )


@blueprint.get("/campaigns/<int:campaign_id>/preview/<int:lead_id>.html")
def frame(campaign_id: int, lead_id: int) -> str:
    shown = preview(runtime(), me().organisation_id, campaign_id, lead_id, _variant())
    security.as_preview()
    return shown.html or f"<p>{escape(shown.fault)}</p>"


def _named(address: str) -> tuple[int | None, str | None]:
    """The lead with an address, or what is wrong with it."""
    try:
        email, _ = read_address(address)
    except Invalid as invalid:
        return None, invalid.faults[0].message
    with runtime().db.begin() as conn:
        found = lead.find_id(conn, me().organisation_id, email)
    return found, None if found else f"No lead has the address {email}."


def _variant() -> int:
    """The variant that is asked for, by its letter; the first one, where it is none."""
    asked = request.args.get("variant", "")
    return LETTERS.find(asked) if len(asked) == 1 and asked in LETTERS else 0


def _one_of(choices: dict[str, str], name: str) -> str:
    asked = request.args.get(name, "")
    return asked if asked in choices else next(iter(choices))
