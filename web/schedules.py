"""When a campaign goes: on its page, planned and real; changed before it starts, and moved while it sends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, flash, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response
from wtforms import BooleanField, StringField
from wtforms.widgets import DateTimeLocalInput

from app.errors import Conflict, Fault, Invalid
from app.flows import recur, schedule, time_kept
from app.flows.estimate import Estimate
from app.flows.time_kept import Kept
from app.models import campaign_list, campaign_rate, recurrence
from app.models import schedule as planned
from app.models.campaign_list import Line
from app.models.recurrence import Made, Recurrence
from app.models.schedule import Schedule
from web import schedule_form
from web.context import me, runtime
from web.forms import Form
from web.schedule_form import ScheduleFields, read_local, words_of
from web.zones import is_zone, keep_zone, last_zone, read_moment, zone_names

blueprint = Blueprint("schedules", __name__)
Page = str | Response | tuple[str, int]
REPEATING = {"pause": recur.pause, "go-on": recur.go_on, "end": recur.end}
SAID = {
    "pause": "It makes no more campaigns until it goes on.",
    "go-on": "It goes on with the next time to come.",
    "end": "It repeats no more. What was made of it goes on.",
}


class TimesForm(ScheduleFields, Form):
    """The times of a campaign that has not started; how it repeats is changed in the draft."""

    repeats = rule = skip_sent = None


class MoveForm(Form):
    """When what is left goes."""

    begins = StringField("Nothing more before", widget=DateTimeLocalInput())
    deliver_by = StringField("All of it by", widget=DateTimeLocalInput(), description="Left empty, as fast as it can.")
    zone = StringField("Time zone")
    own = BooleanField("By each lead's own clock")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page tells of a campaign's time."""

    schedule: Schedule
    words: list[tuple[str, str]]
    kept: Kept | None
    shortage: Estimate | None
    repeats: Recurrence | None
    next_times: list[datetime]
    made: list[Made]
    origin: tuple[int, str] | None

    @property
    def is_there(self) -> bool:
        """Whether there is anything to tell."""
        return bool(
            self.words or self.schedule.deliver_by or self.repeats or self.origin or (self.kept and self.kept.plan)
        )


@blueprint.app_context_processor
def _offer() -> dict[str, object]:
    return {"time_of": time_of}


def time_of(line: Line, leads: int | None = None) -> Shown:
    """A campaign's time, with so many leads to go: those that are open unless told."""
    left = line.open if leads is None else leads
    with runtime().db.begin() as conn:
        standing = planned.find(conn, line.id)
        chosen, repeats = standing.schedule, recurrence.find(conn, line.id)
        begin = max(standing.now, line.start_at) if line.start_at else standing.now
        sender = campaign_rate.find_sender(conn, line.id)
        waits = repeats is not None and repeats.paused_at is None and line.state in ("draft", "scheduled")
        coming = recur.next_times(repeats, chosen, standing.now) if repeats and waits else []
        if repeats and coming:
            chosen = recur.next_schedule(repeats, chosen, standing.now)
            begin = coming[0]
        short = None
        if sender is not None and line.moves | (line.state == "draft"):
            short = time_kept.find_shortage(conn, sender.sender_id, line.id, left, begin, chosen)
        return Shown(
            chosen,
            words_of(chosen),
            time_kept.find_kept(conn, line.id, line.audience, line.audience - line.open) if line.launched_at else None,
            short,
            repeats,
            coming,
            recurrence.find_made(conn, line.id) if repeats else [],
            recurrence.find_origin(conn, line.id),
        )


@blueprint.get("/campaigns/<int:campaign_id>/schedule")
def show(campaign_id: int) -> str:
    """A part of the campaign's page."""
    return render_template("campaigns/_schedule.html", each=_find(campaign_id), zone=last_zone())


@blueprint.get("/campaigns/<int:campaign_id>/curve")
def curve(campaign_id: int) -> Response:
    """What chart.js draws: planned and gone."""
    line = _find(campaign_id)
    with runtime().db.begin() as conn:
        plan = planned.find_plan(conn, campaign_id)
    if plan is None or line.launched_at is None:
        return jsonify({"x": [], "step": 3600, "zone": "local", "bars": [], "lines": []})
    with runtime().reports.begin() as conn:
        went = planned.find_gone(conn, campaign_id, line.launched_at)
    drawn = time_kept.draw(plan, went, line.read_at.timestamp())
    lines = [
        {"label": "Planned", "colour": "soft", "values": drawn.planned},
        {"label": "Gone", "colour": "accent", "values": drawn.gone},
    ]
    return jsonify({"x": drawn.times, "step": drawn.step, "zone": "local", "bars": [], "lines": lines})


