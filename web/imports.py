"""CSV files on their way into the leads: sent here, watched while they are read, their rejected rows fetched."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask_wtf.file import FileField, FileRequired
from werkzeug.wrappers import Response as AnyResponse
from wtforms import SelectField, StringField

from app.errors import Invalid
from app.flows import import_leads
from app.flows.import_leads import LARGEST, Options
from app.models import lead_import
from app.models.lead_import import LeadImport
from web.context import me, runtime
from web.csrf import takes_up_to
from web.forms import Form, choices
from web.paging import LIMIT, after_number, page_of

blueprint = Blueprint("imports", __name__)
AROUND = 1024 * 1024  # bytes of an upload's other fields
ENCODINGS = [
    ("", "Found by itself"),
    ("utf-8", "UTF-8"),
    ("cp1252", "Windows / Latin-1 (western)"),
    ("utf-16", "UTF-16"),
    ("shift_jis", "Shift JIS"),
    ("gb18030", "GB 18030"),
]
DELIMITERS = [("", "Found by itself"), (",", "Comma"), (";", "Semicolon"), ("tab", "Tab"), ("|", "Vertical bar")]
SHOWN_REJECTS = 20


class ImportForm(Form):
    """A file, and what a person may know better than we can find out."""

    file = FileField("CSV file", [FileRequired("Choose a file.")])
    address = StringField("Column with the address", description="Its header; found by itself when left empty.")
    encoding = SelectField("Letters are written in", default="", choices=choices(ENCODINGS))
    delimiter = SelectField("Columns are separated by", default="", choices=choices(DELIMITERS))


@blueprint.get("/imports")
def index() -> str:
    with runtime().db.session() as session:
        found = lead_import.find_page(session, me().organisation_id, after_number(), LIMIT + 1)
    return render_template("imports/index.html", page=page_of(found, lambda each: each.id))


@blueprint.get("/imports/new")
def new() -> str:
    return render_template("imports/new.html", form=ImportForm(), largest=LARGEST)


@blueprint.post("/imports/new")
@takes_up_to(LARGEST + AROUND)
def receive() -> AnyResponse | tuple[str, int]:
    form = ImportForm()
    if form.validate():
        try:
            import_id = _receive(form)
        except Invalid as invalid:
            form.blame(invalid)
        else:
            flash("The file has arrived. Its leads are being read.", "good")
            return _go(url_for("imports.show", import_id=import_id))
    return render_template("imports/new.html", form=form, largest=LARGEST), 422


@blueprint.get("/imports/<int:import_id>")
def show(import_id: int) -> str:
    found = _find(import_id)
    with runtime().db.begin() as conn:
        rejects = lead_import.find_rejects(conn, import_id, 0, SHOWN_REJECTS)
    return render_template("imports/show.html", each=found, rejects=rejects, pace=_pace(found))


@blueprint.get("/imports/<int:import_id>/progress")
def progress(import_id: int) -> Response | str:
    found = _find(import_id)
    if found.finished_at is not None:  # the whole page has more to show now
        return Response(headers={"HX-Refresh": "true"})
    return render_template("imports/_progress.html", each=found, pace=_pace(found))


@blueprint.get("/imports/<int:import_id>/rejects.csv")
def rejects(import_id: int) -> Response:
    found = _find(import_id)
    headers = {"Content-Disposition": f'attachment; filename="rejected-{found.id}.csv"'}
    lines = import_leads.rejects_csv(runtime().db, import_id)
    return Response(lines, content_type="text/csv; charset=utf-8", headers=headers)


def _receive(form: ImportForm) -> int:
    upload = form.file.data
    delimiter = "\t" if form.delimiter.data == "tab" else form.delimiter.data
    options = Options(
        mapping={form.address.data: "email"} if form.address.data else {},
        encoding=form.encoding.data or None,
        delimiter=delimiter or None,
    )
    name = upload.filename or "leads.csv"
    return import_leads.receive(runtime(), me().organisation_id, me().id, name, upload.stream, options)


def _find(import_id: int) -> LeadImport:
    with runtime().db.session() as session:
        return lead_import.get(session, me().organisation_id, import_id)


def _pace(found: LeadImport) -> dict[str, float]:
    """Rows a second since the start, and seconds that are left at this pace; empty while nothing is known."""
    if found.started_at is None:
        return {}
    seconds = ((found.finished_at or datetime.now(UTC)) - found.started_at).total_seconds()
    if seconds < 0.5 or not found.bytes_read:
        return {}
    left = (found.file_bytes - found.bytes_read) * seconds / found.bytes_read
    return {"rows": found.rows_read / seconds, "left": max(left, 0.0), "seconds": seconds}


def _go(address: str) -> AnyResponse:
    """There by a redirect; a form sent by htmx is told in its own words, or it would fetch the page into the form."""
    if request.headers.get("HX-Request"):
        return Response(headers={"HX-Redirect": address})
    return redirect(address)
