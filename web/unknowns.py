"""What nobody knows of a campaign, and what a person decides about it: send again, or leave; the failed once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.errors import Conflict
from app.flows import unknowns
from app.models import campaign_list, unknown, webhook
from app.models.campaign_list import Line
from app.models.unknown import Unknown, UnknownSums
from app.models.webhook import Lag
from web.campaign_forms import POLICIES
from web.context import me, runtime
from web.formats import number
from web.paging import LIMIT, after_number, page_of

blueprint = Blueprint("unknowns", __name__)
FEW: Final = 5  # calls on the campaign's own page
DECIDING: Final = ("sending", "paused", "settling")  # states in which a campaign's policy is applied
NOTHING_LEFT: Final = "Nothing to decide any more: it is known by now, or somebody else has just decided."


@dataclass(frozen=True, slots=True)
class Call:
    """A call of unknown outcome; `due_at` is when the campaign's policy decides on it, None where it does not.

    `ask_at` is when the provider is asked what became of it, None where it is not.
    """

    call: Unknown
    due_at: datetime | None
    ask_at: datetime | None


@dataclass(frozen=True, slots=True)
class Silence:
    """What silence about a call means: how late its pool's webhooks come (None: none do), and how long is waited."""

    lag: Lag | None
    hold: float
    decides: bool  # the policy does, once the hold is over


@dataclass(frozen=True, slots=True)
class View:
    """A campaign's calls of unknown outcome as a page shows them."""

    sums: UnknownSums
    policy: str
    silence: Silence
    calls: Sequence[Call]
    asks: bool  # the provider can be asked, and is


@blueprint.app_template_global()
def unknowns_of(line: Line) -> View:
    """For the campaign's own page: the sums, and the first few calls."""
    with runtime().db.begin() as conn:
        found = unknown.find(conn, line.id, limit=FEW)
    return _view(line, found)


@blueprint.get("/campaigns/<int:campaign_id>/unknowns/live")
def live(campaign_id: int) -> str:
    """The section of the campaign's page, which fetches itself."""
    return render_template("unknowns/_campaign.html", each=_find(campaign_id))


@blueprint.get("/campaigns/<int:campaign_id>/unknowns")
def index(campaign_id: int) -> str:
    line = _find(campaign_id)
    with runtime().db.begin() as conn:
        found = unknown.find(conn, line.id, after_number() or 0, LIMIT + 1)
    page = page_of(found, lambda call: call.id)
    return render_template(
        "unknowns/index.html",
        each=line,
        view=_view(line, page.items),
        page=page,
    )


@blueprint.route("/campaigns/<int:campaign_id>/unknowns/send-again", methods=["GET", "POST"])
def send_again(campaign_id: int) -> str | Response:
    """Ask first, with the figures: whoever got the first email gets a second one."""
    line, call = _find(campaign_id), _call(campaign_id)
    view = _view(line, [call] if call else [])
    leads = _undecided(view, call)
    if request.method == "POST":
        if leads <= request.form.get("leads", 0, type=int):
            return _send_again(line, call)
        flash(f"More became unknown since you were asked: it is {number(leads)} leads now.", "warn")
    return render_template("unknowns/send_again.html", each=line, view=view, leads=leads)


@blueprint.post("/campaigns/<int:campaign_id>/unknowns/leave")
def leave(campaign_id: int) -> Response:
    line, call = _find(campaign_id), _call(campaign_id)
    try:
        leads = unknowns.leave(runtime(), me().organisation_id, line.id, [call.id] if call else None)
    except Conflict as conflict:
        flash(str(conflict), "info")
    else:
        _tell(leads, f"{_people(leads)} count as failed now. A later webhook still corrects that.")
    return _back(line)


@blueprint.route("/campaigns/<int:campaign_id>/failed/send-again", methods=["GET", "POST"])
def send_failed_again(campaign_id: int) -> str | Response:
    """Another run for exactly those who failed."""
    line = _find(campaign_id)
    with runtime().db.begin() as conn:
        failed = unknown.count_failed(conn, line.id)
    if request.method == "GET":
        return render_template("unknowns/send_failed_again.html", each=line, failed=failed)
    try:
        leads = unknowns.send_failed_again(runtime(), me().organisation_id, line.id)
    except Conflict as conflict:  # a double click, or somebody else: one run, and the other is told
        flash(str(conflict), "info")
    else:
        _tell(leads, f"Run {line.run + 1} sends to {_people(leads)} who had failed.")
    return _back(line)


def _send_again(line: Line, call: Unknown | None) -> Response:
    try:
        leads = unknowns.send_again(runtime(), me().organisation_id, line.id, [call.id] if call else None)
    except Conflict as conflict:
        flash(str(conflict), "info")
    else:
        _tell(leads, f"It is sent again to {_people(leads)}.")
    return _back(line)


def _view(line: Line, found: Sequence[Unknown]) -> View:
    with runtime().db.begin() as conn:
        sums = unknown.count(conn, line.id)
        lag = webhook.lag(conn, line.pool_id) if line.pool_id else None
        hold = webhook.hold(conn, line.pool_id) if line.pool_id else webhook.SHORTEST_HOLD
    silence = Silence(lag, hold, _decides(line, lag))
    asks = any(call.look_up_at for call in found) and unknowns.can_ask(runtime(), line.id)
    calls = [Call(call, _due_at(line, call, silence), call.look_up_at if asks else None) for call in found]
    return View(sums, POLICIES[line.unknown_policy][0], silence, calls, asks)


def _decides(line: Line, lag: Lag | None) -> bool:
    """Whether the policy decides on anything by itself: as unknown.sql's `find_held` has it."""
    if line.state == "cancelled":
        over = line.finished_at is not None and line.read_at - line.finished_at >= timedelta(days=1)
        return line.unknown_policy == "leave" and not over
    return line.state in DECIDING and (
        line.unknown_policy == "leave" or (line.unknown_policy == "resend" and bool(lag))
    )


def _due_at(line: Line, call: Unknown, silence: Silence) -> datetime | None:
    again = line.unknown_policy == "resend" and call.resent  # nobody is sent to a third time
    return None if call.repeat_at or again or not silence.decides else call.handed_at + timedelta(seconds=silence.hold)


def _call(campaign_id: int) -> Unknown | None:
    """Which call is meant; None: all of them, which a change must say. Raises NotFound."""
    if request.values.get("call", "all" if request.method == "GET" else "") == "all":
        return None
    with runtime().db.begin() as conn:
        return unknown.find_call(conn, campaign_id, request.values.get("call", 0, type=int))


def _undecided(view: View, call: Unknown | None) -> int:
    if call is None:
        return view.sums.undecided
    return 0 if call.repeat_at else call.leads


def _find(campaign_id: int) -> Line:
    with runtime().db.begin() as conn:
        return campaign_list.find(conn, me().organisation_id, campaign_id)


def _people(leads: int) -> str:
    return "one lead" if leads == 1 else f"{number(leads)} leads"


def _tell(leads: int, sentence: str) -> None:
    flash(sentence if leads else NOTHING_LEFT, "good" if leads else "info")


def _back(line: Line) -> Response:
    return redirect(url_for("campaigns.show", campaign_id=line.id))
