"""The way out, for people who have no login: a page that asks, and a POST that acts (RFC 8058)."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as Redirect

from app.flows import unsubscribe
from app.flows.unsubscribe import View
from web.context import runtime

blueprint = Blueprint("unsubscribe", __name__)


@blueprint.get("/u/<token>")
def ask(token: str) -> Response:
    """A button. Looking changes nothing: scanners follow every link of an email."""
    return _page(token, unsubscribe.look(runtime(), token))


@blueprint.post("/u/<token>")
def act(token: str) -> Response:
    """Acts at once, whatever the body, without cookies or redirect: the receiver's own button posts here.

    Only our own page offers the one sender; a receiver's button means all that we send.
    """
    unsubscribe.unsubscribe(runtime(), token, only_sender=request.form.get("from") == "sender")
    return _page(token, unsubscribe.look(runtime(), token))


@blueprint.post("/u/<token>/tracking")
def track(token: str) -> Redirect:
    """Whether opens and clicks of this lead are recorded: `wanted` is 1 or 0.

    Back to the page itself, so that a reload asks it again and its buttons do what they say.
    """
    unsubscribe.set_tracking(runtime(), token, wanted=request.form.get("wanted") == "1")
    return redirect(url_for("unsubscribe.ask", token=token), 303)


def _page(token: str, view: View) -> Response:
    response = make_response(render_template("unsubscribe/page.html", view=view, token=token))
    response.headers["X-Robots-Tag"] = "noindex"
    return response
