"""Templates of messages: written, changed, and looked at as a message with some data would be."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from markupsafe import escape
from werkzeug.wrappers import Response
from wtforms import SelectField, StringField, TextAreaField
from wtforms.validators import InputRequired

from app.errors import Conflict, Invalid
from app.flows import message_templates
from app.flows.message_templates import LONGEST_NAME, TemplateDraft
from app.models import sender
from app.models.message_template import MessageTemplate
from web import security
from web.context import me, runtime
from web.forms import Form, choices

blueprint = Blueprint("message_templates", __name__)
Page = str | Response | tuple[str, int]
EXAMPLE = '{"name": "Ann", "items": [{"title": "Tea", "price": 4.5}]}'
TRACKED = [("off", "No"), ("on", "By Millrace"), ("auto", "By Millrace where the provider tells nothing")]
PURPOSES = [
    ("transactional", "Transactional: asked for, like a receipt"),
    ("marketing", "Marketing: needs an unsubscribe link"),
]


def _number(value: object) -> int | None:
    return int(str(value)) if value not in (None, "", "None") else None


class TemplateForm(Form):
    """A template."""

    name = StringField("Name", [InputRequired("Give the template a name.")], description="Programs ask for it by this.")
    purpose = SelectField(
        "Purpose",
        choices=choices(PURPOSES),
        description="Who has unsubscribed still gets what is transactional. Bad addresses and complaints get nothing.",
    )
    sender = SelectField("Sender", coerce=_number, description="Of messages that name none.")
    subject = StringField("Subject", [InputRequired("Write a subject.")])
    html = TextAreaField(
        "HTML",
        [InputRequired("Write what the email says.")],
        description="{{ data.name }} is what the message brings under that name; {% for item in data.items %} goes "
        "through a list; {{ to }} is the address.",
    )
    text = TextAreaField("Text", description="Empty: made from the HTML.")
    track_opens = SelectField("Track opens", choices=choices(TRACKED))
    track_clicks = SelectField("Track clicks", choices=choices(TRACKED))

    def offer(self) -> None:
        with runtime().db.begin() as conn:
            lines = sender.list_senders(conn, me().organisation_id)
        offers = [(each.id, f"{each.name} <{each.address}>") for each in lines]
        self.sender.choices = choices([("", "None: each message names one"), *offers])
        for each in (self.purpose, self.track_opens, self.track_clicks):
            each.flags.plain = True

    def draft(self) -> TemplateDraft:
        return TemplateDraft(
            name=self.name.data or "",
            subject=self.subject.data or "",
            html=self.html.data or "",
            text=self.text.data or "",
            purpose=self.purpose.data or "",
            sender_id=self.sender.data,
            track_opens=self.track_opens.data or "",
            track_clicks=self.track_clicks.data or "",
        )


@blueprint.route("/messages/templates/new", methods=["GET", "POST"])
def new() -> Page:
    form = TemplateForm()
    form.offer()
    if request.method == "GET":
        return _editor(form, None)
    if form.validate():
        try:
            template_id = message_templates.create(runtime(), me().organisation_id, me().id, form.draft())
        except (Invalid, Conflict) as error:
            _blame(form, error)
        else:
            flash("Programs can name this template now.", "good")
            return redirect(url_for("message_templates.edit", template_id=template_id))
    return _editor(form, None), 422


@blueprint.route("/messages/templates/<int:template_id>", methods=["GET", "POST"])
def edit(template_id: int) -> Page:
    found = message_templates.find(runtime(), me().organisation_id, template_id)
    form = TemplateForm(data=_written(found))
    form.offer()
    if request.method == "GET":
        return _editor(form, found)
    if form.validate():
        try:
            message_templates.update(runtime(), me().organisation_id, me().id, template_id, form.draft())
        except (Invalid, Conflict) as error:
            _blame(form, error)
        else:
            flash("Saved: messages say this from now on.", "good")
            return redirect(url_for("message_templates.edit", template_id=template_id))
    return _editor(form, found), 422


@blueprint.post("/messages/templates/<int:template_id>/delete")
def delete(template_id: int) -> Response:
    message_templates.delete(runtime(), me().organisation_id, template_id)
    flash("The template is gone. What waits is sent as it was.", "good")
    return redirect(url_for("messages.index"))


@blueprint.get("/messages/templates/<int:template_id>/preview")
def preview(template_id: int) -> str:
    found = message_templates.find(runtime(), me().organisation_id, template_id)
    written = request.args.get("data", EXAMPLE)
    data, fault = _data(written)
    shown = message_templates.preview(runtime(), me().organisation_id, template_id, data)
    part = "text" if request.args.get("part") == "text" else "html"
    return render_template(
        "messages/preview.html", each=found, shown=shown, data=written, fault=fault or shown.fault, part=part
    )


@blueprint.get("/messages/templates/<int:template_id>/preview.html")
def frame(template_id: int) -> str:
    data, _ = _data(request.args.get("data", EXAMPLE))
    shown = message_templates.preview(runtime(), me().organisation_id, template_id, data)
    security.as_preview()
    return shown.html or f"<p>{escape(shown.fault or '')}</p>"


def _data(written: str) -> tuple[dict[str, Any], str | None]:
    """What a message would bring, or what is wrong with it."""
    try:
        data = json.loads(written)
    except (ValueError, RecursionError) as error:
        return {}, f"These data are no JSON: {error}."
    return (data, None) if isinstance(data, dict) else ({}, 'Data are one JSON object: {"name": "Ann"}.')


def _written(found: MessageTemplate) -> dict[str, object]:
    names = ("name", "purpose", "subject", "html", "text", "track_opens", "track_clicks")
    return {name: getattr(found, name) for name in names} | {"sender": found.sender_id}


def _blame(form: TemplateForm, error: Invalid | Conflict) -> None:
    form.blame(error if isinstance(error, Invalid) else Invalid.one("", str(error)))


def _editor(form: TemplateForm, found: MessageTemplate | None) -> str:
    versions = message_templates.list_versions(runtime(), me().organisation_id, found.id) if found else []
    return render_template("messages/edit.html", form=form, template=found, versions=versions, longest=LONGEST_NAME)
