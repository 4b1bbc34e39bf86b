"""Choosing the winner of a test: by its figures when its wait is over, or by a person before; then the rest goes.

It is one transaction, in which the winner is noted and the rest gets its content: a clock that is killed has done all
of it or nothing, and of two that choose at once the second finds it done.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from app.errors import Conflict, Invalid
from app.flows import schedule
from app.flows.one_by_one import do_each
from app.models import campaign, variant
from app.models.variant import LETTERS, Standing, Tally, Verdict
from app.runtime import Runtime

log = logging.getLogger(__name__)


def choose_due(runtime: Runtime) -> int:
    """Choose for every test whose wait is over; how many."""
    with runtime.db.begin() as conn:
        variant.note_sent(conn)
    with runtime.db.begin() as conn:
        due = variant.find_due(conn)
    chosen = do_each(due, lambda campaign_id: _choose_by_figures(runtime, campaign_id), "choosing for campaign")
    if chosen:
        runtime.ring("send", runtime.settings.worker_threads)
    return chosen


def choose(runtime: Runtime, organisation_id: int, user_id: int | None, campaign_id: int, winner: int) -> None:
    """Send this variant to the rest now, at a person's word; `user_id` None: an operator's.

    Raises NotFound; Invalid naming "variant"; Conflict where a winner was chosen already, or nobody waits for one.
    """
    with runtime.db.begin() as conn:
        state = campaign.lock(conn, organisation_id, campaign_id)["state"]
        test = variant.find(conn, campaign_id)
        if test is None or not test.has_rest:
            raise Conflict("Nobody waits for a winner: this campaign has no test, or all of its leads are in it.")
        if test.winner is not None:
            raise Conflict(f"Variant {LETTERS[test.winner]} was chosen already.")
        if state not in ("sending", "paused"):
            raise Conflict(f"The campaign is {state}: nobody waits for a winner.")
        if not 0 <= winner < test.variants:
            raise Invalid.one("variant", "There is no such variant.")
        _give(conn, test, winner, variant.tally(conn, campaign_id), by_hand=True, user_id=user_id)
    runtime.ring("send", runtime.settings.worker_threads)


def judge(test: Standing, tallies: list[Tally]) -> Verdict:
    """Who wins by these figures, of the test's own leads."""
    shares = {number: each.share(test.goal) for number, each in variant.tested(tallies, test.variants).items()}
    return variant.judge(shares)


def _choose_by_figures(runtime: Runtime, campaign_id: int) -> bool:
    with runtime.db.begin() as conn:
        if campaign.lock_state(conn, campaign_id).state != "sending":
            return False  # paused or cancelled since we looked
        test = variant.find(conn, campaign_id)
        if test is None or test.winner is not None:
            return False
        tallies = variant.tally(conn, campaign_id)
        return _give(conn, test, judge(test, tallies).winner, tallies)


def _give(
    conn: Connection,
    test: Standing,
    winner: int,
    tallies: list[Tally],
    *,
    by_hand: bool = False,
    user_id: int | None = None,
) -> bool:
    """The rest is due now; where the campaign keeps to a schedule, when that says."""
    given = variant.choose(conn, test.campaign_id, winner, tallies, by_hand=by_hand, user_id=user_id)
    if given:
        schedule.respread(conn, test.campaign_id, f"variant {LETTERS[winner]} was chosen")
        log.info("campaign %s: the rest gets variant %s", test.campaign_id, LETTERS[winner])
    return given
