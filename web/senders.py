"""Who emails come from, and the provider accounts that carry them."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response
from wtforms import EmailField, IntegerField, SelectField, StringField
from wtforms.validators import InputRequired, Optional

from app.errors import Invalid, NotFound
from app.flows import pools
from app.models import sender, webhook
from app.models.sender import PoolLine
from app.models.webhook import DoorLine
from app.providers import WEBHOOKS
from web.context import me, runtime
from web.forms import Form, choices
from web.visitor import admins_only

blueprint = Blueprint("senders", __name__)


class SenderForm(Form):
    """A From identity."""

    name = StringField(
        "Name",
        [InputRequired("Say who the email is from.")],
        description="What people read in their inbox: “Old Mill Bakery”.",
    )
    address = EmailField("Address", [InputRequired("Enter the address that the email is from.")])
    reply_to = EmailField("Reply to", [Optional()], description="Where answers go, when not to the address itself.")
    pool = SelectField("Pool", coerce=int, description="The provider account that carries it.")


class PoolForm(Form):
    """A provider account. Its URL is written, never read."""

    name = StringField("Name", [InputRequired("Give the pool a name.")], description="“Marketing”, “Transactional”, …")
    url = StringField(
        "Provider URL",
        [InputRequired("Enter the provider's URL.")],
        description="For example smtp://user:password@smtp.example.com:587?tls=starttls&connections=4, "
        "postmark://:TOKEN@api.postmarkapp.com?stream=broadcast or resend://:KEY@api.resend.com; also ses, sendgrid, "
        "mailgun and brevo. Special characters in the password are written as in web addresses (@ is %40). "
        "It is kept encrypted and never shown again.",
    )
    batch = IntegerField(
        "Emails per call",
        [InputRequired("Enter a number from 1 to 1,000.")],
        default=50,
        description="How many emails go to the provider at a time, at most.",
    )


class SecretForm(Form):
    """What a pool's webhooks are signed with. Written, never read."""

    secret = StringField(
        "Webhook secret",
        description="What the provider's console shows for verifying its webhooks (whsec_…, a signing or public key); "
        "where it shows none, a secret of your own of 16 characters or more, which you enter there too. "
        "Kept encrypted and never shown again; saved empty, webhooks are no longer taken.",
    )


@blueprint.get("/senders")
def index() -> str:
    with runtime().db.begin() as conn:
        senders = sender.list_senders(conn, me().organisation_id)
        accounts = sender.list_pools(conn, me().organisation_id)
        doors = webhook.list_doors(conn, me().organisation_id)
    return render_template("senders/index.html", senders=senders, pools=accounts, doors=doors, speaking=WEBHOOKS)


@blueprint.route("/senders/new", methods=["GET", "POST"])
def new_sender() -> str | Response | tuple[str, int]:
    form = SenderForm()
    form.pool.choices = choices((pool.id, f"{pool.name} ({pool.provider})") for pool in _pools())
    if request.method == "GET":
        return render_template("senders/new_sender.html", form=form)
    if form.validate():
        try:
            pools.add_sender(
                runtime(),
                me().organisation_id,
                form.pool.data,
                form.name.data or "",
                form.address.data or "",
                form.reply_to.data or None,
            )
        except Invalid as invalid:
            form.blame(invalid)
        else:
            flash(f"{form.name.data} can send now.", "good")
            return redirect(url_for("senders.index"))
    return render_template("senders/new_sender.html", form=form), 422


@blueprint.route("/pools/new", methods=["GET", "POST"])
@admins_only
def new_pool() -> str | Response | tuple[str, int]:
    form = PoolForm()
    if request.method == "GET":
        return render_template("senders/new_pool.html", form=form)
    if form.validate():
        try:
            pools.add_pool(
                runtime(), me().organisation_id, form.name.data or "", form.url.data or "", form.batch.data or 0
            )
        except Invalid as invalid:
            form.blame(invalid)
        else:
            flash(f"The pool {form.name.data} is ready. Senders can use it.", "good")
            return redirect(url_for("senders.index"))
    return render_template("senders/new_pool.html", form=form), 422


@blueprint.route("/pools/<int:pool_id>/webhooks", methods=["GET", "POST"])
@admins_only
def pool_webhooks(pool_id: int) -> str | Response | tuple[str, int]:
    """Where a provider posts what became of emails, and what it signs that with."""
    form, status = SecretForm(), 200
    pool, door = _door(pool_id)
    if request.method == "POST" and form.validate():
        try:
            pools.set_webhook_secret(runtime(), me().organisation_id, pool_id, form.secret.data or "")
        except Invalid as invalid:
            form.blame(invalid)
            status = 422
        else:
            taken = "are taken from now on" if form.secret.data else "are no longer taken"
            flash(f"Webhooks of {pool.name} {taken}.", "good")
            return redirect(url_for("senders.index"))
    address = pools.webhook_address(runtime(), door.token, pool.provider)
    speaks = pool.provider in WEBHOOKS
    page = render_template("senders/webhooks.html", form=form, pool=pool, door=door, address=address, speaks=speaks)
    return page, status


@blueprint.post("/pools/<int:pool_id>/resume")
@admins_only
def resume_pool(pool_id: int) -> Response:
    pools.resume_pool(runtime(), me().organisation_id, pool_id)
    flash("The pool sends again.", "good")
    return redirect(url_for("senders.index"))


def _door(pool_id: int) -> tuple[PoolLine, DoorLine]:
    with runtime().db.begin() as conn:
        doors = webhook.list_doors(conn, me().organisation_id)
    pool = next((pool for pool in _pools() if pool.id == pool_id), None)
    if pool is None or pool_id not in doors:
        raise NotFound("There is no such pool.")
    return pool, doors[pool_id]


def _pools() -> list[PoolLine]:
    with runtime().db.begin() as conn:
        return sender.list_pools(conn, me().organisation_id)
