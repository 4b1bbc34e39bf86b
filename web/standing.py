"""The standing of a sender: its figures, its moves, pausing it and letting it send again; and the thresholds."""

from __future__ import annotations

from dataclasses import asdict

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response
from wtforms import DecimalField, IntegerField, SelectField

from app.errors import Conflict, Fault, Invalid
from app.flows import senders, stand
from app.models import sender, standing, warm_up
from app.models.standing import Policy
from web.context import me, runtime
from web.forms import Form, choices

blueprint = Blueprint("standing", __name__)
Page = str | Response | tuple[str, int]
SHARES = ("bounced_share", "complained_share")
# What a sender's state is called, its tone, and what it means, in a sentence.
STATES = {
    "good": ("good", "in good standing", "It goes through the pools that it names."),
    "trusted": ("good", "trusted", "It has done well for long: its campaigns go through a better pool."),
    "quarantined": ("warn", "in quarantine", "All of it goes through a pool apart, until it does well there."),
    "paused": ("bad", "paused", "Nothing of it is sent until a person acts."),
}


def _number(value: object) -> int | None:
    return int(str(value)) if value not in (None, "", "None") else None


class PolicyForm(Form):
    """When a sender is moved, and where to. Shares are in percent."""

    days = IntegerField("Count the last days")
    bounced_share = DecimalField("Too many come back: more than, in %")
    bounced_after = IntegerField("… after so many emails")
    complained_share = DecimalField("Too many complain: this or more, in %", places=3)
    complained_after = IntegerField("… after so many emails")
    quarantine_pool_id = SelectField("Then through", coerce=_number)
    back_after_days = IntegerField("Back after days of doing well there")
    better_pool_id = SelectField("Who does well for long goes through", coerce=_number)
    better_after_days = IntegerField("… after days in good standing")
    better_after = IntegerField("… and so many emails within the days that count")

    def policy(self) -> Policy:
        """What was filled in. Raises Invalid."""
        values = {name: field.data for name, field in self._fields.items() if name in asdict(Policy())}
        pools = ("quarantine_pool_id", "better_pool_id")
        missing = [name for name, value in values.items() if value is None and name not in pools]
        if missing:
            raise Invalid([Fault(name, "Write a number.") for name in missing])
        return Policy(**values | {name: float(values[name]) / 100 for name in SHARES})


@blueprint.get("/senders/<int:sender_id>/standing")
def show(sender_id: int) -> str:
    found = senders.find(runtime(), me().organisation_id, sender_id)
    domain = found.address.rpartition("@")[2].lower()
    with runtime().db.begin() as conn:
        line = next(each for each in sender.list_senders(conn, me().organisation_id) if each.id == sender_id)
        now = standing.find_standing(conn, me().organisation_id, sender_id)
        policy = standing.find_policy(conn, me().organisation_id)
        moves = standing.find_moves(conn, sender_id)
        warm_ups = warm_up.find(conn, me().organisation_id, domain=domain)
    return render_template(
        "standing/show.html",
        line=line,
        now=now,
        policy=policy,
        moves=moves,
        states=STATES,
        domain=domain,
        warming=warm_ups[0] if warm_ups else None,
    )


@blueprint.post("/senders/<int:sender_id>/standing")
def move(sender_id: int) -> Response:
    if not me().is_admin:
        raise Forbidden
    to = request.form.get("to", "")
    try:
        stand.move_by_hand(runtime(), me().organisation_id, sender_id, to, me().id)
        flash("It is paused." if to == "paused" else "It may send again; its figures begin anew.", "good")
    except Conflict as conflict:
        flash(str(conflict), "info")
    return redirect(url_for("standing.show", sender_id=sender_id))


@blueprint.route("/standing", methods=["GET", "POST"])
def policy() -> Page:
    if not me().is_admin:
        raise Forbidden
    with runtime().db.begin() as conn:
        known = asdict(standing.find_policy(conn, me().organisation_id))
        pools = sender.list_pools(conn, me().organisation_id)
    form, status = PolicyForm(data=known | {name: round(100 * known[name], 6) for name in SHARES}), 200
    names = [(each.id, each.name) for each in pools]
    form.quarantine_pool_id.choices = choices([("", "Nothing: it is paused"), *names])
    form.better_pool_id.choices = choices([("", "The pools that it names, as before"), *names])
    for field in form:
        field.flags.plain = True
    if request.method == "POST":
        status = 422
        try:
            if form.validate():
                stand.set_policy(runtime(), me().organisation_id, form.policy())
                flash("The thresholds are saved: they hold from the next minute on.", "good")
                return redirect(url_for("senders.index"))
        except Invalid as invalid:
            form.blame(invalid)
    return render_template("standing/policy.html", form=form), status
