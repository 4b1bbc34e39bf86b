"""Pools: one page for each provider account, where it is tried, changed, and told where to post; for admins alone."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response

from app.errors import Conflict, Invalid, NotFound
from app.flows import pools, try_pool
from app.models import account, connection, limit, mailbox, sender, unread, webhook
from app.models.receiver import RECEIVERS
from app.models.sender import PoolLine
from app.providers import WEBHOOKS
from app.providers.forms import KINDS
from web import pool_limits
from web.context import me, runtime
from web.forms import choices
from web.pool_forms import AccountForm, SecretForm, TestForm, account_form
from web.pool_setup import SETUPS

blueprint = Blueprint("pools", __name__)
TONES = {True: "good", False: "bad", None: "warn"}
Page = str | Response | tuple[str, int]


@blueprint.before_request
def _admins() -> None:
    if not me().is_admin:
        raise Forbidden


@blueprint.route("/pools/new", methods=["GET", "POST"])
def new() -> Page:
    """First which kind of provider it is, then its own form."""
    chosen = KINDS.get(request.args.get("kind", ""))
    if chosen is None:
        return render_template("pools/choose.html", kinds=KINDS.values())
    form, status = account_form(chosen), 200
    if request.method == "POST":
        status = 422
        try:
            if form.validate():
                pool_id = pools.add_account(runtime(), me().organisation_id, chosen, *_typed(form, form.values(chosen)))
                flash(f"The pool {form.name.data} is there. Check now whether the provider knows it.", "good")
                return redirect(url_for("pools.show", pool_id=pool_id))
        except Invalid as invalid:
            form.blame(invalid)
        form.ask_again()
    return render_template("pools/edit.html", form=form, kind=chosen, pool=None), status


@blueprint.route("/pools/<int:pool_id>/edit", methods=["GET", "POST"])
def edit(pool_id: int) -> Page:
    pool, _ = _line(pool_id)
    kind, known = pools.account_form(runtime(), me().organisation_id, pool_id)
    form, status = account_form(kind, {**known, "name": pool.name, "batch": pool.batch}), 200
    if request.method == "POST":
        status = 422
        try:
            if form.validate():
                name, values, batch = _typed(form, form.values(kind))
                pools.edit_account(runtime(), me().organisation_id, pool_id, name, values, batch)
                flash(f"The pool {form.name.data} is changed.", "good")
                return redirect(url_for("pools.show", pool_id=pool_id))
        except Invalid as invalid:
            form.blame(invalid)
        form.ask_again()
    return render_template("pools/edit.html", form=form, kind=kind, pool=pool), status


@blueprint.get("/pools/<int:pool_id>")
def show(pool_id: int) -> str:
    return _page(pool_id, SecretForm(), TestForm())


@blueprint.post("/pools/<int:pool_id>/check")
def check(pool_id: int) -> Response:
    """Ask the provider whether it knows the account; the page shows what it said."""
    try_pool.check_pool(runtime(), me().organisation_id, pool_id)
    return redirect(url_for("pools.show", pool_id=pool_id))


@blueprint.post("/pools/<int:pool_id>/test")
def send_test(pool_id: int) -> Page:
    form = TestForm()
    _offer(form, pool_id)
    try:
        if form.validate():
            organisation_id, address = me().organisation_id, form.address.data or ""
            answer = try_pool.send_test(runtime(), organisation_id, pool_id, form.sender.data, address)
            flash(f"Test to {address}: {answer.said}", TONES[answer.good])
            return redirect(url_for("pools.show", pool_id=pool_id))
    except Invalid as invalid:
        form.blame(invalid)
    return _page(pool_id, SecretForm(formdata=None), form), 422


@blueprint.post("/pools/<int:pool_id>/webhooks")
def webhooks(pool_id: int) -> Page:
    """What the pool's webhooks are signed with."""
    pool, _ = _line(pool_id)
    form = SecretForm()
    try:
        if form.validate():
            pools.set_webhook_secret(runtime(), me().organisation_id, pool_id, form.secret.data or "")
            taken = "are taken from now on" if (form.secret.data or "").strip() else "are no longer taken"
            flash(f"Webhooks of {pool.name} {taken}.", "good")
            return redirect(url_for("pools.show", pool_id=pool_id))
    except Invalid as invalid:
        form.blame(invalid)
    return _page(pool_id, form, TestForm(formdata=None)), 422


@blueprint.post("/pools/<int:pool_id>/unread")
def forget_unread(pool_id: int) -> Response:
    """A person has seen a type of events that nobody knows."""
    _line(pool_id)
    with runtime().db.begin() as conn:
        unread.forget(conn, pool_id, request.form.get("type", "").replace("\0", ""))
    return redirect(url_for("pools.show", pool_id=pool_id, _anchor="unread"))


