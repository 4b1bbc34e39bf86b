"""Unknown outcomes: what a person, or a campaign's policy, decides where no repeat and no evidence has told.

`hold` waits for evidence; `resend` sends once more, and only where silence means something: the pool's webhooks are
known to arrive, and did so all the while from the call on. `leave` counts the lead as failed. A later webhook still
resolves what was left.

Each step locks its campaign first, then ranges, then hand-offs, like all that steers a campaign: what its state allows
stays so until the commit. A worker or a repeat that finds leads put off takes its range first and the campaign last.
Where the two meet PostgreSQL ends one of them: a settle and a person's step are tried again at once, a repeat once its
lease has run out, a policy's step at the clock's next turn.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from app.errors import ConfigError, Conflict
from app.flows import finish, resolve
from app.flows.one_by_one import do_each
from app.flows.resolve import UNKNOWN, Verdict
from app.models import alert, campaign, unknown, webhook
from app.models.handoff import AGAIN, LEFT
from app.models.unknown import Held
from app.runtime import Runtime

STEP: Final = 200  # hand-offs changed in one transaction
TRIES: Final = 5  # of a person's step that PostgreSQL ends
LEAST_HOLD: Final = 900.0  # seconds that an unknown call is left to its webhooks, at the least
BY_HAND: Final = {"reason": "whether it was sent is not known; a person left it"}
BY_POLICY: Final = {"reason": "whether it was sent is not known; left by the campaign's policy"}
VERDICTS: Final = {"leave": Verdict(LEFT, BY_POLICY), "resend": Verdict(AGAIN)}
STEERABLE: Final = ("sending", "paused", "settling", "finished")
OVER: Final = ("settling", "finished")
Given = TypeVar("Given")


def send_again(
    runtime: Runtime, organisation_id: int, campaign_id: int, handoff_ids: Sequence[int] | None = None
) -> int:
    """Send to the leads of unknown calls once more, of these or of all; how many leads. Raises Conflict, NotFound.

    Whoever got the first call's email gets a second one: the person who asks for it was told so. Calls that are made
    again under their key by themselves are passed over: they are about to be known.
    """
    leads = _decide(runtime, organisation_id, campaign_id, handoff_ids, Verdict(AGAIN), STEERABLE)
    runtime.ring("send", runtime.settings.worker_threads)
    return leads


def leave(runtime: Runtime, organisation_id: int, campaign_id: int, handoff_ids: Sequence[int] | None = None) -> int:
    """Count the leads of unknown calls as failed, of these or of all; how many leads. Raises Conflict, NotFound."""
    states = (*STEERABLE, "cancelled")
    return _decide(runtime, organisation_id, campaign_id, handoff_ids, Verdict(LEFT, BY_HAND), states)


def send_failed_again(runtime: Runtime, organisation_id: int, campaign_id: int) -> int:
    """Open another run for exactly the leads that failed; how many. Raises Conflict where it is not over, NotFound."""
    leads, after = 0, 0
    states: Sequence[str] = OVER

    def step(conn: Connection) -> tuple[Sequence[int], int]:
        _check(conn, organisation_id, campaign_id, states)
        found = unknown.find_failed(conn, campaign_id, after, STEP)
        return found, _give(conn, dict.fromkeys(found, Verdict(AGAIN)), resolve.FAILED)

    more = True
    while more:
        found, given = _insist(runtime, step)
        more = len(found) == STEP
        leads, after, states = leads + given, max(found, default=0), STEERABLE  # the first step has opened it again
    with runtime.db.begin() as conn:
        alert.clear(conn, alert.Kind.GAVE_UP, campaign_id)
    runtime.ring("send", runtime.settings.worker_threads)
    return leads


def find_asked(runtime: Runtime, campaign_id: int) -> set[int]:
    """The pools of a campaign's unknown calls whose providers can be asked afterwards what became of them."""
    with runtime.db.begin() as conn:
        pools = unknown.find_pools(conn, campaign_id)
    asked = set()
    for each in pools:
        with suppress(ConfigError):  # a pool's URL was encrypted under another key: nobody asks there
            if runtime.provider(each.url, each.id).capabilities.lookup:
                asked.add(each.id)
    return asked


def apply_policies(runtime: Runtime) -> int:
    """Decide on unknown calls whose hold is over, as their campaigns say; how many leads. Owners of `hold` are told.

    Where all was decided and told before, a turn only looks; a cancelled campaign is looked at for another day.
    """
    decided, last = 0, (0, 0)
    while not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            held = unknown.find_held(conn, LEAST_HOLD, last)
            firsts = _find_ripe(conn, held)
        if not held:
            break
        last = held[-1].campaign_id, held[-1].id
        decided += do_each(
            firsts.items(), lambda first: _apply(runtime, *first), "applying the policy from (campaign, call)"
        )
    return decided


def _find_ripe(conn: Connection, held: Sequence[Held]) -> dict[int, int]:
    """Campaigns in which something is to be decided or told, each with the first of its calls here."""
    calls: dict[int, list[Held]] = {}
    for each in held:
        calls.setdefault(each.campaign_id, []).append(each)
    waits = _waits(conn, held)
    return {campaign_id: each[0].id for campaign_id, each in calls.items() if any(_weigh(each, waits))}


