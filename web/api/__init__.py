"""The API: the door for programs. Each noun has its file; the door is one for all of them."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from web.api import door
from web.api.nouns import ROUTES
from web.api.openapi import document
from web.csrf import takes_up_to

blueprint: Final = Blueprint("api", __name__, url_prefix=door.ROOT)
blueprint.after_request(door.add_headers)
for _route in ROUTES:
    _view = takes_up_to(_route.largest)(door.open_door(_route))
    blueprint.add_url_rule(_route.path, _route.name, _view, methods=[_route.method])


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """What the API is, for programs that make clients and for people who read such documents."""
    return Response(document(), content_type="application/json")
