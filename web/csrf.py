"""Every form proves that one of our pages was behind it; sizes are settled before a body is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Blueprint, Flask, current_app, request
from flask_wtf.csrf import CSRFProtect

# RFC 8058 §3.1: the receiver's own button posts without cookies, and so without a token. A provider's webhook has its
# signature instead.
EXEMPT = ("web.unsubscribe.act", "web.unsubscribe.track", "web.webhooks.take")
LARGE = "_large_body"
View = TypeVar("View", bound=Callable[..., object])


def init_app(app: Flask) -> None:
    app.before_request(_allow_large_body)
    protection = CSRFProtect(app)
    for view in EXEMPT:
        protection.exempt(view)


def spare(app: Flask, blueprint: Blueprint) -> None:
    """Ask for no token at routes that ask for a key of their own each time: no page of somebody else's sends one."""
    app.extensions["csrf"].exempt(blueprint)


def takes_up_to(limit: int) -> Callable[[View], View]:
    """Marks a route whose body may have `limit` bytes: known before the token in it is looked for."""

    def mark(view: View) -> View:
        setattr(view, LARGE, limit)
        return view

    return mark


def _allow_large_body() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    limit = getattr(view, LARGE, None)
    if limit is not None:
        request.max_content_length = limit
