"""Alerts: what a person must know of, and what to do about it; the open ones first, those that are over below."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

from app.models import alert
from app.models.alert import Alert
from web import alert_count
from web.context import me, runtime
from web.paging import after_number, page_of

blueprint = Blueprint("alerts", __name__)
LIMIT = 25


@blueprint.get("/alerts")
def index() -> str:
    with runtime().db.begin() as conn:
        found = alert.find_page(conn, me().organisation_id, after_number(), LIMIT + 1)
        standing = alert.find_open(conn, me().organisation_id)
    alert_count.forget(me().organisation_id)  # the menu counts what this page shows
    return render_template("alerts/index.html", page=page_of(found, lambda each: each.id, LIMIT), standing=standing)


@blueprint.post("/alerts/<int:alert_id>/dismiss")
def dismiss(alert_id: int) -> Response:
    with runtime().db.begin() as conn:
        alert.dismiss(conn, me().organisation_id, alert_id, me().id)
    flash("Dismissed. If it still stands in a day, or happens anew, it is said again.", "good")
    return redirect(url_for("alerts.index"))


@blueprint.app_template_global()
def open_alerts(campaign_id: int | None = None) -> list[Alert]:
    """What is open about one campaign, or about all pools: for the pages of these."""
    with runtime().db.begin() as conn:
        found = alert.find_open(conn, me().organisation_id, campaign_id=campaign_id)
    return [each for each in found if campaign_id is not None or each.pool_id is not None]
