"""Ringing for what is due: the answer to every bell that was lost."""

from __future__ import annotations

from app.models import campaign, lead_import
from app.runtime import Runtime


def ring_due(runtime: Runtime) -> bool:
    """Ring where campaigns have due ranges, or files wait to be imported; whether there was anything."""
    with runtime.db.begin() as conn:
        waiting = bool(campaign.pick(conn))
        importing = lead_import.is_waiting(conn)
    if waiting:
        runtime.ring("send", runtime.settings.worker_threads)
    if importing:
        runtime.ring("import")
    return waiting or importing
