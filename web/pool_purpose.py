"""What a pool is there for, and what holds it back now: its warm-up, and what receivers' replies have brought about."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, redirect, request, url_for
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response

from app.errors import Invalid
from app.flows import pools
from app.models import pool, shaping, warm_up
from app.models.pool import PURPOSES
from app.models.sender import PoolLine
from app.models.shaping import Line
from app.models.warm_up import WarmUp
from web.context import me, runtime

blueprint = Blueprint("pool_purpose", __name__)


@dataclass(frozen=True, slots=True)
class Holds:
    """A pool's warm-up, and the rules in effect and those that were."""

    warm_up: WarmUp | None
    shaping: list[Line]


@blueprint.app_context_processor
def _offer() -> dict[str, object]:
    return {"holds_of_pool": holds_of_pool, "misuse_of_pool": misuse_of_pool, "purposes": PURPOSES}


def holds_of_pool(pool_id: int) -> Holds:
    """What holds a pool back beside the limits that a person has set."""
    with runtime().db.begin() as conn:
        found = warm_up.find(conn, me().organisation_id, pool_id=pool_id)
        lines = shaping.find_lines(conn, pool_id, 10)
    return Holds(found[0] if found else None, lines)


def misuse_of_pool(found: PoolLine) -> str:
    """Who uses a pool otherwise than it says, in a sentence; "" where nobody does."""
    with runtime().db.begin() as conn:
        return pool.misuse(pool.find_users(conn, found.id), found.purpose)


@blueprint.post("/pools/<int:pool_id>/purpose")
def set_purpose(pool_id: int) -> Response:
    if not me().is_admin:
        raise Forbidden
    try:
        pools.set_purpose(runtime(), me().organisation_id, pool_id, request.form.get("purpose", ""))
        flash("What the pool is there for is saved.", "good")
    except Invalid as invalid:
        flash(invalid.faults[0].message, "bad")
    return redirect(url_for("pools.show", pool_id=pool_id))
