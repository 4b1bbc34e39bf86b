"""Refreshing: what the clock does so that reports stay fast, and that old events go.

Nothing here decides what a report says: on the Apache edition a touched bucket is summed live until it is rolled up, on
Community TimescaleDB's own policies do the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from app.db import is_locked
from app.models import event, rollup
from app.runtime import Runtime

BUCKETS = 100  # rolled up in one transaction; at 8,000 events a second one bucket takes about a second
TURN = 4.0  # seconds; the clock has other things to do

# Webhooks touch the same hours and days again and again: they are rolled up at most every so many seconds.
HOURS_WAIT = 300.0
DAYS_WAIT = 1800.0
MENDED = 9  # days that are looked at: no event is taken that is older


def refresh(runtime: Runtime, *, hours_wait: float = HOURS_WAIT, days_wait: float = DAYS_WAIT) -> int:
    """Roll up what was touched, then let go of what is too old. Any number of processes may call it at once.

    Gives the number of buckets rolled up; 0 on Community. Stops after a few seconds; the next call goes on.
    """
    with runtime.db.begin() as conn:
        apache = rollup.edition(conn) == "apache"
    rolled_up = _roll_up(runtime, hours_wait, days_wait) if apache else 0
    retire(runtime)
    return rolled_up


def mend(runtime: Runtime) -> int:
    """Roll up again what a clock of the version before left without its sums by user; how many buckets.

    Between a migration and the new processes it works on, and knows nothing of them. Nothing on Community.
    """
    with runtime.db.begin() as conn:
        return rollup.touch_unequal(conn, MENDED) if rollup.edition(conn) == "apache" else 0


def retire(runtime: Runtime) -> bool:
    """Drop events older than is kept, or have the policies do it; True when it was time for it, once an hour."""
    with runtime.db.begin() as conn:
        apache = rollup.edition(conn) == "apache"
        if apache and not (rollup.take_turn(conn) and rollup.is_rolled_up(conn)):
            return False
        if not rollup.retire(conn):
            return False
        if apache:
            rollup.drop_chunks(conn)
        else:
            rollup.move_policies(conn)
    return True


def summarise(runtime: Runtime) -> int:
    """Keep lists of leads quick while campaigns send: summarise what was just appended. 0 where it is not our turn."""
    try:
        with runtime.db.begin() as conn:
            return event.summarise_sent(conn)
    except OperationalError as error:
        if not is_locked(error):
            raise
        return 0


def _roll_up(runtime: Runtime, hours_wait: float, days_wait: float) -> int:
    until = time.monotonic() + TURN
    levels: tuple[Callable[[Connection, int], int], ...] = (
        rollup.roll_up_5min,
        partial(rollup.roll_up_hours, wait=hours_wait),
        partial(rollup.roll_up_days, wait=days_wait),
    )
    total = 0
    for roll_up in levels:
        done = BUCKETS
        while done == BUCKETS and time.monotonic() < until:
            done = _one(runtime, roll_up)
            total += done
    return total


def _one(runtime: Runtime, roll_up: Callable[[Connection, int], int]) -> int:
    with runtime.db.begin() as conn:
        return roll_up(conn, BUCKETS) if rollup.take_turn(conn) else 0
