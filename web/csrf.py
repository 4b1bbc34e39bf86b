"""Every form proves that one of our pages was behind it; sizes are settled before a body is read."""

from __future__ import annotations

from flask import Flask, current_app, request
from flask_wtf.csrf import CSRFProtect

LARGE = "_large_body"


def init_app(app: Flask) -> None:
    app.before_request(_allow_large_body)
    CSRFProtect(app)


def takes_up_to(limit: int):  # type: ignore[no-untyped-def]
    """Marks a route whose body may have `limit` bytes: known before the token in it is looked for."""

    def mark(view):  # type: ignore[no-untyped-def]
        setattr(view, LARGE, limit)
        return view

    return mark


def _allow_large_body() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    limit = getattr(view, LARGE, None)
    if limit is not None:
        request.max_content_length = limit
