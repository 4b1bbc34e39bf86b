"""Keeping messages right, and not for ever: each family of ranges is held against the record once, and dropped later.

A fact that is missing from the record is written again from its hand-off. A message that nobody served is queued again.
One that was sent twice cannot be mended, and is alarmed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from app.db import is_locked
from app.errors import Invalid
from app.flows import reconcile
from app.message_ids import to_public
from app.models import alert, message_ledger, outbox, rollup
from app.models.message_ledger import Family, Retention
from app.runtime import Runtime

log = logging.getLogger(__name__)

AGE: Final = 120.0  # seconds that a range is left alone after it was due
LOOK: Final = 2_000  # families in one go
MOST: Final = 50_000  # messages that are compared in one transaction
DROPPED: Final = 500  # families in one transaction
KEYS: Final = 10_000
LEAST_DAYS, MOST_DAYS = 10, 400


def compare(runtime: Runtime, *, age: float = AGE) -> int:
    """Hold what is over against the record, and mend what can be mended; how many families were compared."""
    with runtime.db.begin() as conn:
        over = message_ledger.find_over(conn, age, LOOK)
    for batch in _batches(over):
        if runtime.stopping.is_set():
            break
        with runtime.db.begin() as conn:
            _compare(runtime, conn, batch)
    return len(over)


def tidy(runtime: Runtime) -> int:
    """Drop what is older than is kept; how many ranges, days of messages, keys and shelves together."""
    with runtime.db.begin() as conn:
        retention = message_ledger.find_retention(conn)
    total, dropped = 0, 1
    while dropped and not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            dropped = message_ledger.drop_families(conn, retention.days, DROPPED)
        total += dropped
    dropped = KEYS
    while dropped == KEYS and not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            dropped = message_ledger.drop_keys(conn, retention.key_days, KEYS)
        total += dropped
    with runtime.db.begin() as conn:
        total += message_ledger.drop_messages(conn, retention.days)
    return total + _drop_shelves(runtime)


def _drop_shelves(runtime: Runtime) -> int:
    """Drop shelves of what waits that are over and empty: each look for what is due opens all that were not dropped."""
    with runtime.db.begin() as conn:
        over = message_ledger.find_shelves_over(conn)
    dropped = 0
    try:
        for shelf in over:
            if runtime.stopping.is_set():
                break
            with runtime.db.begin() as conn:
                dropped += message_ledger.drop_shelf(conn, shelf)
    except OperationalError as error:
        if not is_locked(error):
            raise
        log.info("shelves are dropped later: somebody is at them")
    return dropped


def read_retention(runtime: Runtime) -> Retention:
    """How long is kept."""
    with runtime.db.begin() as conn:
        return message_ledger.find_retention(conn)


def keep_for(runtime: Runtime, days: int) -> None:
    """Keep messages for so many days once they are over. Raises Invalid ("days")."""
    if not LEAST_DAYS <= days <= MOST_DAYS:
        raise Invalid.one("days", f"Messages are kept for {LEAST_DAYS} to {MOST_DAYS} days.")
    with runtime.db.begin() as conn:
        message_ledger.keep_for(conn, days)


def _batches(over: Sequence[Family]) -> list[list[Family]]:
    """Families of one stream each, not too many messages at a time."""
    batches: list[list[Family]] = []
    for _, families in groupby(over, key=lambda each: each.campaign_id):
        room = 0
        for each in families:
            if room < each.size:
                batches.append([])
                room = MOST
            batches[-1].append(each)
            room -= each.size
    return batches


def _compare(runtime: Runtime, conn: Connection, families: Sequence[Family]) -> None:
    outbox.lock(conn, [each.range_id for each in families])
    record = message_ledger.sum_record(conn, families)
    horizon = rollup.horizon(conn)
    agreed = []
    for each in families:
        right = each.adds_up and each.sums == record[each.range_id]
        if right or each.due_at < horizon or _mend(runtime, conn, each):
            agreed.append(each.range_id)
    message_ledger.note_agreed(conn, agreed)


def _mend(runtime: Runtime, conn: Connection, family: Family) -> bool:
    """Make the record say what the calls say; False where some of it goes on, and is compared again later."""
    lost, doubled, written = [], [], 0
    differences = message_ledger.find_differences(conn, family)
    if any(each.open for each in differences):
        return False  # somebody, or a late answer, sent some of it again since the family was found
    for each in differences:
        if len(each.letters) > 1:
            doubled.append(each.lead_id)
        elif each.letters:
            written += reconcile.write_again(conn, each)
        elif not each.kinds:
            lost.append(each.lead_id)
    log.warning("range %s was mended: %s written, %s lost, %s doubled", family.range_id, written, lost, doubled)
    if doubled:
        some = ", ".join(to_public(each) for each in doubled[:5])
        said = f"{len(doubled):,} messages have more than one outcome in provider calls: {some}."
        alert.raise_alert(conn, alert.Kind.DOUBLED, family.campaign_id, said)
    if lost:
        outbox.put_off(conn, family.range_id, lost, seconds=0.0)
        runtime.ring("send")
    return not lost
