"""Warm-ups: the ceilings of a pool, and of the domain that a sender sends from; for admins alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response
from wtforms import DateField, TextAreaField

from app.errors import Invalid
from app.flows import senders, warm
from app.models import pool, warm_up
from app.models.warm_up import CURVES, DEFAULT, WarmUp
from web.context import me, runtime
from web.forms import Form

blueprint = Blueprint("warm_ups", __name__)
Page = str | Response | tuple[str, int]
LONGEST: Final = 5000  # characters of a curve


class WarmUpForm(Form):
    """When it begins, and its days."""

    starts_on = DateField("First day", description="A day of UTC. Before it the first ceiling holds.")
    curve = TextAreaField(
        "Emails in 24 hours, day by day",
        description="One number for each day. After the last one there is no ceiling any more.",
    )

    def days(self) -> list[int]:
        """The numbers. Raises Invalid naming "curve"."""
        pieces = (self.curve.data or "")[:LONGEST].split()
        if not all(each.isdecimal() and len(each) < 12 for each in pieces):  # "1,500" might be one day or two
            raise Invalid.one("curve", "Write whole numbers with spaces between them, and no commas.")
        return [int(each) for each in pieces]


@dataclass(frozen=True, slots=True)
class Subject:
    """What warms up: a pool, or a domain. `here` and `back` are addresses."""

    name: str
    pool_id: int | None
    domain: str | None
    here: str
    end: str
    back: str


@blueprint.before_request
def _admins() -> None:
    if not me().is_admin:
        raise Forbidden


@blueprint.route("/pools/<int:pool_id>/warm-up", methods=["GET", "POST"])
def of_pool(pool_id: int) -> Page:
    return _page(_pool(pool_id))


@blueprint.route("/senders/<int:sender_id>/warm-up", methods=["GET", "POST"])
def of_domain(sender_id: int) -> Page:
    return _page(_domain(sender_id))


@blueprint.post("/pools/<int:pool_id>/warm-up/end")
def end_of_pool(pool_id: int) -> Response:
    return _end(_pool(pool_id))


@blueprint.post("/senders/<int:sender_id>/warm-up/end")
def end_of_domain(sender_id: int) -> Response:
    return _end(_domain(sender_id))


def _page(subject: Subject) -> Page:
    known = _find(subject)
    chosen = request.args.get("curve", "")
    days = CURVES[chosen].days if chosen in CURVES else known.curve if known else CURVES[DEFAULT].days
    starts_on = known.starts_on if known and chosen not in CURVES else _today()
    form, status = WarmUpForm(data={"starts_on": starts_on, "curve": " ".join(map(str, days))}), 200
    for field in form:
        field.flags.plain = True
    if request.method == "POST":
        status = 422
        try:
            if form.validate():
                assert isinstance(form.starts_on.data, date)
                warm.set_warm_up(
                    runtime(),
                    me().organisation_id,
                    form.starts_on.data,
                    form.days(),
                    pool_id=subject.pool_id,
                    domain=subject.domain,
                )
                flash(f"{subject.name} warms up.", "good")
                return redirect(subject.back)
        except Invalid as invalid:
            form.blame(invalid)
    return render_template(
        "warm_ups/edit.html", form=form, subject=subject, known=known, curves=CURVES, longest=LONGEST
    ), status


def _end(subject: Subject) -> Response:
    warm.end_warm_up(runtime(), me().organisation_id, pool_id=subject.pool_id, domain=subject.domain)
    flash(f"{subject.name} has no warm-up any more.", "good")
    return redirect(subject.back)


def _find(subject: Subject) -> WarmUp | None:
    with runtime().db.begin() as conn:
        found = warm_up.find(conn, me().organisation_id, pool_id=subject.pool_id, domain=subject.domain)
    return found[0] if found else None


def _pool(pool_id: int) -> Subject:
    with runtime().db.session() as session:
        found = pool.get(session, me().organisation_id, pool_id)
    here, end = (url_for(f"warm_ups.{each}", pool_id=pool_id) for each in ("of_pool", "end_of_pool"))
    return Subject(found.name, pool_id, None, here, end, url_for("pools.show", pool_id=pool_id))


def _domain(sender_id: int) -> Subject:
    found = senders.find(runtime(), me().organisation_id, sender_id)
    domain = found.address.rpartition("@")[2].lower()
    here, end = (url_for(f"warm_ups.{each}", sender_id=sender_id) for each in ("of_domain", "end_of_domain"))
    return Subject(domain, None, domain, here, end, url_for("standing.show", sender_id=sender_id))


def _today() -> date:
    with runtime().db.begin() as conn:
        return warm_up.today(conn)
