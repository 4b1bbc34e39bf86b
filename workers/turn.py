"""A clock's turn: of many clocks one works, and the others stand by.

A thread renews the lease, so that a task that takes long does not cost it. Who loses it (stopped, or cut off from the
database) may be at a task still when another begins: every task may run twice at once.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from app.errors import MillraceError
from app.models import clock_lease
from app.runtime import Runtime

log = logging.getLogger(__name__)

LEASE: Final = 5.0  # seconds: as long as nobody works after a clock was killed
RENEW: Final = 1.0


class Turn:
    """Held or not, as of the last renewal; `with` renews it until the end, and lets it go."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._until = 0.0  # monotonic seconds: counted from before the database was asked
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="turn", daemon=True)

    @property
    def held(self) -> bool:
        """Whether this clock works now."""
        return time.monotonic() < self._until

    def __enter__(self) -> Self:
        self._renew()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(timeout=LEASE)
        self._until = 0.0
        with suppress(MillraceError), self._runtime.db.begin() as conn:
            clock_lease.let_go(conn, self._runtime.id)

    def _keep(self) -> None:
        while not self._ended.wait(RENEW):
            self._renew()

    def _renew(self) -> None:
        asked, held = time.monotonic(), self.held
        try:
            with self._runtime.db.begin() as conn:
                fence = clock_lease.hold(conn, self._runtime.id, LEASE)
        except Exception as error:  # what cannot be renewed runs out; the thread must not die of it
            log.warning("the clock's lease cannot be renewed: %s", error)
            return
        self._until = asked + LEASE if fence is not None else 0.0
        if self.held and not held:
            log.info("this clock works now (the lease's owner number %s)", fence)
        elif held and not self.held:
            log.warning("another clock works now")
