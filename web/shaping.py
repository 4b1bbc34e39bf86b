"""Shaping rules: what is done when a receiver replies like this; and ending what a reply has brought about."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response
from wtforms import BooleanField, DecimalField, IntegerField, StringField
from wtforms.validators import Optional

from app.errors import Invalid, NotFound
from app.flows import shape
from app.models import limit, pool, shaping
from app.models.receiver import RECEIVERS
from app.models.shaping import ANY, SHIPPED, Rule
from web.context import me, runtime
from web.forms import Form

blueprint = Blueprint("shaping", __name__)
Page = str | Response | tuple[str, int]
ANYBODY: Final = "Any receiver"
KEYS: Final = {each.name.lower(): key for key, each in RECEIVERS.items()} | {ANYBODY.lower(): ANY, "": ANY}
NEW: Final = Rule("", ANY, "", None, 3600)


class RuleForm(Form):
    """This reply from this receiver: that rate for that long."""

    receiver = StringField("Receiver", description="One of the list, or a domain like example.com.")
    pattern = StringField(
        "The reply has",
        description="A regular expression (RE2), whatever the case. Plain words do: “too many connections”.",
    )
    per_second = DecimalField("Emails a second", [Optional()], description="Left empty, nothing goes at all.")
    minutes = IntegerField("For so many minutes", description="Each further reply begins them anew.")
    enabled = BooleanField("Switched on", default=True)

    def rule(self, known: Rule) -> Rule:
        written = (self.receiver.data or "").lower()
        return replace(
            known,
            receiver=KEYS.get(written, written),
            pattern=self.pattern.data or "",
            per_second=None if self.per_second.data is None else float(self.per_second.data),
            seconds=(self.minutes.data or 0) * 60,
            enabled=bool(self.enabled.data),
        )


@blueprint.before_request
def _admins() -> None:
    if not me().is_admin:
        raise Forbidden


@blueprint.get("/shaping")
def index() -> str:
    with runtime().db.begin() as conn:
        rules = shaping.list_rules(conn, me().organisation_id)
    return render_template("shaping/index.html", rules=rules, name_of=name_of)


@blueprint.route("/shaping/new", methods=["GET", "POST"])
def new() -> Page:
    return _editor(NEW)


@blueprint.route("/shaping/<key>", methods=["GET", "POST"])
def edit(key: str) -> Page:
    with runtime().db.begin() as conn:
        known = shaping.find_rule(conn, me().organisation_id, key)
    return _editor(known)


@blueprint.post("/shaping/<key>/delete")
def delete(key: str) -> Response:
    with runtime().db.begin() as conn:
        shaping.drop_rule(conn, me().organisation_id, key)
    flash("The rule is as it is shipped again." if key in SHIPPED else "The rule is gone.", "good")
    return redirect(url_for("shaping.index"))


@blueprint.post("/pools/<int:pool_id>/shaping/<int:shaping_id>/lift")
def lift(pool_id: int, shaping_id: int) -> Response:
    with runtime().db.session() as session:
        pool.get(session, me().organisation_id, pool_id)
    try:
        whose = shape.lift(runtime(), me().organisation_id, pool_id, shaping_id, me().id)
        flash(f"{limit.name_of(whose)} is no longer held back because of it.", "good")
    except NotFound as over:
        flash(str(over), "info")
    return redirect(url_for("pools.show", pool_id=pool_id, _anchor="shaping"))


def name_of(receiver: str) -> str:
    """A rule's receiver for people."""
    return ANYBODY if receiver == ANY else limit.name_of(receiver)


def _editor(known: Rule) -> Page:
    stored = {
        "receiver": name_of(known.receiver),
        "pattern": known.pattern,
        "per_second": known.per_second,
        "minutes": known.seconds // 60,
        "enabled": known.enabled,
    }
    form, status = RuleForm(data=stored), 200
    for field in (form.receiver, form.pattern, form.per_second, form.minutes):
        field.flags.plain = True
    if form.is_submitted():
        status = 422
        try:
            if form.validate():
                with runtime().db.begin() as conn:
                    shaping.set_rule(conn, me().organisation_id, form.rule(known))
                flash("The rule is saved: it holds for the next reply.", "good")
                return redirect(url_for("shaping.index"))
        except Invalid as invalid:
            form.blame(invalid)
    receivers = [ANYBODY, *(each.name for each in RECEIVERS.values())]
    return render_template("shaping/edit.html", form=form, known=known, receivers=receivers), status