@blueprint.route("/pools/<int:pool_id>/limits", methods=["GET", "POST"])
def limits(pool_id: int) -> Page:
    """How fast the pool may send, in all and to each receiver."""
    pool, _ = _line(pool_id)
    if request.method == "GET":
        with runtime().db.begin() as conn:
            rows = pool_limits.rows_of(limit.list_limits(conn, pool_id))
        return _limits(pool, rows)
    rows = pool_limits.read_rows(request.form)
    meant: list[tuple[pool_limits.Row, limit.Limit]] = []
    try:
        meant = pool_limits.limits_of(rows)
        pools.set_limits(runtime(), me().organisation_id, pool_id, [each for _, each in meant])
    except Invalid as invalid:
        pool_limits.blame(meant, invalid.faults)
        return _limits(pool, rows), 422
    flash(f"The limits of {pool.name} are saved.", "good")
    return redirect(url_for("pools.show", pool_id=pool_id))


@blueprint.post("/pools/<int:pool_id>/resume")
def resume(pool_id: int) -> Response:
    pools.resume_pool(runtime(), me().organisation_id, pool_id)
    flash("The pool sends again.", "good")
    return redirect(url_for("pools.show", pool_id=pool_id))


@blueprint.post("/pools/<int:pool_id>/delete")
def delete(pool_id: int) -> Response:
    pool, _ = _line(pool_id)
    try:
        pools.delete_pool(runtime(), me().organisation_id, pool_id)
    except Conflict as conflict:
        flash(str(conflict), "bad")
        return redirect(url_for("pools.show", pool_id=pool_id))
    flash(f"The pool {pool.name} is gone.", "good")
    return redirect(url_for("senders.index"))


def _limits(pool: PoolLine, rows: list[pool_limits.Row]) -> str:
    lines = pools.find_lines(runtime(), me().organisation_id, pool.id)
    return render_template("pools/limits.html", pool=pool, rows=rows, receivers=RECEIVERS.values(), lines=lines)


def find_pool(pool_id: int) -> PoolLine:
    """The pool of one's organisation; raises NotFound."""
    return _line(pool_id)[0]


def _page(pool_id: int, secret: SecretForm, test: TestForm) -> str:
    pool, door = _line(pool_id)
    senders = _offer(test, pool_id)
    secret.secret.flags.plain = True
    address = pools.webhook_address(runtime(), door.token, pool.provider)
    with runtime().db.begin() as conn:
        limits = limit.list_limits(conn, pool_id)
        found = limit.find_left(conn, pool_id)
        sharing = account.find_sharing(conn, pool_id)
        connected = connection.count_open(conn, pool_id)
        unread_types = unread.find_unread(conn, pool_id)
        box = mailbox.find_line(conn, pool_id)
    return render_template(
        "pools/show.html",
        pool=pool,
        door=door,
        kind=KINDS.get(pool.provider),
        senders=senders,
        limits=limits,
        left={each.receiver: each.left for each in found if each.account_id is None},
        sharing=sharing,
        left_together=next((each.left for each in found if each.account_id is not None), None),
        lines=pools.find_lines(runtime(), me().organisation_id, pool_id),
        connected=connected,
        unread_types=unread_types,
        box=box,
        name_of=limit.name_of,
        secret=secret,
        test=test,
        setup=SETUPS.get(pool.provider),
        speaking=WEBHOOKS,
        address=address,
        reachable=address.startswith("https://") or pool.provider == "sink",
    )


def _offer(form: TestForm, pool_id: int) -> list[sender.SenderLine]:
    """Offer the senders that use a pool; those."""
    with runtime().db.begin() as conn:
        lines = sender.list_senders(conn, me().organisation_id)
    using = [each for each in lines if pool_id in (each.pool_id, each.second_pool_id, each.transactional_pool_id)]
    form.sender.choices = choices((each.id, f"{each.name} <{each.address}>") for each in using)
    form.sender.flags.plain = True
    return using


def _typed(form: AccountForm, values: dict[str, str]) -> tuple[str, dict[str, str], int]:
    return form.name.data or "", values, form["batch"].data or 0


def _line(pool_id: int) -> tuple[PoolLine, webhook.DoorLine]:
    with runtime().db.begin() as conn:
        lines = sender.list_pools(conn, me().organisation_id)
        doors = webhook.list_doors(conn, me().organisation_id)
    pool = next((each for each in lines if each.id == pool_id), None)
    if pool is None or pool_id not in doors:
        raise NotFound("There is no such pool.")
    return pool, doors[pool_id]
