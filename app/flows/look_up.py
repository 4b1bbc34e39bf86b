"""Asking a provider afterwards what became of a call whose answer was lost, where it can be asked.

What it says is evidence, like a webhook. What it does not say proves nothing: it may be late to know.
"""

from __future__ import annotations

import logging
from typing import Final

from app.errors import ProviderError, Unavailable
from app.flows import finish, resolve
from app.flows.resolve import Evidence
from app.models import handoff
from app.models.handoff import Question
from app.runtime import Runtime

log = logging.getLogger(__name__)

# (age of the call, seconds until it is asked about again): nothing is asked of one that is older than the last.
WAITS: Final = ((120.0, 30.0), (1200.0, 300.0), (7200.0, 1800.0), (86400.0, 7200.0))


def look_up_due(runtime: Runtime) -> int:
    """Ask about every call that is due; how many leads are known now."""
    known = 0
    while not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            question = handoff.claim_look_up(conn, runtime.settings.lease)
        if question is None:
            break
        known += _try_to_ask(runtime, question)
    return known


def _try_to_ask(runtime: Runtime, question: Question) -> int:
    """Ask about a call. One that cannot be asked about, as where its pool's secret cannot be read, stops no other."""
    try:
        return _ask(runtime, question)
    except Unavailable:
        raise
    except Exception:
        log.exception("hand-off %s cannot be asked about", question.id)
        with runtime.db.begin() as conn:
            handoff.look_up_later(conn, question.id, _wait(question.age))
        return 0


def _ask(runtime: Runtime, question: Question) -> int:
    provider = runtime.provider(question.pool_url, question.pool_id)
    if not provider.capabilities.lookup:
        with runtime.db.begin() as conn:
            handoff.look_up_later(conn, question.id, None)
        return 0
    try:
        told = provider.look_up(question.id, question.key, question.lead_ids)
    except ProviderError as error:
        log.info("nothing could be learnt about hand-off %s: %s", question.id, error)
        told = {}
    with runtime.db.begin() as conn:
        evidence = [Evidence(question.id, lead_id, kind) for lead_id, kind in told.items()]
        known = resolve.use_evidence(conn, question.pool_id, evidence)
        handoff.look_up_later(conn, question.id, _wait(question.age))
    if known:
        finish.try_finish(runtime, question.campaign_id)
    return known


def _wait(age: float) -> float | None:
    return next((seconds for until, seconds in WAITS if age < until), None)
