"""The clock: does what is due by itself, and rings for the rest. Any number of them may run, and one works.

Every task may be repeated and may run twice at once: locks and conditional updates in PostgreSQL decide. A task that
fails is logged and tried again at its next turn; the others go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.errors import MillraceError
from app.flows import (
    alerts,
    answer_once,
    beat,
    choose_winner,
    due,
    finish,
    ingest,
    keep_messages,
    launch,
    pools,
    range_messages,
    receivers,
    refresh,
    rescue,
    returns,
    schedule,
    shape,
    stand,
    steer,
    tell_endpoints,
    unknowns,
)
from app.runtime import Runtime
from workers.turn import Turn

log = logging.getLogger(__name__)

STAND_BY: Final = 0.5  # seconds until a clock that does not work looks whether it is to
LAST_WAIT: Final = 20.0  # seconds that a clock which must end waits for what it does aside, all together


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do every so many seconds. `aside`: in a thread of its own, for what speaks with strangers, and for
    what takes longer the more there is of it: ranges whose worker died must not wait until millions are compared.
    `everywhere`: every clock does it, not only the one that works."""

    every: float
    act: Callable[[Runtime], object]
    aside: bool = False
    everywhere: bool = False


TASKS: Final = (
    Task(1.0, launch.start_due, aside=True),
    Task(2.0, schedule.keep_time, aside=True),
    Task(1.0, range_messages.cut_due, aside=True),
    Task(2.0, due.ring_due),
    Task(2.0, ingest.ring_waiting),
    Task(5.0, rescue.rescue_expired),
    Task(5.0, choose_winner.choose_due, aside=True),
    Task(86_400.0, refresh.mend, aside=True),  # when it begins to work, too
    Task(5.0, refresh.refresh),
    Task(5.0, steer.close_cancelled, aside=True),
    Task(5.0, alerts.deliver, aside=True),
    Task(5.0, returns.read_due, aside=True),
    Task(10.0, finish.finish_due, aside=True),
    Task(10.0, shape.end_due),
    Task(30.0, unknowns.apply_policies, aside=True),
    Task(60.0, stand.judge_senders, aside=True),
    Task(10.0, refresh.summarise, aside=True),
    Task(10.0, beat.beat_clock, everywhere=True),
    Task(60.0, pools.tell_accounts, aside=True),
    Task(10.0, receivers.look_up_receivers, aside=True),
    Task(3600.0, receivers.tidy, aside=True),
    Task(3600.0, ingest.tidy, aside=True),
    Task(10.0, keep_messages.compare, aside=True),
    Task(3600.0, keep_messages.tidy, aside=True),
    Task(300.0, tell_endpoints.tidy, aside=True),
    Task(600.0, answer_once.tidy, aside=True),
)
# What runs at once waits for no connection of another.
CONNECTIONS: Final = 2 + returns.AT_ONCE + sum(task.aside for task in TASKS)


def run(runtime: Runtime, tasks: tuple[Task, ...] = TASKS) -> None:
    """Run the tasks until the process is told to stop; all of them while this clock is the one that works."""
    due_at = dict.fromkeys(range(len(tasks)), 0.0)
    asides: dict[int, threading.Thread] = {}
    with Turn(runtime) as turn:
        while not runtime.stopping.is_set():
            for number, task in enumerate(tasks):
                if due_at[number] <= time.monotonic():
                    again_in = task.every
                    if not (turn.held or task.everywhere):
                        again_in = STAND_BY
                    elif task.aside:
                        _begin_aside(runtime, task, number, asides)
                    else:
                        _act(runtime, task)
                    due_at[number] = time.monotonic() + again_in
            runtime.stopping.wait(max(0.0, min(due_at.values()) - time.monotonic()))
    until = time.monotonic() + LAST_WAIT
    for thread in asides.values():
        thread.join(timeout=max(0.0, until - time.monotonic()))


def _begin_aside(runtime: Runtime, task: Task, number: int, asides: dict[int, threading.Thread]) -> None:
    """Nothing, where it is still at it since an earlier turn."""
    if number not in asides or not asides[number].is_alive():
        asides[number] = threading.Thread(target=_act, args=(runtime, task), name=task.act.__name__, daemon=True)
        asides[number].start()


def _act(runtime: Runtime, task: Task) -> None:
    try:
        task.act(runtime)
    except MillraceError as error:
        log.warning("%s: %s", task.act.__name__, error)
    except Exception:  # one task's trouble must not stop the others
        log.exception("%s failed", task.act.__name__)
