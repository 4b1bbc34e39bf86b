"""Addresses that are not mailed: searched, entered, taken back, read from a file and written to one."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask_wtf.file import FileField, FileRequired
from werkzeug.wrappers import Response as AnyResponse
from wtforms import BooleanField, SelectField, StringField, TextAreaField
from wtforms.validators import InputRequired

from app.errors import Conflict, Invalid
from app.flows import suppressions
from app.flows.import_suppressions import Imported, Options, import_file
from app.flows.read_csv import Reject
from app.models import lead, sender, suppression
from app.models.suppression import EVERYBODY, Removed, Row
from web.context import me, runtime
from web.csrf import takes_up_to
from web.forms import Form, choices
from web.paging import LIMIT, page_of
from web.visitor import admins_only

blueprint = Blueprint("suppressions", __name__)
LARGEST: Final = 32 * 1024 * 1024  # bytes of a file: about a million addresses, and as long as a page may take
AROUND: Final = 1024 * 1024
SHOWN_REJECTS: Final = 50
# Reasons as people call them.
CALLED: Final = {
    "unsubscribed": "unsubscribed",
    "complained": "complained of us",
    "bounced": "bounced",
    "soft_bounced": "bounced softly again and again",
    "manual": "entered by hand",
}


class AddForm(Form):
    """Addresses typed or pasted."""

    emails = TextAreaField(
        "Addresses", [InputRequired("Enter at least one address.")], description="One a line, up to 1,000."
    )
    sender = SelectField("Not mailed by", [InputRequired("Choose one.")], coerce=int)
    note = StringField("Why", description="For whoever asks later: “asked us on the phone”.")


class ImportForm(Form):
    """A file of addresses, and what holds for rows that do not say."""

    file = FileField("CSV file", [FileRequired("Choose a file.")])
    reason = SelectField("Reason", [InputRequired("Choose one.")], choices=choices(CALLED.items()), default="manual")
    sender = SelectField("Not mailed by", [InputRequired("Choose one.")], coerce=int)


class RemoveForm(Form):
    """Whether the person mailed wants it."""

    consent = BooleanField("They have asked for our emails again")


@blueprint.app_template_global()
def suppressions_of(email: str) -> tuple[list[Row], list[Removed]]:
    """What keeps this address from being mailed, and what was taken back."""
    with runtime().db.begin() as conn:
        found = suppression.find_all(conn, me().organisation_id, email)
        return found, suppression.find_removed(conn, me().organisation_id, email)


@blueprint.app_template_filter("reason")
def called(reason: str) -> str:
    """A reason, as people call it."""
    return CALLED.get(reason, reason)


@blueprint.get("/suppressions")
def index() -> str:
    search = request.args.get("q", "").strip()[:320]
    with runtime().db.begin() as conn:
        found = suppression.find_page(conn, me().organisation_id, search, _after(), LIMIT + 1)
    page = page_of(found, lambda row: f"{row.email} {row.sender_id}")
    return render_template("suppressions/index.html", page=page, search=search)


@blueprint.get("/suppressions.csv")
def export() -> Response:
    headers = {"Content-Disposition": 'attachment; filename="suppressions.csv"'}
    blocks = suppressions.export(runtime(), me().organisation_id)
    return Response(blocks, content_type="text/csv; charset=utf-8", headers=headers)


@blueprint.route("/suppressions/new", methods=["GET", "POST"])
def new() -> str | AnyResponse | tuple[str, int]:
    form = AddForm()
    form.sender.choices = _senders()
    if request.method == "GET":
        return render_template("suppressions/new.html", form=form)
    if form.validate():
        try:
            added = suppressions.add(
                runtime(),
                me().organisation_id,
                (form.emails.data or "").splitlines(),
                sender_id=form.sender.data,
                note=form.note.data or "",
                user_id=me().id,
            )
        except Invalid as invalid:
            form.blame(invalid)
        else:
            flash(_added(added), "good")
            return redirect(url_for("suppressions.index"))
    return render_template("suppressions/new.html", form=form), 422


@blueprint.route("/suppressions/import", methods=["GET", "POST"])
@takes_up_to(LARGEST + AROUND)
def import_list() -> str | tuple[str, int]:
    """The file is read while its sender waits; what was not taken is shown on the page that comes back."""
    form = ImportForm()
    form.sender.choices = _senders()
    if request.method == "GET":
        return render_template("suppressions/import.html", form=form, largest=LARGEST)
    if form.validate():
        rejects: list[Reject] = []
        try:
            done = _import(form, rejects)
        except Invalid as invalid:
            form.blame(invalid)
        else:
            return render_template("suppressions/imported.html", done=done, rejects=rejects[:SHOWN_REJECTS])
    return render_template("suppressions/import.html", form=form, largest=LARGEST), 422


@blueprint.route("/suppressions/remove", methods=["GET", "POST"])
@admins_only
def remove() -> str | AnyResponse | tuple[str, int]:
    """Asks before it mails somebody again: `email` and `sender` are in the address."""
    email, sender_id = request.args.get("email", ""), request.args.get("sender", EVERYBODY, type=int)
    with runtime().db.begin() as conn:
        row = suppressions.find(conn, me().organisation_id, email, sender_id)
        wish = suppressions.needs_consent(conn, me().organisation_id, row)
    form, status = RemoveForm(), 200
    if request.method == "POST" and form.validate():
        try:
            suppressions.remove(
                runtime(),
                me().organisation_id,
                row.email,
                sender_id=sender_id,
                consent=form.consent.data,
                user_id=me().id,
            )
        except Invalid as invalid:
            form.blame(invalid)
            status = 422
        except Conflict as conflict:
            flash(str(conflict), "warn")
        else:
            flash(f"{row.email} may be mailed again{' by ' + row.sender if row.sender else ''}.", "good")
            return redirect(_lead_page(row.email) or url_for("suppressions.index"))
    return render_template("suppressions/remove.html", form=form, row=row, wish=wish), status


@blueprint.post("/leads/<int:lead_id>/suppress")
def suppress_lead(lead_id: int) -> AnyResponse:
    with runtime().db.session() as session:
        email = lead.get(session, me().organisation_id, lead_id).email
    suppressions.add(runtime(), me().organisation_id, [email], note="on the lead's page", user_id=me().id)
    flash(f"{email} is not mailed any more.", "good")
    return redirect(url_for("leads.show", lead_id=lead_id))


def _import(form: ImportForm, rejects: list[Reject]) -> Imported:
    upload = form.file.data
    options = Options(
        reason=form.reason.data, sender_id=form.sender.data, source=(upload.filename or "a file")[:100], user_id=me().id
    )

    def keep(reject: Reject) -> None:
        if len(rejects) < SHOWN_REJECTS:
            rejects.append(reject)

    return import_file(runtime(), me().organisation_id, upload.stream, options, keep)


def _after() -> tuple[str, int]:
    """The key that this page begins behind: an address and a sender's number."""
    email, _, number = request.args.get("after", "")[:400].rpartition(" ")
    return email, int(number) if number.isascii() and number.isdigit() and len(number) < 10 else EVERYBODY


def _senders() -> list[object]:
    with runtime().db.begin() as conn:
        found = sender.list_senders(conn, me().organisation_id)
    return [
        *choices([(EVERYBODY, "Anybody: they get nothing at all")]),
        *choices((each.id, f"{each.name} ({each.address})") for each in found),
    ]


def _added(added: int) -> str:
    match added:
        case 0:
            return "All of them were suppressed already."
        case 1:
            return "One address is not mailed any more."
        case _:
            return f"{added:,} addresses are not mailed any more."


def _lead_page(email: str) -> str | None:
    with runtime().db.begin() as conn:
        lead_id = lead.find_id(conn, me().organisation_id, email)
    return url_for("leads.show", lead_id=lead_id) if lead_id else None
