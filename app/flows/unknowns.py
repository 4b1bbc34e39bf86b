"""Unknown outcomes: what a person, or a campaign's policy, decides where no repeat and no evidence has told.

`hold` waits for evidence; `resend` sends once more, and only where silence means something because the pool's webhooks
are known to arrive; `leave` counts the lead as failed. A later webhook still resolves what was left.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sqlalchemy import Connection

from app.errors import Conflict
from app.flows import finish, resolve
from app.flows.resolve import UNKNOWN, Verdict
from app.models import alert, campaign, unknown, webhook
from app.models.handoff import AGAIN, LEFT
from app.models.unknown import Held
from app.runtime import Runtime

STEP: Final = 200  # hand-offs changed in one transaction
LEAST_HOLD: Final = 900.0  # seconds that an unknown call is left to its webhooks, at the least
BY_HAND: Final = {"reason": "whether it was sent is not known; a person left it"}
BY_POLICY: Final = {"reason": "whether it was sent is not known; left by the campaign's policy"}
STEERABLE: Final = ("sending", "paused", "settling", "finished")


def send_again(
    runtime: Runtime, organisation_id: int, campaign_id: int, handoff_ids: Sequence[int] | None = None
) -> int:
    """Send to the leads of unknown calls once more, of these or of all; how many leads. Raises Conflict, NotFound.

    Whoever got the first call's email gets a second one: the person who asks for it was told so. Calls that are made
    again under their key by themselves are passed over: they are about to be known.
    """
    with runtime.db.begin() as conn:
        _check(conn, organisation_id, campaign_id, STEERABLE)
    leads = _decide(runtime, campaign_id, handoff_ids, Verdict(AGAIN))
    runtime.ring("send", runtime.settings.worker_threads)
    return leads


def leave(runtime: Runtime, organisation_id: int, campaign_id: int, handoff_ids: Sequence[int] | None = None) -> int:
    """Count the leads of unknown calls as failed, of these or of all; how many leads. Raises Conflict, NotFound."""
    with runtime.db.begin() as conn:
        _check(conn, organisation_id, campaign_id, (*STEERABLE, "cancelled"))
    return _decide(runtime, campaign_id, handoff_ids, Verdict(LEFT, BY_HAND))


def send_failed_again(runtime: Runtime, organisation_id: int, campaign_id: int) -> int:
    """Open another run for exactly the leads that failed; how many. Raises Conflict where it is not over, NotFound."""
    with runtime.db.begin() as conn:
        _check(conn, organisation_id, campaign_id, ("settling", "finished"))
    leads, after = 0, 0
    while True:
        with runtime.db.begin() as conn:
            found = unknown.find_failed(conn, campaign_id, after, STEP)
            if not found:
                break
            leads += _give(conn, found, Verdict(AGAIN), resolve.FAILED)
            after = found[-1]
    with runtime.db.begin() as conn:
        alert.clear(conn, alert.Kind.GAVE_UP, campaign_id)
    runtime.ring("send", runtime.settings.worker_threads)
    return leads


def apply_policies(runtime: Runtime) -> int:
    """Decide on unknown calls whose hold is over, as their campaigns say; how many leads. Owners of `hold` are told."""
    decided, after = 0, 0
    while not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            held = unknown.find_held(conn, LEAST_HOLD, after)
            if not held:
                break
            after = held[-1].id
            decided += _apply(conn, held)
        for campaign_id in {each.campaign_id for each in held}:
            finish.try_finish(runtime, campaign_id)
    return decided


def _apply(conn: Connection, held: Sequence[Held]) -> int:
    holds = {pool_id: webhook.hold(conn, pool_id) for pool_id in {each.pool_id for each in held}}
    chosen: defaultdict[str, list[int]] = defaultdict(list)
    waiting: Counter[int] = Counter()
    for each in held:
        policy = _policy(each) if each.age > holds[each.pool_id] else "hold"
        chosen[policy].append(each.id)
        waiting[each.campaign_id] += policy == "hold" and each.age > holds[each.pool_id]
    decided = _give(conn, chosen["leave"], Verdict(LEFT, BY_POLICY), UNKNOWN)
    decided += _give(conn, chosen["resend"], Verdict(AGAIN), UNKNOWN)
    for campaign_id, calls in waiting.items():
        if calls:
            leads = unknown.count(conn, campaign_id).leads
            message = f"Of {leads:,} leads it is not known whether the provider took the email."
            alert.raise_alert(conn, alert.Kind.UNKNOWN, campaign_id, message)
    return decided


def _policy(each: Held) -> str:
    """What its campaign wants, where that can be had: nobody is sent to a third time, or while webhooks are silent."""
    if each.policy == "resend" and (each.resent or not each.arrive):
        return "hold"
    return each.policy


def _check(conn: Connection, organisation_id: int, campaign_id: int, states: Sequence[str]) -> None:
    state = campaign.lock(conn, organisation_id, campaign_id)["state"]
    if state not in states:
        raise Conflict(f"The campaign is {state}: this can be done once it is {' or '.join(states)}.")


def _decide(runtime: Runtime, campaign_id: int, handoff_ids: Sequence[int] | None, verdict: Verdict) -> int:
    leads = 0
    for find in _steps(campaign_id, handoff_ids):
        with runtime.db.begin() as conn:
            leads += _give(conn, find(conn), verdict, UNKNOWN)
    with runtime.db.begin() as conn:
        if not unknown.count(conn, campaign_id).calls:
            alert.clear(conn, alert.Kind.UNKNOWN, campaign_id)
    finish.try_finish(runtime, campaign_id)
    return leads


def _steps(campaign_id: int, handoff_ids: Sequence[int] | None) -> Iterator[Callable[[Connection], Sequence[int]]]:
    """Which calls to decide on, a few at a time: looked up in the transaction that changes them."""
    after = 0

    def next_ones(conn: Connection) -> Sequence[int]:
        nonlocal after
        found = unknown.find_undecided(conn, campaign_id, after, STEP)
        after = found[-1] if found else -1
        return found if handoff_ids is None else [each for each in found if each in wanted]

    wanted = frozenset(handoff_ids or ())
    while after >= 0:
        yield next_ones


def _give(conn: Connection, handoff_ids: Sequence[int], verdict: Verdict, over: str) -> int:
    """Give one verdict to every lead of these calls whose letter is one of `over`."""
    if not handoff_ids:
        return 0
    verdicts = {each.id: dict.fromkeys(each.lead_ids, verdict) for each in resolve.lock(conn, handoff_ids)}
    return resolve.resolve(conn, verdicts, over=over)