def _apply(runtime: Runtime, campaign_id: int, first: int) -> int:
    """Decide on some calls of a campaign, from the first on; how many leads. Looked up anew, under its lock."""
    with runtime.db.begin() as conn:
        campaign.lock_state(conn, campaign_id)
        held = unknown.find_held(conn, LEAST_HOLD, (campaign_id, first - 1), campaign_id)
        verdicts, untold = _weigh(held, _waits(conn, held))
        locked = resolve.lock(conn, [*verdicts, *untold[:1]])  # of both kinds, in one order
        decided = _give(conn, verdicts, UNKNOWN)
        if any(UNKNOWN in each.letters for each in locked if each.id in untold):  # whoever resolves it clears the alert
            leads = unknown.count(conn, campaign_id).leads
            message = f"Of {leads:,} leads it is not known whether the provider took the email."
            alert.raise_alert(conn, alert.Kind.UNKNOWN, campaign_id, message)
    if decided:
        finish.try_finish(runtime, campaign_id)
    return decided


@dataclass(frozen=True, slots=True)
class Waits:
    """How long silence about a pool's calls means nothing, in seconds; of which calls it means something then."""

    holds: Mapping[int, float]
    silent: Container[int]


def _waits(conn: Connection, held: Sequence[Held]) -> Waits:
    """What can be resent is looked at once its hold is over: whether its pool was heard of all the while."""
    holds = {pool_id: webhook.hold(conn, pool_id) for pool_id in {each.pool_id for each in held}}
    resendable = [each for each in held if _may_resend(each) and each.age > holds[each.pool_id]]
    listening = {pool_id: webhook.listens(conn, pool_id) for pool_id in {each.pool_id for each in resendable}}
    return Waits(holds, unknown.find_heard(conn, {each.id: listening[each.pool_id] for each in resendable}))


def _weigh(held: Sequence[Held], waits: Waits) -> tuple[dict[int, Verdict], list[int]]:
    """What is decided on which calls, and which wait for a person without the owner having been told of them."""
    verdicts, untold = {}, []
    for each in held:
        hold = waits.holds[each.pool_id]
        policy = _policy(each, waits.silent) if each.age > hold else "wait"
        if policy in VERDICTS:
            verdicts[each.id] = VERDICTS[policy]
        elif policy == "hold" and (each.told is None or each.age - hold < each.told):
            untold.append(each.id)
    return verdicts, untold


def _policy(each: Held, silent: Container[int]) -> str:
    """What its campaign wants, where that can be had."""
    return "hold" if each.policy == "resend" and not (_may_resend(each) and each.id in silent) else each.policy


def _may_resend(each: Held) -> bool:
    """Nobody is sent to a third time, or while webhooks are silent."""
    return each.policy == "resend" and each.arrive and not each.resent


def _check(conn: Connection, organisation_id: int, campaign_id: int, states: Sequence[str]) -> None:
    state = campaign.lock(conn, organisation_id, campaign_id, streams=True)["state"]
    if state not in states:
        raise Conflict(f"The campaign is {state}: this can be done once it is {' or '.join(states)}.")


def _decide(
    runtime: Runtime,
    organisation_id: int,
    campaign_id: int,
    handoff_ids: Sequence[int] | None,
    verdict: Verdict,
    states: Sequence[str],
) -> int:
    """Give every lead of these calls, or of all, the verdict: in steps, while the campaign is in such a state."""
    leads, after = 0, 0
    wanted = None if handoff_ids is None else frozenset(handoff_ids)

    def step(conn: Connection) -> tuple[Sequence[int], int]:
        _check(conn, organisation_id, campaign_id, states)
        found = unknown.find_undecided(conn, campaign_id, after, STEP)
        chosen = [each for each in found if wanted is None or each in wanted]
        return found, _give(conn, dict.fromkeys(chosen, verdict), UNKNOWN)

    more = True
    while more:
        found, given = _insist(runtime, step)
        more = len(found) == STEP
        leads, after = leads + given, max(found, default=0)
    finish.try_finish(runtime, campaign_id)
    return leads


def _give(conn: Connection, verdicts: Mapping[int, Verdict], over: str) -> int:
    """Give every lead of these calls whose letter is one of `over` its call's verdict."""
    if not verdicts:
        return 0
    given = {each.id: dict.fromkeys(each.lead_ids, verdicts[each.id]) for each in resolve.lock(conn, verdicts)}
    return resolve.resolve(conn, given, over=over)


def _insist(runtime: Runtime, act: Callable[[Connection], Given]) -> Given:
    """Run a transaction, again where PostgreSQL ended it since it and another waited for each other."""
    for _ in range(TRIES - 1):
        try:
            with runtime.db.begin() as conn:
                return act(conn)
        except (OperationalError, psycopg.errors.DeadlockDetected) as error:
            if not isinstance(getattr(error, "orig", error), psycopg.errors.DeadlockDetected):
                raise
    with runtime.db.begin() as conn:
        return act(conn)
