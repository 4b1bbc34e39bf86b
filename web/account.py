"""Logging in and out, and one's own password."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response
from wtforms import EmailField, PasswordField
from wtforms.validators import InputRequired

from app.errors import Invalid
from app.flows import login
from web import visitor
from web.context import me, runtime
from web.forms import Form

blueprint = Blueprint("account", __name__)


class LoginForm(Form):
    """The door."""

    email = EmailField("Email", [InputRequired("Please enter your email address.")])
    password = PasswordField("Password", [InputRequired("Please enter your password.")])


class PasswordForm(Form):
    """One's own password."""

    current = PasswordField("Current password", [InputRequired("Please enter your current password.")])
    new = PasswordField(
        "New password",
        [InputRequired("Please choose a new password.")],
        description="At least 10 characters. A few words that belong to nobody's song work well.",
    )


@blueprint.get("/login")
def log_in() -> str | Response:
    if current_user.is_authenticated:
        return redirect(visitor.safe_next(request.args.get("next")))
    return render_template("account/login.html", form=LoginForm(), next=request.args.get("next", ""))


@blueprint.post("/login")
def log_in_submit() -> str | Response | tuple[str, int]:
    form = LoginForm()
    if form.validate():
        token = login.log_in(runtime().db, form.email.data or "", form.password.data or "")
        if token is not None:
            visitor.enter(token)
            return redirect(visitor.safe_next(request.form.get("next")))
        form.form_errors.append("This address and this password do not belong together.")
    return render_template("account/login.html", form=form, next=request.form.get("next", "")), 422


@blueprint.post("/logout")
def log_out() -> Response:
    visitor.leave()
    flash("You are logged out.", "good")
    return redirect(url_for("account.log_in"))


@blueprint.route("/account", methods=["GET", "POST"])
def change_password() -> str | Response | tuple[str, int]:
    form = PasswordForm()
    if request.method == "GET":
        return render_template("account/account.html", form=form)
    if form.validate():
        try:
            token = login.change_password(runtime().db, me().id, form.current.data or "", form.new.data or "")
        except Invalid as invalid:
            form.blame(invalid)
        else:
            visitor.enter(token)
            flash("Your password was changed. Everywhere else you are logged out.", "good")
            return redirect(url_for("account.change_password"))
    return render_template("account/account.html", form=form), 422
