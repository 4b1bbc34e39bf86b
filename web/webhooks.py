"""Where providers post what became of emails: verified, kept, acknowledged; everything else is done by workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flask import Blueprint, Response, request

from app.errors import ConfigError, NotFound, Unavailable, Unverified
from app.flows import take_webhook
from app.flows.take_webhook import LARGEST
from web.context import runtime
from web.csrf import takes_up_to

blueprint = Blueprint("webhooks", __name__)
AGAIN = {"Retry-After": "5"}
# What a provider must be told where it does not understand the usual: whatever else Mailgun is refused with, it comes
# again for eight hours; Brevo never comes again after a 5xx.
REFUSAL_STATUS: Final[Mapping[str, int]] = {"mailgun": 406}
TROUBLE_STATUS: Final[Mapping[str, int]] = {"brevo": 429}


@blueprint.get("/webhooks/<token>")
@blueprint.get("/webhooks/<token>/<provider>")
def look(token: str, provider: str = "") -> Response:
    """Some providers ask whether somebody is here before they post."""
    try:
        return _answer(200 if take_webhook.is_known(runtime(), token) else 404)
    except Unavailable:
        return _come_again(provider)


@blueprint.post("/webhooks/<token>")
@blueprint.post("/webhooks/<token>/<provider>")
@takes_up_to(LARGEST + 1)  # one that comes in chunks is cut there, and not refused by itself
def take(token: str, provider: str = "") -> Response:
    """200 once it is kept. What is wrong with another is told to the log alone.

    The address names its provider for the hour when the database, which knows it, is away.
    """
    body = request.get_data(cache=False)
    if len(body) > LARGEST:
        return _answer(413)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        take_webhook.take(runtime(), token, headers, body)
    except NotFound:
        return _answer(404)
    except Unverified as error:
        return _answer(REFUSAL_STATUS.get(error.provider, 401))
    except (Unavailable, ConfigError):
        return _come_again(provider)
    return _answer(200)


def _come_again(provider: str) -> Response:
    return _answer(TROUBLE_STATUS.get(provider, 503), AGAIN)


def _answer(status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status=status, headers=headers, content_type="text/plain")
