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


@blueprint.get("/messages/streams/<int:stream_id>")
def stream(stream_id: int) -> str:
    looked = streams.look(runtime(), me().organisation_id, stream_id)
    return render_template("messages/stream.html", looked=looked, each=looked.line, page=_page([stream_id]))


@blueprint.post("/messages/streams/<int:stream_id>/leave")
def leave(stream_id: int) -> Response:
    """Calls of which nobody knows whether they were sent count as failed."""
    left = unknowns.leave(runtime(), me().organisation_id, _known(stream_id))
    flash(f"{left:,} messages count as failed, unless a webhook still says otherwise.", "good")
    return redirect(url_for("messages.stream", stream_id=stream_id))


@blueprint.post("/messages/streams/<int:stream_id>/again")
def again(stream_id: int) -> Response:
    """Calls of which nobody knows whether they were sent are made once more."""
    sent = unknowns.send_again(runtime(), me().organisation_id, _known(stream_id))
    flash(f"{sent:,} messages are sent once more.", "good")
    return redirect(url_for("messages.stream", stream_id=stream_id))


@blueprint.post("/messages/streams/<int:stream_id>/release")
def release(stream_id: int) -> Response:
    """Ranges that workers died on are tried again."""
    streams.release(runtime(), me().organisation_id, stream_id)
    flash("They go on.", "good")
    return redirect(url_for("messages.stream", stream_id=stream_id))


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


def _known(stream_id: int) -> int:
    return streams.look(runtime(), me().organisation_id, stream_id).line.id


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
