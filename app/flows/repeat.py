"""Making a lost call again: whole, with the same bytes, under its first key, while the provider honours that key.

It was written down before it was first made, so that nothing has to be put together anew. Whatever the first call came
to, the provider answers for it now, and nobody is mailed twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs, Unavailable
from app.flows import finish, resolve
from app.flows.answers import Answer, plain, read, wait_for
from app.flows.frozen import Frozen, account_of, thaw
from app.flows.one_by_one import do_each
from app.flows.send_range import begin, composer_of, noting_halving
from app.flows.settle import patiently
from app.mail import Batch, Deferred, Outcome, Unsure
from app.models import campaign, handoff, pool
from app.models.campaign import Sending
from app.models.handoff import HandOff, Repeat
from app.models.outbox import PageLead
from app.runtime import Runtime
from app.uptime import uptime

log = logging.getLogger(__name__)

# Seconds until the next try, by how many there were; the last one goes on while the key lives.
WAITS: Final = (5.0, 15.0, 60.0, 300.0)
AT_ONCE: Final = 8  # calls made at a time: one that hangs must not hold up all others for its deadline
# Seconds in which calls that were under way when their campaign was cancelled are still finished, as a living worker
# finishes its own; after that nobody is mailed for it any more.
CANCELLED_FOR: Final = 300.0


def repeat_due(runtime: Runtime) -> int:
    """Make every lost call again that is due, a few at a time; how many."""
    made = 0
    while not runtime.stopping.is_set():
        begun = uptime()
        calls = _claim(runtime)
        if not calls:
            break
        made += len(calls)
        under_way = [(call, _try_to_begin(runtime, call, begun + runtime.settings.lease / 3)) for call in calls]
        do_each(under_way, lambda each: _settle(runtime, each[0], each[1]()), "repeating hand-off")
        campaigns = {call.campaign_id for call in calls}
        do_each(campaigns, lambda each: finish.try_finish(runtime, each) is not None, "finishing campaign")
    return made


def _claim(runtime: Runtime) -> list[Repeat]:
    """A few due calls. Of a pool that was found down one alone, which tries whether it is back."""
    calls: list[Repeat] = []
    with runtime.db.begin() as conn:
        while len(calls) < AT_ONCE:
            with conn.begin_nested() as step:
                call = handoff.claim_repeat(conn, runtime.settings.lease)
                if call is None:
                    break
                if call.probe and call.lives > 0 and not pool.begin_probe(conn, call.pool_id, runtime.settings.lease):
                    step.rollback()  # another process tries this pool
                    break
                calls.append(call)
    return calls


Answered = Sequence[Outcome] | ProviderError | str  # a string says why the call was not made, and never will be


def _try_to_begin(runtime: Runtime, call: Repeat, latest: float) -> Callable[[], Answered]:
    """Begin a call; one that cannot be put together, as where its pool's secret cannot be read here, stops no other."""
    try:
        return _begin(runtime, call, latest)
    except Unavailable:
        raise
    except Exception as error:
        log.exception("hand-off %s cannot be made again", call.id)
        said = f"It could not be put together here ({type(error).__name__})."
        trouble = ProviderDown(said, retry_in=WAITS[-1], passing=True)
        return lambda: trouble


def _begin(runtime: Runtime, call: Repeat, latest: float) -> Callable[[], Answered]:
    """Begin a call on another thread, not after `latest` (seconds of `uptime`); what is given waits for its answer."""
    if dead := _key_is_dead(call, runtime.settings.lease):
        return lambda: dead
    with runtime.db.begin() as conn:
        sending = campaign.load_sending(conn, call.campaign_id, call.pool_id, call.variant)
    frozen = thaw(call.frozen)
    fault = _fault(sending, frozen, call)
    if fault is not None:
        return lambda: fault
    provider = runtime.provider(sending.pool_url, sending.pool_id)
    batch = noting_halving(runtime, _batch(runtime, sending, frozen, call), call.tries)
    return begin(runtime, provider, batch, latest)


