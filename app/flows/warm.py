"""Beginning and ending warm-ups, in effect with the commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from app.models import pool, warm_up
from app.runtime import Runtime


def set_warm_up(
    runtime: Runtime,
    organisation_id: int,
    starts_on: date,
    curve: Sequence[int],
    *,
    pool_id: int | None = None,
    domain: str | None = None,
) -> None:
    """Let a pool, or a domain that is sent from, grow along a curve. Raises NotFound; Invalid naming "curve"."""
    with runtime.db.session() as session:
        conn = session.connection()
        if pool_id is not None:
            pool.get(session, organisation_id, pool_id)
            warm_up.set_of_pool(conn, organisation_id, pool_id, starts_on, curve)
        elif domain is not None:
            warm_up.set_of_domain(conn, organisation_id, domain, starts_on, curve)
    runtime.ring("send")


def end_warm_up(
    runtime: Runtime, organisation_id: int, *, pool_id: int | None = None, domain: str | None = None
) -> None:
    """Nothing holds the pool, or the domain, back any more."""
    with runtime.db.begin() as conn:
        if pool_id is not None:
            warm_up.drop_of_pool(conn, organisation_id, pool_id)
        elif domain is not None:
            warm_up.drop_of_domain(conn, organisation_id, domain)
    runtime.ring("send", runtime.settings.worker_threads)