@blueprint.route("/campaigns/<int:campaign_id>/reschedule", methods=["GET", "POST"])
def reschedule(campaign_id: int) -> Page:
    """Other times for a campaign that has not started; it stays what it is."""
    line = _find(campaign_id)
    with runtime().db.begin() as conn:
        chosen = planned.find(conn, campaign_id).schedule
    form = TimesForm(data=schedule_form.written(line.start_at, chosen, None))
    schedule_form.offer(form)
    if request.method == "POST":
        try:
            start_at, wanted, _ = schedule_form.read(form)
            schedule.reschedule(runtime(), me().organisation_id, campaign_id, start_at, wanted)
        except Invalid as invalid:
            form.blame(invalid)
        except Conflict as conflict:
            flash(str(conflict), "info")
            return _to(campaign_id)
        else:
            keep_zone(wanted.zone)
            flash("It goes at its new time." if start_at or wanted.own else "It starts now.", "good")
            return _to(campaign_id)
    page = render_template("campaigns/reschedule.html", each=line, form=form, zones=zone_names())
    return page, 422 if request.method == "POST" else 200


@blueprint.route("/campaigns/<int:campaign_id>/move", methods=["GET", "POST"])
def move(campaign_id: int) -> Page:
    """Another time for what is left of a campaign."""
    line = _find(campaign_id)
    with runtime().db.begin() as conn:
        chosen, parts = planned.find(conn, campaign_id).schedule, planned.find_parts(conn, campaign_id)
    zone = chosen.zone if chosen.zone != "UTC" else last_zone()
    form = MoveForm(data={"zone": zone, "own": chosen.own is not None})
    for field in (form.begins, form.deliver_by, form.zone):
        field.flags.plain = True
    if request.method == "POST":
        try:
            begins, deliver_by, own = _read_move(form)
            schedule.move_rest(runtime(), me().organisation_id, campaign_id, begins, deliver_by, own=own)
        except Invalid as invalid:
            form.blame(invalid)
        except Conflict as conflict:
            flash(str(conflict), "info")
            return _to(campaign_id)
        else:
            flash("What was left goes at its new time. What was being handed over is finished.", "good")
            return _to(campaign_id)
    clocks = schedule.knows_clocks(chosen, parts)
    page = render_template("campaigns/move.html", each=line, form=form, zones=zone_names(), clocks=clocks)
    return page, 422 if request.method == "POST" else 200


def _read_move(form: MoveForm) -> tuple[datetime, datetime | None, bool]:
    """What was written; times without a zone where leads' own clocks are meant. Raises Invalid."""
    faults: list[Fault] = []
    found: dict[str, datetime | None] = {"begins": None, "deliver_by": None}
    zone = (form.zone.data or "UTC").strip()
    if not is_zone(zone):
        raise Invalid.one("zone", f"There is no time zone named “{zone}”: Europe/Berlin is one, UTC another.")
    for name in found:
        written = form[name].data or ""
        if name == "deliver_by" and not written:
            continue
        if form.own.data:
            found[name] = read_local(written)
            faults.extend([] if found[name] else [Fault(name, "Say when: a day and a time.")])
            continue
        try:
            found[name] = read_moment(written, zone)
        except Invalid as invalid:
            faults.extend(Fault(name, each.message) for each in invalid.faults)
    if faults or found["begins"] is None:
        raise Invalid(faults)
    return found["begins"], found["deliver_by"], bool(form.own.data)


@blueprint.post("/campaigns/<int:campaign_id>/repeats/<any('pause', 'go-on', 'end'):act>")
def repeat(campaign_id: int, act: str) -> Response:
    try:
        REPEATING[act](runtime(), me().organisation_id, campaign_id)
    except Conflict as conflict:
        flash(str(conflict), "info")
    else:
        flash(SAID[act], "good")
    return _to(campaign_id)


def _find(campaign_id: int) -> Line:
    with runtime().db.begin() as conn:
        return campaign_list.find(conn, me().organisation_id, campaign_id)


def _to(campaign_id: int) -> Response:
    return redirect(url_for("campaigns.show", campaign_id=campaign_id))
