"""What a process holds open, built once: pools of connections, keys, providers, and a way to ring."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import Connection

from app.buckets import Buckets
from app.config import Settings
from app.db import Database, Joined
from app.models.outbox import Lease
from app.providers import Provider, open_provider
from app.signing import ReturnTokens, Signer, TrackingTokens, Vault
from app.tickets import PoolTickets

log = logging.getLogger(__name__)

Ring = Callable[[str], None]
DEAF: Final = 2.0  # seconds in which nothing is rung once a bell could not be: who rings has somebody waiting
APART: Final = 0.1  # seconds between two bells of `ring_soon`: what came meanwhile is one range
TICK: Final = 0.01  # seconds: bells to be rung later within the same one are one


def silence(bell: str) -> None:
    """The bell of a process that has none: workers look for due work by themselves."""
    log.debug("no bell for %s", bell)


class Runtime:
    """One process's hands. `id` is what its leases are held under; `stopping` is set when it must come to an end."""

    def __init__(
        self, settings: Settings, ring: Ring = silence, *, name: str = "millrace", connections: int = 8
    ) -> None:
        self.settings = settings
        self.id: UUID = uuid4()
        self.db = Database(settings.database_url, size=connections, name=name, prepare=settings.prepare)
        reports = settings.reports_database_url
        self.reports = self.db
        if reports != settings.database_url:
            self.reports = Database(reports, size=connections, name=name, prepare=settings.prepare)
        self.signer = Signer(settings.secret_key)
        self.tracking = TrackingTokens(settings.secret_key)
        self.vault = Vault(settings.secret_key)
        self.returns = ReturnTokens(settings.secret_key)
        self.buckets = Buckets(settings.redis_url)
        self.stopping = threading.Event()
        self.kept: deque[Lease] = deque()  # ranges in hand when the database went away
        self._ring = ring
        self._deaf_until = 0.0
        self._alarms: dict[int, threading.Timer] = {}
        self._soon: set[str] = set()
        self._asked = threading.Event()
        self._ringer: threading.Thread | None = None
        self._calls: ThreadPoolExecutor | None = None
        self._providers: dict[bytes, Provider] = {}
        self._tickets: dict[int, PoolTickets] = {}
        self._lock = threading.Lock()

    def use_bell(self, ring: Ring) -> None:
        """Ring with this from now on: the process's door gives its own."""
        self._ring, self._deaf_until = ring, 0.0

    def ring(self, bell: str, times: int = 1) -> None:
        """Wake workers. Never raises: a bell carries no work, and a lost one is rung again by the clock."""
        if time.monotonic() < self._deaf_until:
            return
        try:
            for _ in range(times):
                self._ring(bell)
        except Exception as error:  # whatever the broker raises, the work stands in PostgreSQL
            self._deaf_until = time.monotonic() + DEAF
            log.warning("bell %s was not rung: %s", bell, error)

    def ring_soon(self, bell: str) -> None:
        """Wake a worker at once, or a moment after the last time: what is asked for meanwhile is one. Nobody waits."""
        with self._lock:
            self._soon.add(bell)
            if self._ringer is None:
                self._ringer = threading.Thread(target=self._ring_as_asked, name="ringer", daemon=True)
                self._ringer.start()
        self._asked.set()

    def _ring_as_asked(self) -> None:
        while self._asked.wait() and not self.stopping.is_set():
            self._asked.clear()
            with self._lock:
                bells, self._soon = self._soon, set()
            for bell in bells:
                self.ring(bell)
            self.stopping.wait(APART)

    def ring_later(self, bell: str, seconds: float) -> None:
        """Wake a worker in so many seconds, while this process lives; what is asked for at nearly the same time is one.

        Not for longer waits: the clock rings for what is due, every few seconds.
        """
        slot = math.ceil((time.monotonic() + seconds) / TICK)
        with self._lock:
            if slot in self._alarms or self.stopping.is_set():
                return
            timer = threading.Timer(slot * TICK - time.monotonic(), self._ring_now, (bell, slot))
            timer.daemon = True
            self._alarms[slot] = timer
        timer.start()

    def _ring_now(self, bell: str, slot: int) -> None:
        with self._lock:
            self._alarms.pop(slot, None)
        if not self.stopping.is_set():
            self.ring(bell)

    @property
    def calls(self) -> ThreadPoolExecutor:
        """The threads that speak with providers, shared by all pages of the process."""
        with self._lock:
            if self._calls is None:
                self._calls = ThreadPoolExecutor(self.settings.calls, thread_name_prefix="call")
            return self._calls

    def provider(self, url: bytes, pool_id: int) -> Provider:
        """The provider at a pool's encrypted URL. Raises ConfigError where another key encrypted it.

        A changed URL opens a new one; the old one is left to calls under way, and closed with the process.
        """
        with self._lock:
            known = self._providers.get(url)
            if known is None:
                known = open_provider(
                    self.vault.decrypt(url),
                    deadline=self.settings.call_deadline,
                    token=self.returns.token,
                    private=self.settings.private_providers,
                    tickets=self._tickets.setdefault(
                        pool_id, PoolTickets(self.db, pool_id, self.settings.call_deadline)
                    ),
                )
                self._providers[url] = known
            return known

    def crowded(self, conn: Connection, pool_id: int) -> list[str]:
        """Receivers ("": all others) whose emails this process leaves to those that have the pool's connections."""
        tickets = self._tickets.get(pool_id)
        return tickets.find_crowded(conn) if tickets is not None else []

    def close(self) -> None:
        self.stopping.set()
        self._asked.set()
        with self._lock:
            alarms = list(self._alarms.values())
        for alarm in alarms:
            alarm.cancel()
        self.buckets.close()
        if self._calls is not None:
            self._calls.shutdown(wait=True)
        for provider in self._providers.values():
            provider.close()
        if self.reports is not self.db:
            self.reports.close()
        self.db.close()


class Inside(Runtime):
    """A runtime whose transactions are parts of the one that is open on `conn`: what is done in it is done together.

    Its bells ring after the commit, by `ring_kept`: before it nobody sees the work that they ring for.
    """

    def __init__(self, outside: Runtime, conn: Connection) -> None:
        self.__dict__.update(outside.__dict__)
        self.db = Joined(conn)
        self._outside = outside
        self._rung: list[tuple[Callable[[str], None], str]] = []

    def ring(self, bell: str, times: int = 1) -> None:
        self._rung += [(self._outside.ring, bell)] * times

    def ring_soon(self, bell: str) -> None:
        self._rung.append((self._outside.ring_soon, bell))

    def ring_later(self, bell: str, seconds: float) -> None:
        self._outside.ring_later(bell, seconds)

    def ring_kept(self) -> None:
        """Ring what was rung for meanwhile."""
        for ring, bell in self._rung:
            ring(bell)

    @property
    def calls(self) -> ThreadPoolExecutor:
        return self._outside.calls

    def close(self) -> None:
        """Whoever opened the runtime outside closes it."""
