"""Campaigns: the list that everything begins with, writing one, launching it, and watching and steering it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.errors import Conflict, Fault, Invalid
from app.flows import edit_campaign, edit_variants, launch, steer, streams
from app.flows.launch import LaunchCheck
from app.flows.preview import Preview, preview
from app.flows.variant_words import told_apart
from app.models import campaign, campaign_list, report, track, variant
from app.models import schedule as planned
from app.models.campaign import Content
from app.models.campaign_list import Line
from app.models.field import load_fields
from app.models.variant import Standing
from web.campaign_forms import POLICIES, TRACKING, CampaignForm, fresh, merge_fields, written
from web.campaign_pace import read_pace
from web.context import me, runtime
from web.paging import after_number, page_of
from web.pulse import warnings
from web.variant_form import GOALS, fields_of
from web.zones import keep_zone, last_zone, zone_names

if TYPE_CHECKING:
    from app.runtime import Runtime

blueprint = Blueprint("campaigns", __name__)
LIMIT = 25
# Where a campaign is saved to: the button that was pressed says so.
NEXT = {"preview": "previews.show", "launch": "campaigns.check"}


@blueprint.get("/")
def index() -> str:
    with runtime().db.begin() as conn:
        found = campaign_list.find_page(conn, me().organisation_id, after_number(), LIMIT + 1)
        steps = None if found else campaign_list.find_steps(conn, me().organisation_id)
    page = page_of(found, lambda line: line.id, LIMIT)
    return render_template("campaigns/index.html", page=page, steps=steps, warnings=warnings())


@blueprint.get("/campaigns")
def home() -> AnyResponse:
    return redirect(url_for("campaigns.index"))


@blueprint.route("/campaigns/new", methods=["GET", "POST"])
def new() -> str | AnyResponse | tuple[str, int]:
    form = CampaignForm(data=fresh())
    form.offer()
    if request.method == "GET":
        return _editor(form)
    if form.validate():
        try:
            campaign_id = edit_campaign.create(runtime(), me().organisation_id, me().id, form.draft())
        except Invalid as invalid:
            form.blame(invalid)
        else:
            return _saved(form, campaign_id)
    return _editor(form), 422


@blueprint.route("/campaigns/<int:campaign_id>/edit", methods=["GET", "POST"])
def edit(campaign_id: int) -> str | AnyResponse | tuple[str, int]:
    with runtime().db.session() as session:
        found = campaign.get(session, me().organisation_id, campaign_id)
        content = session.get_one(Content, (campaign_id, 0))
        variants = edit_variants.read(session, campaign_id)
    form = CampaignForm(data=written(found, content, *variants))
    form.offer()
    if request.method == "GET":
        return _editor(form, campaign_id) if found.state == "draft" else _to(campaign_id)
    if form.validate():
        try:
            edit_campaign.update(runtime(), me().organisation_id, campaign_id, form.draft())
        except Invalid as invalid:
            form.blame(invalid)
        else:
            return _saved(form, campaign_id)
    return _editor(form, campaign_id), 422


@blueprint.post("/campaigns/<int:campaign_id>/duplicate")
def duplicate(campaign_id: int) -> AnyResponse:
    copied = edit_campaign.duplicate(runtime(), me().organisation_id, me().id, campaign_id)
    flash("This is a copy, and a draft: nothing of it was sent.", "good")
    return redirect(url_for("campaigns.edit", campaign_id=copied))


# -- Launching ---------------------------------------------------------------------------------------------------------


@blueprint.get("/campaigns/<int:campaign_id>/launch")
def check(campaign_id: int) -> str | AnyResponse:
    line = _find(campaign_id)
    if line.state != "draft":
        return _to(campaign_id)
    return _checklist(line, launch.check(runtime(), me().organisation_id, campaign_id))


@blueprint.post("/campaigns/<int:campaign_id>/launch")
def go(campaign_id: int) -> str | AnyResponse | tuple[str, int]:
    line = _find(campaign_id)
    try:
        launch.launch(runtime(), me().organisation_id, campaign_id)
    except Conflict as conflict:  # a double click, or somebody else: one launch, and the other is told
        flash(str(conflict), "info")
    except Invalid as invalid:
        if line.state == "draft":
            return _checklist(line, None, invalid.faults), 422
        flash(invalid.faults[0].message, "info")
    return _to(campaign_id)


# -- Watching and steering ---------------------------------------------------------------------------------------------


@blueprint.get("/campaigns/<int:campaign_id>")
def show(campaign_id: int) -> str | AnyResponse:
    if streams.exists(runtime(), me().organisation_id, campaign_id):  # alerts and reports lead here, too
        return redirect(url_for("messages.stream", stream_id=campaign_id))
    line = _find(campaign_id)
    return render_template(
        "campaigns/show.html",
        each=line,
        **_pace(line),
        zone=last_zone(),
        policies=POLICIES,
        tracking=TRACKING,
        warnings=warnings(),
    )


@blueprint.get("/campaigns/<int:campaign_id>/progress")
def progress(campaign_id: int) -> Response | str:
    line = _find(campaign_id)
    if line.state != request.args.get("state", line.state) or ("state" in request.args and not line.moves):
        return Response(headers={"HX-Refresh": "true"})  # the whole page has other things to show and to press
    return render_template("campaigns/_progress.html", each=line, **_pace(line))


@blueprint.get("/campaigns/<int:campaign_id>/facts")
def facts(campaign_id: int) -> str:
    line = _find(campaign_id)
    return render_template("campaigns/_facts.html", each=line, **_facts(line))


@blueprint.post("/campaigns/<int:campaign_id>/pause")
def pause(campaign_id: int) -> AnyResponse:
    return _steer(campaign_id, steer.pause, "Paused. What was being handed over is finished, then nothing is sent.")


@blueprint.post("/campaigns/<int:campaign_id>/resume")
def resume(campaign_id: int) -> AnyResponse:
    return _steer(campaign_id, steer.resume, "It goes on.")


@blueprint.post("/campaigns/<int:campaign_id>/cancel")
def cancel(campaign_id: int) -> AnyResponse:
    return _steer(campaign_id, steer.cancel, "Cancelled. {gone.sent:,} of {gone.audience:,} emails had gone.")


@blueprint.post("/campaigns/<int:campaign_id>/unschedule")
def unschedule(campaign_id: int) -> AnyResponse:
    return _steer(campaign_id, steer.unschedule, "It is a draft again, and not sent before it is launched.")


def _steer(campaign_id: int, move: Callable[[Runtime, int, int], object], sentence: str) -> AnyResponse:
    """Make a move, or say why it came too late: the campaign went on while somebody looked at its page."""
    try:
        gone = move(runtime(), me().organisation_id, campaign_id)
    except Conflict as conflict:
        flash(str(conflict), "info")
    else:
        flash(sentence.format(gone=gone), "good")
    return _to(campaign_id)


# -- How ---------------------------------------------------------------------------------------------------------------


def _find(campaign_id: int) -> Line:
    with runtime().db.begin() as conn:
        return campaign_list.find(conn, me().organisation_id, campaign_id)


def _test(line: Line) -> Standing | None:
    with runtime().db.begin() as conn:
        return variant.find(conn, line.id)


def _pace(line: Line) -> dict[str, object]:
    """How fast it goes. A pace says nothing about the end of what has a time of its own or waits for a winner."""
    test = _test(line)
    with runtime().db.begin() as conn:
        timed = line.state == "sending" and planned.find_plan(conn, line.id) is not None
        pace = read_pace(line, waits=timed or (test is not None and test.has_rest and test.winner is None))
        next_due = planned.find_next_due(conn, line.id) if timed and not pace.rate else None
    return {"test": test, "pace": pace, "next_due": next_due}


def _facts(line: Line) -> dict[str, object]:
    """What reports know of a campaign; nothing is asked of one that was never launched."""
    if line.launched_at is None:
        return {}
    with runtime().reports.begin() as conn:
        return {
            "firsts": track.count_firsts(conn, line.id),
            "figures": report.sum_campaign(conn, me().organisation_id, line.id),
            "hours": report.sum_campaign_hours(conn, me().organisation_id, line.id),
            "pools": report.sum_campaign_pools(conn, me().organisation_id, line.id),
            "domains": report.sum_campaign_domains(conn, me().organisation_id, line.id, 10),
            "links": report.sum_links(conn, me().organisation_id, line.id),
        }


def _editor(form: CampaignForm, campaign_id: int | None = None) -> str:
    with runtime().db.begin() as conn:
        fields = load_fields(conn, me().organisation_id)
    return render_template(
        "campaigns/edit.html",
        form=form,
        campaign_id=campaign_id,
        merge_fields=merge_fields(fields),
        others=fields_of(form),
        goals=GOALS,
        zones=zone_names(),
        longest=edit_campaign.LONGEST_NAME,
        policies=POLICIES,
        tracking=TRACKING,
    )


def _saved(form: CampaignForm, campaign_id: int) -> AnyResponse:
    if form.when.data != "now" or form.windows.data:
        keep_zone((form.zone.data or "UTC").strip())
    endpoint = NEXT.get(request.form.get("then", ""))
    if endpoint is None:
        flash("The draft is saved.", "good")
    return redirect(url_for(endpoint or "campaigns.edit", campaign_id=campaign_id))


def _checklist(line: Line, found: LaunchCheck | None, faults: tuple[Fault, ...] = ()) -> str:
    test = _test(line)
    return render_template(
        "campaigns/launch.html",
        each=line,
        test=test,
        apart=told_apart(found.audience, test.share, test.variants) if found and test else None,
        check=found,
        faults=faults or (found.faults if found else ()),
        first=_first(line.id),
        zone=last_zone(),
        warnings=warnings(),
    )


def _first(campaign_id: int) -> Preview | None:
    try:
        return preview(runtime(), me().organisation_id, campaign_id)
    except Conflict:  # no content, or no leads: the faults say so
        return None


def _to(campaign_id: int) -> AnyResponse:
    return redirect(url_for("campaigns.show", campaign_id=campaign_id))
