"""A pool's mailbox: where its bounces come back by mail, set up, tried and taken away; for admins alone."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response
from wtforms import BooleanField, PasswordField, SelectField, StringField

from app.errors import Invalid, ProviderError
from app.flows import mailboxes
from app.flows.mailboxes import PROTOCOLS, Wish
from web.context import me, runtime
from web.forms import Form, choices
from web.pools import find_pool

blueprint = Blueprint("mailboxes", __name__)
Page = str | Response | tuple[str, int]


class MailboxForm(Form):
    """The password goes in, and never comes out."""

    protocol = SelectField("Protocol", choices=choices(PROTOCOLS.items()), validate_choice=False)
    host = StringField("Server", description="Like imap.example.com. Certificates are always verified.")
    port = StringField("Port", description="Empty: the protocol's own.")
    user = StringField("User")
    password = PasswordField("Password", description="Kept encrypted and never shown again.")
    folder = StringField("Folder", description="With IMAP. Of POP the whole mailbox is read.")
    delete = BooleanField(
        "Delete what was read",
        description="Otherwise IMAP marks it as seen. POP deletes it always: give it a mailbox of its own.",
    )

    def wish(self) -> Wish:
        return Wish(
            protocol=self.protocol.data or "",
            host=self.host.data or "",
            port=self.port.data or "",
            user=self.user.data or "",
            password=self.password.data or "",
            folder=(self.folder.data or "INBOX").strip("/") or "INBOX",
            delete=bool(self.delete.data),
        )


@blueprint.before_request
def _admins() -> None:
    if not me().is_admin:
        raise Forbidden


@blueprint.route("/pools/<int:pool_id>/mailbox", methods=["GET", "POST"])
def edit(pool_id: int) -> Page:
    pool = find_pool(pool_id)
    found = mailboxes.find(runtime(), me().organisation_id, pool_id)
    form, status = MailboxForm(obj=found[1] if found else Wish()), 200
    for name in ("protocol", "host", "user", "password", "folder"):
        form[name].flags.plain = True
    if found:
        form.password.description = "Left empty, what is stored stays."
    if request.method == "POST":
        status = 422
        try:
            if form.validate():
                checked = mailboxes.save(runtime(), me().organisation_id, pool_id, form.wish())
                flash(f"{checked.said} It is read every minute from now on.", "good")
                return redirect(url_for("pools.show", pool_id=pool_id, _anchor="mailbox"))
        except Invalid as invalid:
            form.blame(invalid)
        if form.password.data and not form.password.errors:
            form.password.errors = ["Enter it again: what is secret is not sent back."]
    return render_template("pools/mailbox.html", form=form, pool=pool, known=found is not None), status


@blueprint.post("/pools/<int:pool_id>/mailbox/check")
def check(pool_id: int) -> Response:
    """Whether it opens now; nothing in it is touched."""
    try:
        flash(mailboxes.check(runtime(), me().organisation_id, pool_id).said, "good")
    except ProviderError as error:
        flash(str(error), "bad")
    return _back(pool_id)


@blueprint.post("/pools/<int:pool_id>/mailbox/read")
def read(pool_id: int) -> Response:
    mailboxes.read_soon(runtime(), me().organisation_id, pool_id)
    flash("The mailbox is read within seconds.", "good")
    return _back(pool_id)


@blueprint.post("/pools/<int:pool_id>/mailbox/remove")
def remove(pool_id: int) -> Response:
    mailboxes.remove(runtime(), me().organisation_id, pool_id)
    flash("The mailbox is read no more.", "good")
    return _back(pool_id)


def _back(pool_id: int) -> Response:
    return redirect(url_for("pools.show", pool_id=pool_id, _anchor="mailbox"))
