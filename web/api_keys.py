"""Keys of programs: what each may do, made and revoked by admins."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response
from wtforms import IntegerField, SelectMultipleField, StringField
from wtforms.validators import InputRequired
from wtforms.widgets import CheckboxInput, ListWidget

from app.errors import Invalid
from app.flows import api_keys
from app.flows.api_keys import LONGEST_NAME, PER_MINUTE
from app.models import api_key
from app.models.api_key import SCOPES
from web.context import me, runtime
from web.forms import Form, choices
from web.visitor import admins_only

blueprint: Final = Blueprint("api_keys", __name__)


class KeyForm(Form):
    """A key to be made."""

    name = StringField("Name", [InputRequired("Give the key a name.")], description="Which program has it: “Shop”.")
    scopes = SelectMultipleField(
        "It may",
        choices=choices(SCOPES.items()),
        widget=ListWidget(),
        option_widget=CheckboxInput(),
        validate_choice=False,  # the flow names what is wrong
    )
    per_minute = IntegerField(
        "Requests a minute",
        [InputRequired("Enter a number.")],
        default=PER_MINUTE,
        description="A thousand messages in one request are one.",
    )


@blueprint.get("/api/keys")
@admins_only
def index() -> str:
    with runtime().db.begin() as conn:
        found = api_key.find_lines(conn, me().organisation_id)
    return render_template("api/keys.html", keys=found, scopes=SCOPES)


@blueprint.route("/api/keys/new", methods=["GET", "POST"])
@admins_only
def new() -> str | tuple[str, int]:
    form = KeyForm()
    if request.method == "GET":
        return _editor(form)
    if form.validate():
        try:
            made = api_keys.create(
                runtime(),
                me().organisation_id,
                me().id,
                form.name.data or "",
                form.scopes.data or [],
                form.per_minute.data or 0,
            )
        except Invalid as invalid:
            form.blame(invalid)
        else:  # shown by the answer itself: nowhere else is it kept
            return render_template("api/secret.html", name=form.name.data, secret=made.secret)
    return _editor(form), 422


@blueprint.post("/api/keys/<int:key_id>/revoke")
@admins_only
def revoke(key_id: int) -> Response:
    name = api_keys.revoke(runtime(), me().organisation_id, key_id, me().id)
    flash(f"{name} is revoked: nothing is answered to it any more.", "good")
    return redirect(url_for("api_keys.index"))


def _editor(form: KeyForm) -> str:
    return render_template("api/new_key.html", form=form, longest=LONGEST_NAME)
