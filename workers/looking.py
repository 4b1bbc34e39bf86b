"""Looking for due work without a bell: what keeps a worker sending while Redis is away.

A Dramatiq middleware starts one small thread a queue in every worker process; it also tells the process to stop, and
beats in the `process` table.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from dramatiq import Broker, Worker
from dramatiq.middleware import Middleware

from app.errors import MillraceError
from app.flows import beat, import_leads, ingest, look_up, repeat, send_range, steer, tell_endpoints, track
from app.runtime import Runtime

log = logging.getLogger(__name__)

Look = Callable[[Runtime], object]

LOOKS: tuple[Look, ...] = (
    send_range.drain,
    repeat.repeat_due,
    look_up.look_up_due,
    import_leads.run_waiting,
    ingest.read_waiting,
    track.read_hits,
    tell_endpoints.tell_due,
    steer.close_cancelled,
    beat.beat_worker,
    send_range.drain_messages,
)
# Seconds between two looks of those that do not wait for the others' turn: who asks for a message waits for it.
SOON: Final[Mapping[Look, float]] = {send_range.drain_messages: 0.5}


class Looking(Middleware):
    """Starts the looking threads with the worker and ends them with it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.threads: list[threading.Thread] = []

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        for look in LOOKS:
            thread = threading.Thread(target=keep_looking, args=(self.runtime, look), name="look", daemon=True)
            thread.start()
            self.threads.append(thread)

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Pages in flight are finished, no new one is claimed."""
        self.runtime.stopping.set()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        for thread in self.threads:
            thread.join(timeout=25)
        self.runtime.close()


def keep_looking(runtime: Runtime, look: Look) -> None:
    """Look every few seconds until the process stops; trouble is logged and outlived."""
    every = min(runtime.settings.look_every, SOON.get(look, runtime.settings.look_every))
    while not runtime.stopping.wait(every):
        try:
            look(runtime)
        except MillraceError as error:
            log.warning("%s", error)
        except Exception:  # the thread is what is left when Redis is gone: it must not die
            log.exception("looking for work failed")
