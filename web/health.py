"""For platforms: whether this process can serve."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from app.models import process
from web.context import runtime

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 while the database answers; otherwise the 503 of every page."""
    with runtime().db.begin() as conn:
        process.ping(conn)
    return jsonify({"status": "ok"})
