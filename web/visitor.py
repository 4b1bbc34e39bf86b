"""Who is asking: the session cookie names a login, and every route but the public ones needs one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Response, g, redirect, request, session, url_for
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from werkzeug.exceptions import Forbidden, Unauthorized
from werkzeug.wrappers import Response as AnyResponse

from app.flows import login
from app.models.user import Person
from web.context import me, runtime
from web.problems import wants_json

P = ParamSpec("P")
R = TypeVar("R")
DOORS = frozenset({"api"})  # blueprints that ask for keys of their own, and look at no cookie
# Everything else needs a login: a new route is closed until it is named here.
PUBLIC = frozenset(
    {
        "static",
        "account.log_in",
        "account.log_in_submit",
        "health.healthz",
        "unsubscribe.ask",
        "unsubscribe.act",
        "unsubscribe.track",
        "webhooks.look",
        "webhooks.take",
    }
)


class Visitor(UserMixin):  # type: ignore[misc]
    """Somebody logged in. What Flask-Login keeps in the session is the login's token, never a user's number."""

    def __init__(self, person: Person, token: str) -> None:
        self.person = person
        self.token = token

    def get_id(self) -> str:
        return self.token


def init_app(app: Flask) -> None:
    # Its context processor would ask the database for every page, also for the one that says the database is away.
    manager = LoginManager()
    manager.init_app(app, add_context_processor=False)
    app.jinja_env.globals["current_user"] = current_user
    manager.session_protection = "strong"
    manager.user_loader(_load)
    app.before_request(_require_login)
    app.jinja_env.globals["somebody"] = somebody


def somebody() -> bool:
    """Whether it is known already that somebody is logged in: asks no database, which may be what is broken."""
    return isinstance(g.get("_login_user"), Visitor)


def enter(token: str) -> None:
    """Opens the session of a login just made. Nothing of the session before survives: it may be a stranger's."""
    visitor = _load(token)
    session.clear()
    if visitor is not None:
        login_user(visitor)


def leave() -> None:
    """Ends the login and the session."""
    login.log_out(runtime().db, current_user.token)
    logout_user()
    session.clear()


def admins_only(view: Callable[P, R]) -> Callable[P, R]:
    """Closes a route to marketers."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not me().is_admin:
            raise Forbidden
        return view(*args, **kwargs)

    return guarded


def safe_next(address: str | None) -> str:
    """Where to go after the login: a path of ours, or home. Never another site, however it is spelled."""
    if not address or not address.startswith("/") or address.startswith(("//", "/\\")):
        return url_for("campaigns.index")
    if any(ord(letter) < 33 for letter in address) or "\\" in address:
        return url_for("campaigns.index")
    parts = urlsplit(address)
    return address if not parts.scheme and not parts.netloc else url_for("campaigns.index")


def _load(token: str) -> Visitor | None:
    person = login.who(runtime().db, token)
    return None if person is None else Visitor(person, token)


def _require_login() -> AnyResponse | None:
    if request.blueprint in DOORS or request.endpoint in PUBLIC or request.endpoint is None:
        return None
    if current_user.is_authenticated:
        return None
    if wants_json():
        raise Unauthorized("Please log in.")
    if request.headers.get("HX-Request"):  # a fragment: the whole page must go, not a piece of it
        return Response(headers={"HX-Redirect": url_for("account.log_in", next=_here())})
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("account.log_in", next=wanted if wanted != "/" else None))


def _here() -> str | None:
    """The path of the page that a fragment was asked for from; None where it names none."""
    try:
        return urlsplit(request.headers.get("HX-Current-URL", "")).path or None
    except ValueError:  # "http://[x" is no address, and anybody may send it
        return None
