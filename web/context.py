"""What a route asks for first: the runtime, and who is asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app
from flask_login import current_user

from app.models.user import Person

if TYPE_CHECKING:
    from app.runtime import Runtime


def runtime() -> Runtime:
    """What this process holds open."""
    return cast("Runtime", current_app.extensions["millrace"])


def me() -> Person:
    """Who is asking. Only for routes behind the login."""
    return cast(Person, current_user.person)
