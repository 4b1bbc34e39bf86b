"""Who emails come from, and a list of the provider accounts that carry them."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response
from wtforms import EmailField, SelectField, StringField
from wtforms.validators import InputRequired, Optional

from app.errors import Conflict, Invalid
from app.flows import senders
from app.flows.senders import Identity
from app.models import sender, webhook
from app.providers import WEBHOOKS
from web.context import me, runtime
from web.forms import Form, choices

blueprint = Blueprint("senders", __name__)
Page = str | Response | tuple[str, int]


def _number(value: object) -> int | None:
    return int(str(value)) if value not in (None, "", "None") else None


class SenderForm(Form):
    """A From identity."""

    name = StringField(
        "Name",
        [InputRequired("Say who the email is from.")],
        description="What people read in their inbox: “Old Mill Bakery”.",
    )
    address = EmailField("Address", [InputRequired("Enter the address that the email is from.")])
    reply_to = EmailField("Reply to", [Optional()], description="Where answers go, when not to the address itself.")
    pool = SelectField("Pool", coerce=_number, description="The provider account that carries it.")
    second_pool = SelectField(
        "Second pool",
        coerce=_number,
        description="Carries what is not handed over yet while the first one is paused or its provider is down. The "
        "address must be verified there as well.",
    )
    transactional_pool = SelectField(
        "Pool for messages",
        coerce=_number,
        description="Carries what programs ask for one by one. Receipts are not delayed by what a campaign did.",
    )

    def offer(self) -> None:
        with runtime().db.begin() as conn:
            lines = sender.list_pools(conn, me().organisation_id)
        offers = [(each.id, f"{each.name} ({each.provider})") for each in lines]
        self.pool.choices = choices(offers)
        self.second_pool.choices = choices([("", "None"), *offers])
        self.transactional_pool.choices = choices([("", "The same as for campaigns"), *offers])
        self.pool.flags.plain = True

    def identity(self) -> Identity:
        return Identity(
            self.pool.data,
            self.name.data or "",
            self.address.data or "",
            self.reply_to.data or None,
            self.second_pool.data,
            self.transactional_pool.data,
        )


@blueprint.get("/senders")
def index() -> str:
    with runtime().db.begin() as conn:
        lines = sender.list_senders(conn, me().organisation_id)
        accounts = sender.list_pools(conn, me().organisation_id)
        doors = webhook.list_doors(conn, me().organisation_id)
    return render_template("senders/index.html", senders=lines, pools=accounts, doors=doors, speaking=WEBHOOKS)


@blueprint.route("/senders/new", methods=["GET", "POST"])
def new_sender() -> Page:
    form, status = SenderForm(data={"pool": request.args.get("pool", type=int)}), 200
    form.offer()
    if request.method == "POST":
        status = 422
        try:
            if form.validate():
                senders.add(runtime(), me().organisation_id, form.identity())
                flash(f"{form.name.data} can send now.", "good")
                return redirect(url_for("senders.index"))
        except Invalid as invalid:
            form.blame(invalid)
    return render_template("senders/edit.html", form=form, sender=None), status


@blueprint.route("/senders/<int:sender_id>/edit", methods=["GET", "POST"])
def edit_sender(sender_id: int) -> Page:
    found = senders.find(runtime(), me().organisation_id, sender_id)
    known: dict[str, object] = {
        "name": found.name,
        "address": found.address,
        "reply_to": found.reply_to,
        "pool": found.pool_id,
    }
    known |= {"second_pool": found.second_pool_id, "transactional_pool": found.transactional_pool_id}
    form, status = SenderForm(data=known), 200
    form.offer()
    if request.method == "POST":
        status = 422
        try:
            if form.validate():
                senders.edit(runtime(), me().organisation_id, sender_id, form.identity())
                flash(f"{form.name.data} is changed.", "good")
                return redirect(url_for("senders.index"))
        except Invalid as invalid:
            form.blame(invalid)
    return render_template("senders/edit.html", form=form, sender=found), status


@blueprint.post("/senders/<int:sender_id>/delete")
def delete_sender(sender_id: int) -> Response:
    try:
        senders.delete(runtime(), me().organisation_id, sender_id)
    except Conflict as conflict:
        flash(str(conflict), "bad")
        return redirect(url_for("senders.edit_sender", sender_id=sender_id))
    flash("The sender is gone.", "good")
    return redirect(url_for("senders.index"))
