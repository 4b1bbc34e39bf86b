"""Guessing passwords is slow: ten tries a minute for an address from one place, thirty for one place. Tests are, too.

The counts are in Redis; while it is away each web process counts for itself, and nobody is locked out or let loose.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

from flask import Flask, request
from flask_limiter import Limiter

from app.flows.login import normalise
from web.context import runtime

if TYPE_CHECKING:
    from flask.typing import RouteCallable

LIMITS = {
    # endpoint: ((limit, whose count it is), ...)
    "account.log_in_submit": (("10/minute", "by_account"), ("30/minute", "by_place")),
    "endpoints.test": (("20/minute", "by_place"),),
    "account.change_password": (("10/minute", "by_place"),),
    "pools.send_test": (("6/minute", "by_place"), ("60/hour", "by_place")),
    "pools.check": (("12/minute", "by_place"),),
}


def init_app(app: Flask) -> None:
    with app.app_context():
        redis_url = runtime().settings.redis_url
    limiter = Limiter(
        _by_place,
        app=app,
        storage_uri=redis_url,
        storage_options={"socket_connect_timeout": 1, "socket_timeout": 1},
        in_memory_fallback_enabled=True,
        key_prefix="millrace-web",
    )
    for endpoint, limits in LIMITS.items():
        for limit, whose in limits:
            view = app.view_functions[endpoint]
            limited = limiter.limit(limit, key_func=KEYS[whose], methods=["POST"])(view)
            app.view_functions[endpoint] = cast("RouteCallable", limited)


def _by_place() -> str:
    return request.remote_addr or "nowhere"


def _by_account() -> str:
    account = hashlib.sha256(normalise(request.form.get("email", "")).encode()).hexdigest()[:24]
    return f"{_by_place()} {account}"


KEYS = {"by_place": _by_place, "by_account": _by_account}
