"""Messages: streams with their figures, the newest messages, and what became of one."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.errors import Conflict, Invalid, NotFound
from app.flows import keep_messages, message_templates, messages, streams, unknowns
from web.context import me, runtime
from web.paging import LIMIT, page_of

blueprint = Blueprint("messages", __name__)


@blueprint.get("/messages")
def index() -> str:
    return render_template(
        "messages/index.html",
        templates=message_templates.list_templates(runtime(), me().organisation_id),
        streams=streams.list_streams(runtime(), me().organisation_id),
        retention=keep_messages.read_retention(runtime()),
        least=keep_messages.LEAST_DAYS,
        most=keep_messages.MOST_DAYS,
    )


@blueprint.get("/messages/recent")
def recent() -> str:
    return render_template("messages/recent.html", page=_page(None))


@blueprint.get("/messages/<message_id>")
def show(message_id: str) -> str:
    with runtime().db.begin() as conn:
        status = messages.read(conn, me().organisation_id, message_id)
    return render_template("messages/show.html", each=status)


@blueprint.post("/messages/<message_id>/cancel")
def cancel(message_id: str) -> Response:
    try:
        with runtime().db.begin() as conn:
            messages.cancel(conn, me().organisation_id, message_id)
    except Conflict as conflict:
        flash(str(conflict), "bad")
    else:
        flash("The message is cancelled: it is not sent.", "good")
    return redirect(url_for("messages.show", message_id=message_id))


@blueprint.get("/messages/streams/<int:campaign_id>")
def stream(campaign_id: int) -> str:
    looked = streams.look(runtime(), me().organisation_id, campaign_id)
    return render_template("messages/stream.html", looked=looked, each=looked.line, page=_page([campaign_id]))


@blueprint.post("/messages/streams/<int:campaign_id>/<any(leave, again, release):what>")
def decide(campaign_id: int, what: str) -> Response:
    """What a person decides about calls of which nobody knows whether they were sent, or about ranges that wait."""
    streams.look(runtime(), me().organisation_id, campaign_id)
    match what:
        case "release":
            streams.release(runtime(), me().organisation_id, campaign_id)
            flash("They go on.", "good")
        case "leave":
            left = unknowns.leave(runtime(), me().organisation_id, campaign_id)
            flash(f"{left:,} messages count as failed, unless a webhook still says otherwise.", "good")
        case _:
            again = unknowns.send_again(runtime(), me().organisation_id, campaign_id)
            flash(f"{again:,} messages are sent once more.", "good")
    return redirect(url_for("messages.stream", campaign_id=campaign_id))


@blueprint.post("/messages/retention")
def keep() -> Response:
    """For how many days messages are kept; for admins."""
    if not me().is_admin:
        raise NotFound("There is no such page.")
    try:
        keep_messages.keep_for(runtime(), request.form.get("days", 0, type=int))
    except Invalid as invalid:
        flash(invalid.faults[0].message, "bad")
    else:
        flash("Saved.", "good")
    return redirect(url_for("messages.index"))


def _page(campaign_ids: list[int] | None) -> object:
    after = request.args.get("after")
    with runtime().db.begin() as conn:
        try:
            found = messages.find_page(
                conn, me().organisation_id, before=after, campaign_ids=campaign_ids, limit=LIMIT + 1
            )
        except Invalid:
            raise NotFound("There is no such page.") from None
    return page_of(found, lambda each: each.id)
