"""Segments: written as JSON, counted and sampled while one types."""

from __future__ import annotations

import json
from dataclasses import dataclass

from flask import Blueprint, Response, flash, jsonify, redirect, render_template, request, url_for
from sqlalchemy import Connection
from werkzeug.wrappers import Response as AnyResponse
from wtforms import StringField, TextAreaField
from wtforms.validators import InputRequired

from app.errors import Fault, Invalid
from app.flows import segments
from app.models import segment
from app.models.field import Fields, Type, load_fields
from app.models.lead import Row
from app.models.operators import OPERATORS, suiting
from web.context import me, runtime
from web.forms import Form
from web.json_lines import lines_of
from web.segment_examples import examples

blueprint = Blueprint("segments", __name__)
QUICK = 2.0  # seconds that a first count and its sample may take together
PATIENT = 20.0  # seconds for both on the second try
EVERYONE = {"combinator": "and", "rules": []}


class SegmentForm(Form):
    """A name and a condition."""

    name = StringField("Name", [InputRequired("Give the segment a name.")])
    condition = TextAreaField("Condition")


@dataclass(frozen=True, slots=True)
class Preview:
    """What a condition finds. `count` None: still counting; `faults` come with the line that they are in."""

    sentence: str = ""
    count: int | None = None
    sample: tuple[Row, ...] | None = None
    faults: tuple[tuple[Fault, int | None], ...] = ()


@blueprint.get("/segments")
def index() -> str:
    with runtime().db.begin() as conn:
        found = segment.find_page(conn, me().organisation_id, limit=500)
        fields = load_fields(conn, me().organisation_id)
    lines = [(each, segment.summary(each.condition, fields)) for each in found]
    return render_template("segments/index.html", lines=lines)


@blueprint.get("/segments/schema.json")
def schema() -> Response:
    """The JSON Schema of conditions, for editors and programs."""
    return jsonify(segment.json_schema())


@blueprint.route("/segments/new", methods=["GET", "POST"])
def new() -> str | AnyResponse | tuple[str, int]:
    form = SegmentForm(data={"condition": _pretty(EVERYONE)})
    if request.method == "GET":
        return _editor(form)
    if form.validate():
        try:
            segments.create(runtime(), me().organisation_id, form.name.data or "", form.condition.data or "")
        except Invalid as invalid:
            form.blame(invalid)
        else:
            flash(f"The segment “{form.name.data}” is saved.", "good")
            return redirect(url_for("segments.index"))
    return _editor(form), 422


@blueprint.route("/segments/<int:segment_id>", methods=["GET", "POST"])
def edit(segment_id: int) -> str | AnyResponse | tuple[str, int]:
    with runtime().db.session() as session:
        found = segment.get(session, me().organisation_id, segment_id)
    form = SegmentForm(data={"name": found.name, "condition": _pretty(found.condition)})
    if request.method == "GET":
        return _editor(form, segment_id)
    if form.validate():
        try:
            segments.update(
                runtime(), me().organisation_id, segment_id, form.name.data or "", form.condition.data or ""
            )
        except Invalid as invalid:
            form.blame(invalid)
        else:
            flash(f"The segment “{form.name.data}” is saved.", "good")
            return redirect(url_for("segments.index"))
    return _editor(form, segment_id), 422


@blueprint.post("/segments/<int:segment_id>/delete")
def delete(segment_id: int) -> AnyResponse:
    segments.delete(runtime(), me().organisation_id, segment_id)
    flash("The segment is deleted.", "good")
    return redirect(url_for("segments.index"))


@blueprint.post("/segments/preview")
def preview() -> str:
    patient = request.args.get("patient") == "yes"
    text = request.form.get("condition", "")
    with runtime().reports.begin() as conn:
        shown = _look(conn, text, PATIENT if patient else QUICK)
    return render_template("segments/_preview.html", preview=shown, patient=patient)


def _look(conn: Connection, text: str, seconds: float) -> Preview:
    fields = load_fields(conn, me().organisation_id)
    try:
        _, condition = segment.parse_json(text, fields)
    except Invalid as invalid:
        lines = lines_of(text)
        return Preview(faults=tuple((fault, lines.get(fault.pointer)) for fault in invalid.faults))
    clause = segment.compile(condition, fields)
    found = segment.preview(conn, me().organisation_id, clause, seconds / 2)  # to each of its two questions
    return Preview(
        sentence=segment.describe(condition, fields),
        count=found.leads,
        sample=None if found.sample is None else tuple(found.sample),
    )


def _editor(form: SegmentForm, segment_id: int | None = None) -> str:
    with runtime().db.begin() as conn:
        fields = load_fields(conn, me().organisation_id)
    return render_template(
        "segments/edit.html",
        form=form,
        segment_id=segment_id,
        fields=fields,
        operators=_operators(fields),
        examples=[(label, _pretty(condition)) for label, condition in _examples(fields)],
    )


def _examples(fields: Fields) -> list[tuple[str, dict[str, object]]]:
    conditions = examples(fields)
    return [(segment.describe(segment.parse(condition, fields), fields), condition) for condition in conditions]


def _operators(fields: Fields) -> list[tuple[Type, list[tuple[str, str]]]]:
    """Type → (operator, how it reads) for each type that the fields have."""
    by_type = {field.type: field for field in fields.values() if not field.choices}
    return [
        (kind, [(name, OPERATORS[name].reads(field)) for name in suiting(field)]) for kind, field in by_type.items()
    ]


def _pretty(condition: object) -> str:
    return json.dumps(condition, indent=2, ensure_ascii=False)
