"""The ranger: messages whose time has come are cut into ranges of their streams, and go the way of leads from there."""

from __future__ import annotations

from app.models import message
from app.models.message import Due
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
