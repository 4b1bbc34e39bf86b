"""The ranger: messages whose time has come are cut into ranges of their streams, and go the way of leads from there."""

from __future__ import annotations

from app.models import message
from app.runtime import Runtime


def cut_due(runtime: Runtime) -> int:
    """Cut everything that is due now, and ring; how many messages. Any number of processes may do it at once."""
    cut, done = 0, False
    while not done and not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            due = message.find_due(conn)
            if not due.slips:
                break
            slips = max(1, due.slips * message.MOST // max(due.messages, message.MOST))
            taken = message.cut(conn, slips)
        cut += taken
        done = slips >= due.slips or not taken
        if taken:
            runtime.ring("send", runtime.settings.worker_threads)
    return cut
