"""Making a lost call again: whole, with the same bytes, under its first key, while the provider honours that key.

It was written down before it was first made, so that nothing has to be put together anew. Whatever the first call came
to, the provider answers for it now, and nobody is mailed twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs
from app.flows import finish, resolve
from app.flows.answers import Answer, Tally, plain, read, wait_for
from app.flows.frozen import Frozen, account_of, thaw
from app.flows.resolve import Verdict
from app.flows.send_range import composer_of, speak
from app.mail import Batch, Kind, Outcome
from app.models import campaign, handoff, pool
from app.models.campaign import Sending
from app.models.handoff import LETTERS, HandOff, Repeat
from app.models.outbox import PageLead
from app.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds until the next try, by how many there were; the last one goes on while the key lives.
WAITS: Final = (5.0, 15.0, 60.0, 300.0)
MARGIN: Final = 60.0  # seconds before the key's end from which it is not relied upon: clocks differ


def repeat_due(runtime: Runtime) -> int:
    """Make every lost call again that is due; how many."""
    made = 0
    while not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            claimed = handoff.claim_repeat(conn, runtime.settings.lease)
        if claimed is None:
            break
        made += 1
        _repeat(runtime, claimed)
    return made


def _repeat(runtime: Runtime, call: Repeat) -> None:
    begun = time.monotonic()
    with runtime.db.begin() as conn:
        sending = campaign.load_sending(conn, call.campaign_id)
    frozen = thaw(call.frozen)
    fault = _fault(runtime, sending, frozen, call)
    if fault is not None:
        with runtime.db.begin() as conn:
            handoff.give_up_repeating(conn, call.id, fault)
        return
    provider = runtime.provider(sending.pool_url)
    answer = speak(provider, _batch(runtime, sending, frozen, call), begun + runtime.settings.lease / 3)
    with runtime.db.begin() as conn:
        _settle(conn, sending, call, answer)
    finish.try_finish(runtime, call.campaign_id)


def _fault(runtime: Runtime, sending: Sending, frozen: Frozen, call: Repeat) -> str | None:
    """Why a call must not be made again; None where it may."""
    if sending.pool_id != call.pool_id or account_of(sending.pool_url) != frozen.account:
        return "Its pool speaks with another account now, which does not know the call's key."
    if sending.version != frozen.version:
        return "The content has changed since the call was made."
    lives = runtime.provider(sending.pool_url).capabilities.idempotent_for - MARGIN
    if call.age + runtime.settings.lease > lives:
        return f"The call's key is no longer honoured: it is {call.age:,.0f} seconds old."
    return None


def _batch(runtime: Runtime, sending: Sending, frozen: Frozen, call: Repeat) -> Batch:
    batch = composer_of(runtime, sending).batch(call.id, call.key, call.run, frozen.letters)
    return replace(batch, from_name=frozen.from_name, from_address=frozen.from_address, reply_to=frozen.reply_to)


def _settle(conn: Connection, sending: Sending, call: Repeat, answer: Sequence[Outcome] | ProviderError) -> None:
    """What the same call came to this time. While it is not certain, it is made again later."""
    if isinstance(answer, ProviderError):
        said = plain(f"Made again {call.repeats} times; the last time: {answer} {answer.raw}".strip(), 2000)
        handoff.repeat_later(conn, call.id, _next(call, answer), said)
        _tell_pool(conn, call.pool_id, answer)
        return
    pool.revive(conn, call.pool_id)
    tally = read([Answer(HandOff(call.id, call.key, call.lead_ids), answer)], _strangers(call), 0, 0.0)
    resolved = resolve.resolve(conn, {call.id: _verdicts(call, tally)}, repeated=True)
    log.info("hand-off %s was made again: %s of %s leads are known", call.id, resolved, len(call.lead_ids))
    handoff.repeat_later(conn, call.id, WAITS[min(call.repeats, len(WAITS)) - 1], "The provider was not sure again.")


def _next(call: Repeat, error: ProviderError) -> float:
    if isinstance(error, ProviderDown):
        return wait_for(error)
    return WAITS[min(call.repeats, len(WAITS)) - 1]


def _tell_pool(conn: Connection, pool_id: int, error: ProviderError) -> None:
    match error:
        case ProviderDown(retry_in=retry_in, passing=False):
            pool.break_off(conn, pool_id, plain(str(error), 500), retry_in, probe=True)
        case ProviderRefusesUs():
            pool.pause(conn, pool_id, plain(str(error), 500))


def _strangers(call: Repeat) -> list[PageLead]:
    """The leads as answers are read with; their domains are looked up where events are written."""
    return [PageLead(lead_id, "", 0, None, {}, None) for lead_id in call.lead_ids]


def _verdicts(call: Repeat, tally: Tally) -> dict[int, Verdict]:
    later = {lead_id: wait for wait, lead_ids in tally.later.items() for lead_id in lead_ids}
    details = {fact.lead_id: fact.detail for fact in tally.facts}
    letters = zip(call.lead_ids, tally.settled[0].letters, strict=True)
    return {
        lead_id: Verdict(letter, details.get(lead_id), later.get(lead_id))
        for lead_id, letter in letters
        if letter != LETTERS[Kind.UNKNOWN]
    }
