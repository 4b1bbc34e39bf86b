"""The ranger: messages whose time has come are cut into ranges of their streams, and go the way of leads from there.

Until a worker has its range in hand, a message can be taken out of it.
"""

from __future__ import annotations

from sqlalchemy import Connection

from app.models import alert, message, stream
from app.models.message import Due, Left, Stored
from app.runtime import Runtime


def cut_due(runtime: Runtime) -> int:
    """Cut everything that is due now, and ring; how many messages. Any number of processes may do it at once."""
    with runtime.db.each() as conn:
        due = message.find_due(conn)
    return sum(_cut(runtime, each) for each in due)


def _cut(runtime: Runtime, due: Due) -> int:
    """What is due of one shelf, up to MOST messages in a transaction."""
    slips = max(1, due.slips * message.MOST // max(due.messages, message.MOST))
    cut = 0
    for _ in range(0, due.slips, slips):
        if runtime.stopping.is_set():
            break
        with runtime.db.begin() as conn:
            taken = message.cut(conn, due.shelf, slips)
        if not taken:
            break  # others have it, or had it
        cut += taken
        runtime.ring("send", runtime.settings.worker_threads)
    return cut


def leave(conn: Connection, stored: Stored) -> Left | None:
    """Take a message out of the range that it stands in, so that nobody hands it over; None where it may have left."""
    range_id = message.find_range(conn, stored)
    left = None if range_id is None else message.leave_range(conn, range_id, stored.id)
    if left is not None and left.ends_crashed and not stream.count_quarantined(conn, stored.campaign_id):
        alert.clear(conn, alert.Kind.QUARANTINED, stored.campaign_id)
    return left