def _fault(sending: Sending, frozen: Frozen, call: Repeat) -> str | None:
    """Why a call must not be made again; None where it may."""
    if call.campaign_state == "cancelled" and call.age > CANCELLED_FOR:
        return "The campaign was cancelled."
    if account_of(sending.pool_url) != frozen.account:
        return "Its pool speaks with another account now, which does not know the call's key."
    if sending.version != frozen.version:
        return "The content has changed since the call was made."
    return None


def _key_is_dead(call: Repeat, lease: float) -> str | None:
    if not call.frozen:
        return "It was refused whole, and whoever sent its parts did not come back."
    if call.lives < lease:  # a repeat under way must end before the key does
        return f"The call's key is no longer honoured: it is {call.age:,.0f} seconds old."
    return None


def _batch(runtime: Runtime, sending: Sending, frozen: Frozen, call: Repeat) -> Batch:
    batch = composer_of(runtime, sending).batch(call.id, call.key, call.run, frozen.letters)
    return replace(batch, from_name=frozen.from_name, from_address=frozen.from_address, reply_to=frozen.reply_to)


def _settle(runtime: Runtime, call: Repeat, answer: Answered) -> int:
    """What the same call came to this time. While it is not certain, it is made again later. One call was settled."""

    def write(conn: Connection) -> None:
        if isinstance(answer, str):
            handoff.give_up_repeating(conn, call, answer)
            if _tries_pool(call):
                pool.end_probe(conn, call.pool_id)
        elif isinstance(answer, ProviderError):
            said = plain(f"Made again {call.tries} times; the last time: {answer} {answer.raw}".strip(), 2000)
            again = handoff.repeat_later(conn, call, _next(call, answer), said)
            if not again and isinstance(answer, ProviderDown | ProviderRefusesUs):
                # refused whole, and then each of its parts, or none of these left: nobody was mailed
                resolve_with(conn, call, [Deferred(str(answer), 0.0)] * len(call.lead_ids))
            _tell_pool(conn, call, answer)
        else:
            resolve_with(conn, call, answer)
            if _tries_pool(call):  # nobody else may close its breaker: another call may have opened it since
                pool.revive(conn, call.pool_id)

    patiently(runtime, write)  # one whose parts have left is never made again: what came of it must not be lost
    return 1


def _tries_pool(call: Repeat) -> bool:
    """Whether this call, and no page or other call, tries a pool that was found down."""
    return call.probe and call.lives > 0


def resolve_with(conn: Connection, call: Repeat, outcomes: Sequence[Outcome]) -> int:
    """Give a call's leads the outcomes of its repeat; how many are known now.

    A provider that is sure of some letters only may have taken them in parts, under other keys: the whole is not made
    again then. Nothing is to be done where all are known.
    """
    tally = read([Answer(HandOff(call.id, call.key, call.lead_ids), outcomes)], _strangers(call), 0, 0.0)
    resolved = resolve.resolve(conn, resolve.verdicts_of(tally), tries=call.tries)
    log.info("hand-off %s was made again: %s of %s leads are known", call.id, resolved, len(call.lead_ids))
    unsure = next((each.reason for each in outcomes if isinstance(each, Unsure)), "The provider was not sure again.")
    handoff.give_up_repeating(conn, call, plain(unsure, 2000))
    return resolved


def _next(call: Repeat, error: ProviderError | None = None) -> float:
    if isinstance(error, ProviderDown):
        return wait_for(error)
    return WAITS[min(call.tries, len(WAITS)) - 1]


def _tell_pool(conn: Connection, call: Repeat, error: ProviderError) -> None:
    """A repeat is lost where the provider is not well: its pool waits, and with it the other calls that it lost."""
    said = plain(str(error), 500)
    match error:
        case ProviderDown(passing=True):
            if _tries_pool(call):
                pool.end_probe(conn, call.pool_id)
        case ProviderDown():
            named = None if error.retry_in is None else wait_for(error)
            pool.break_off(conn, call.pool_id, said, named, probe=call.probe)
        case ProviderRefusesUs():
            pool.pause(conn, call.pool_id, said)
        case _:
            pool.break_off(conn, call.pool_id, said, None, probe=call.probe)


def _strangers(call: Repeat) -> list[PageLead]:
    """The leads as answers are read with; their domains are looked up where events are written."""
    return [PageLead(lead_id, "", 0, None, {}, None) for lead_id in call.lead_ids]
