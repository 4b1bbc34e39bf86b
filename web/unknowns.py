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
from app.flows.foresee import Fate, foresee
from app.models import campaign_list, unknown, webhook
from app.models.campaign_list import Line
from app.models.unknown import Unknown, UnknownSums
from app.models.webhook import Lag
from web.campaign_forms import POLICIES
from web.context import me, runtime
from web.formats import duration, number
from web.paging import LIMIT, after_number, page_of

blueprint = Blueprint("unknowns", __name__)
FEW: Final = 5  # calls on the campaign's own page
DECIDING: Final = ("sending", "paused", "settling")  # states in which a campaign's policy is applied
NOTHING_LEFT: Final = "Nothing to decide any more: it is known by now, or somebody else has just decided."


@dataclass(frozen=True, slots=True)
class Silence:
    """What silence about a pool's calls means: how late its webhooks come (None: none do), and how long is waited."""

    pool: str
    lag: Lag | None
    hold: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call of unknown outcome, and what silence about its own pool's calls means.

    `fate` is what the campaign's policy does with it, None where it does nothing; `due_at` is when the hold is over.
    `ask_at` is when the provider is asked what became of it, None where it is not.
    """

    call: Unknown
    silence: Silence
    fate: Fate | None
    due_at: datetime
    ask_at: datetime | None


@dataclass(frozen=True, slots=True)
class View:
    """A campaign's calls of unknown outcome as a page shows them; `silences` are those of their pools."""

    sums: UnknownSums
    policy: str
    silences: Sequence[Silence]
    calls: Sequence[Call]
    decides: bool  # the policy does, once the hold is over
    asks: bool  # a provider can be asked, and is

    @property
    def hold(self) -> str:
        """How long is waited after a call was made."""
        holds = sorted({silence.hold for silence in self.silences}) or [webhook.SHORTEST_HOLD]
        return duration(holds[0]) if len(holds) == 1 else f"{duration(holds[0])} to {duration(holds[-1])}"


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
        pools = {each.id: each.name for each in unknown.find_pools(conn, line.id)}
        pools |= {call.pool_id: call.pool for call in found}  # of one that is known by now, too
        silences = {
            each: Silence(name, webhook.lag(conn, each), webhook.hold(conn, each)) for each, name in pools.items()
        }
        fates = foresee(conn, line.id, {call.id for call in found})
    asked = unknowns.find_asked(runtime(), line.id) if any(call.look_up_at for call in found) else set()
    calls = [
        Call(
            call,
            silences[call.pool_id],
            fates.get(call.id),
            call.handed_at + timedelta(seconds=silences[call.pool_id].hold),
            call.look_up_at if call.pool_id in asked else None,
        )
        for call in found
    ]
    told = list(silences.values())
    return View(sums, POLICIES[line.unknown_policy][0], told, calls, _decides(line, told), bool(asked))


def _decides(line: Line, silences: Sequence[Silence]) -> bool:
    """Whether the policy decides on anything by itself: as unknown.sql's `find_held` has it."""
    if line.state == "cancelled":
        over = line.finished_at is not None and line.read_at - line.finished_at >= timedelta(days=1)
        return line.unknown_policy == "leave" and not over
    heard = any(silence.lag for silence in silences)
    return line.state in DECIDING and (line.unknown_policy == "leave" or (line.unknown_policy == "resend" and heard))


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
