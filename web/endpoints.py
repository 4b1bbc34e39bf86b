"""Where programs of the users' own hear of events: endpoints, their secrets, and what they answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response
from wtforms import BooleanField, SelectField, SelectMultipleField, StringField
from wtforms.validators import InputRequired
from wtforms.widgets import CheckboxInput, ListWidget

from app.errors import Invalid
from app.flows import endpoints
from app.flows.endpoints import KINDS, Entry
from app.models import campaign_list, endpoint, endpoint_post
from app.models.endpoint import Line
from web.context import me, runtime
from web.forms import Form, choices
from web.paging import after_number, page_of
from web.visitor import admins_only

blueprint = Blueprint("endpoints", __name__)
LIMIT: Final = 25  # posts on a page
MEANINGS: Final[Mapping[str, str]] = {
    "sent": "the provider took it",
    "refused": "the provider never will",
    "failed": "given up after a day",
    "skipped": "left out at the last moment",
    "cancelled": "its campaign was",
    "unknown": "the answer was lost",
    "deferred": "put off for now",
    "delivered": "the receiver took it",
    "bounced": "it came back",
    "complained": "called spam",
    "opened": "opened",
    "clicked": "a link was followed",
    "unsubscribed": "wants no more",
}
PAST: Final = {  # what the buttons did
    "disable": "It is told nothing until it is enabled. What it would hear is kept for a week.",
    "enable": "The endpoint is told again, also of what was kept meanwhile.",
}


class EndpointForm(Form):
    """An endpoint: where it is, and what it hears of."""

    name = StringField("Name", [InputRequired("Give the endpoint a name.")], description="“Data warehouse”, “CRM”, …")
    url = StringField(
        "Address",
        [InputRequired("Enter a web address that begins with https://.")],
        description="Where events are posted: https://, at a public address, without user and password.",
    )
    kinds = SelectMultipleField(
        "Events",
        choices=choices((kind, f"{kind}: {MEANINGS[kind]}" if MEANINGS[kind] != kind else kind) for kind in KINDS),
        default=KINDS,
        widget=ListWidget(),
        option_widget=CheckboxInput(),
        validate_choice=False,
    )
    campaign = SelectField("Campaigns", [InputRequired()], coerce=int, default=0, validate_choice=False)
    with_email = BooleanField("Tell the leads' addresses, too")


@blueprint.get("/endpoints")
@admins_only
def index() -> str:
    with runtime().db.begin() as conn:
        found = endpoint.find_lines(conn, me().organisation_id)
    return render_template("endpoints/index.html", endpoints=found)


@blueprint.route("/endpoints/new", methods=["GET", "POST"])
@admins_only
def new() -> str | Response | tuple[str, int]:
    form = _form()
    if request.method == "GET":
        return render_template("endpoints/edit.html", form=form, each=None)
    if form.validate():
        try:
            added = endpoints.add(runtime(), me().organisation_id, _entry(form))
        except Invalid as invalid:
            form.blame(invalid)
        else:
            return _secret_page(added.id, added.secret, "is added")
    return render_template("endpoints/edit.html", form=form, each=None), 422


@blueprint.get("/endpoints/<int:endpoint_id>")
@admins_only
def show(endpoint_id: int) -> str:
    each = _find(endpoint_id)
    with runtime().db.begin() as conn:
        posts = endpoint_post.find_page(conn, endpoint_id, after_number(), LIMIT + 1)
    page = page_of(posts, lambda post: post.id, LIMIT)
    return render_template("endpoints/show.html", each=each, page=page, url=runtime().vault.decrypt(each.url))


@blueprint.route("/endpoints/<int:endpoint_id>/edit", methods=["GET", "POST"])
@admins_only
def edit(endpoint_id: int) -> str | Response | tuple[str, int]:
    each = _find(endpoint_id)
    form = _form(each)
    if request.method == "GET":
        return render_template("endpoints/edit.html", form=form, each=each)
    if form.validate():
        try:
            endpoints.change(runtime(), me().organisation_id, endpoint_id, _entry(form))
        except Invalid as invalid:
            form.blame(invalid)
        else:
            flash(f"{form.name.data} is saved.", "good")
            return redirect(url_for("endpoints.show", endpoint_id=endpoint_id))
    return render_template("endpoints/edit.html", form=form, each=each), 422


@blueprint.post("/endpoints/<int:endpoint_id>/rotate")
@admins_only
def rotate(endpoint_id: int) -> str:
    secret = endpoints.rotate(runtime(), me().organisation_id, endpoint_id)
    return _secret_page(endpoint_id, secret, "has a new secret")


@blueprint.post("/endpoints/<int:endpoint_id>/test")
@admins_only
def test(endpoint_id: int) -> Response:
    reply = endpoints.send_test(runtime(), me().organisation_id, endpoint_id)
    answer = f"HTTP {reply.status}" if reply.status else reply.said
    if reply.taken:
        flash(f"The test was taken: {answer}.", "good")
    else:
        flash(f"The test was not taken: {answer.rstrip('.')}.", "bad")
    return redirect(url_for("endpoints.show", endpoint_id=endpoint_id))


@blueprint.post("/endpoints/<int:endpoint_id>/disable")
@admins_only
def disable(endpoint_id: int) -> Response:
    endpoints.disable(runtime(), me().organisation_id, endpoint_id, me().id)
    return _done(endpoint_id, "disable")


@blueprint.post("/endpoints/<int:endpoint_id>/enable")
@admins_only
def enable(endpoint_id: int) -> Response:
    endpoints.enable(runtime(), me().organisation_id, endpoint_id)
    return _done(endpoint_id, "enable")


@blueprint.post("/endpoints/<int:endpoint_id>/remove")
@admins_only
def remove(endpoint_id: int) -> Response:
    each = _find(endpoint_id)
    endpoints.remove(runtime(), me().organisation_id, endpoint_id)
    flash(f"{each.name} is removed, and hears of nothing any more.", "good")
    return redirect(url_for("endpoints.index"))


def _find(endpoint_id: int) -> Line:
    return endpoints.find(runtime(), me().organisation_id, endpoint_id)


def _form(each: Line | None = None) -> EndpointForm:
    """The form; a known endpoint's address is put in, for it is no secret from an admin, as its secret is."""
    known: dict[str, Any] = {}
    with runtime().db.begin() as conn:
        campaigns = campaign_list.find_names(conn, me().organisation_id)
    if each is not None:
        known = {
            "name": each.name,
            "url": runtime().vault.decrypt(each.url),
            "kinds": list(each.kinds),
            "campaign": each.campaign_id or 0,
            "with_email": each.with_email,
        }
        if each.campaign_id and each.campaign_id not in dict(campaigns):
            campaigns = [*campaigns, (each.campaign_id, each.campaign or f"campaign {each.campaign_id}")]
    form = EndpointForm(data=known)
    form.campaign.choices = choices([(0, "All campaigns"), *campaigns])
    return form


def _entry(form: EndpointForm) -> Entry:
    return Entry(
        name=form.name.data or "",
        url=form.url.data or "",
        kinds=form.kinds.data or [],
        campaign_id=form.campaign.data or None,
        with_email=bool(form.with_email.data),
    )


def _secret_page(endpoint_id: int, secret: str, what: str) -> str:
    """Shown by the answer itself: nowhere else is it kept readable."""
    return render_template("endpoints/secret.html", each=_find(endpoint_id), secret=secret, what=what)


def _done(endpoint_id: int, what: str) -> Response:
    flash(PAST[what], "good")
    return redirect(url_for("endpoints.show", endpoint_id=endpoint_id))
