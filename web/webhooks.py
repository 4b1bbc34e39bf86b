"""Where providers post what became of emails: verified, kept, acknowledged; everything else is done by workers."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app.errors import ConfigError, NotFound, Unavailable, Unverified
from app.flows import take_webhook
from app.flows.take_webhook import LARGEST
from web.context import runtime
from web.csrf import takes_up_to

blueprint = Blueprint("webhooks", __name__)
AGAIN = {"Retry-After": "5"}


@blueprint.get("/webhooks/<token>")
def look(token: str) -> Response:
    """Some providers ask whether somebody is here before they post."""
    try:
        return _answer(200 if take_webhook.is_known(runtime(), token) else 404)
    except Unavailable:
        return _answer(503)


@blueprint.post("/webhooks/<token>")
@takes_up_to(LARGEST + 1)  # one that comes in chunks is cut there, and not refused by itself
def take(token: str) -> Response:
    """200 once it is kept. What is wrong with another is told to the log alone; a 503 makes a provider come again."""
    body = request.get_data(cache=False)
    if len(body) > LARGEST:
        return _answer(413)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        take_webhook.take(runtime(), token, headers, body)
    except NotFound:
        return _answer(404)
    except Unverified:
        return _answer(401)
    except (Unavailable, ConfigError):
        return _answer(503)
    return _answer(200)


def _answer(status: int) -> Response:
    return Response(status=status, headers=AGAIN if status == 503 else None, content_type="text/plain")
