"""What holds a campaign back: its own rate, which is set here; warm-ups and limits; a sender that is paused."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.errors import Invalid
from app.flows import estimate, rate, recur
from app.flows.estimate import Estimate
from app.models import campaign_rate
from app.models.campaign_list import Line
from app.models.campaign_rate import PER, Rate
from web.context import me, runtime

blueprint = Blueprint("campaign_rate", __name__)
Page = str | Response | tuple[str, int]
MOVING = ("sending", "paused", "scheduled")


@dataclass(frozen=True, slots=True)
class Holds:
    """What holds a campaign back; `estimate`: when it would end because of that, None where nothing decides it."""

    rate: Rate | None
    sender_id: int | None
    sender_state: str
    sender_reason: str
    estimate: Estimate | None


@blueprint.app_context_processor
def _offer() -> dict[str, object]:
    return {"holds_of": holds_of, "rate_units": list(PER)}


def holds_of(line: Line, leads: int | None = None) -> Holds:
    """What holds a campaign back that has so many leads to go; those that are open unless told."""
    left = line.open if leads is None else leads
    with runtime().db.begin() as conn:
        starts = recur.find_next(conn, line.id, line.read_at) if line.state == "draft" else None
        begin = max(line.read_at, starts or line.start_at or line.read_at)
        known = campaign_rate.find(conn, line.id)
        facts = campaign_rate.find_sender(conn, line.id)
        told = None
        if facts is not None and left:
            told = estimate.end_estimate(conn, facts.sender_id, left, begin, campaign_id=line.id)
    return Holds(
        known.rate if known is not None else None,
        facts.sender_id if facts is not None else None,
        facts.state if facts is not None else "good",
        facts.reason if facts is not None else "",
        told if told is not None and told.bound_by else None,
    )


@blueprint.route("/campaigns/<int:campaign_id>/rate", methods=["GET", "POST"])
def edit(campaign_id: int) -> Page:
    """How fast it may go: a form of its own, since it is changed while it sends."""
    line, known = rate.find(runtime(), me().organisation_id, campaign_id)
    typed = {"emails": str(known.emails) if known else "", "per": known.per if known else "hour"}
    faults: dict[str, str] = {}
    if request.method == "POST":
        typed = {name: request.form.get(name, "").strip()[:20] for name in typed}
        try:
            rate.set_rate(runtime(), me().organisation_id, campaign_id, _read(typed))
            flash("It goes as fast as its pool allows." if not typed["emails"] else "The rate is set.", "good")
            return redirect(url_for("campaigns.show", campaign_id=campaign_id))
        except Invalid as invalid:
            faults = {fault.pointer: fault.message for fault in invalid.faults}
    page = render_template("campaigns/rate.html", each=line, typed=typed, faults=faults, units=list(PER))
    return page, 422 if faults else 200


def _read(typed: dict[str, str]) -> Rate | None:
    written = typed["emails"].replace(",", "").replace("\u202f", "").replace(" ", "")
    if not written:
        return None
    if not written.isdecimal() or len(written) > 12:
        raise Invalid.one("emails", "Write a whole number, or leave it empty for no rate.")
    return Rate(int(written), typed["per"])
