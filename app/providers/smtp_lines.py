"""The connections of one process to one mail server: kept and shared, each for the emails of one receiver.

Where other processes send through the same account, each open connection holds a ticket (app/providers/tickets.py).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from app.errors import ProviderDown, Unavailable
from app.providers.smtp_line import Line
from app.providers.tickets import Ticket, Tickets
from app.uptime import uptime

log = logging.getLogger(__name__)

ASK_AGAIN: Final = 0.2  # seconds between two questions whether another process has closed a connection
PATIENCE: Final = 1.0  # seconds that a call waits while this process has no connection for its receiver at all
LATER: Final = 2.0  # seconds until others may have what found none then
HELD_IDLE: Final = 5.0  # seconds that a connection is kept idle where others may want its ticket


class Lines:
    """At most `most` connections, `messages` emails over each. Threads share it; `borrow` is all that they need."""

    def __init__(
        self, connect: Callable[[float], Line], most: int, messages: int, tickets: Tickets | None = None
    ) -> None:
        self.connect = connect
        self.most = most
        self.messages = messages
        self.tickets = tickets
        self.closed = False
        self.idle: list[Line] = []  # the last used at the end
        self.made = 0  # connections that are open, or about to be
        self.in_use: Counter[str] = Counter()  # of them, by receiver: all but the idle ones
        self.refused: dict[str, float] = {}  # receiver -> when no ticket for it was to be had
        self.freed = threading.Condition()
        self.reaper: threading.Timer | None = None

    @contextmanager
    def borrow(self, receiver: str, until: float, *, fresh: bool) -> Iterator[Line]:
        """A connection for this thread alone; one that an error went through is not used again. `fresh`: a new one.

        Raises ProviderDown where none is free in time, and what connecting raises.
        """
        line = self._take(receiver, until, fresh=fresh)
        try:
            line.until = until
            yield line
        except BaseException:
            line.close()
            self._lose(line)
            raise
        line.used_at = uptime()
        if line.messages >= line.most or not self._put_back(line):
            self._leave(line)

    def close(self) -> None:
        """Hang up what is idle; what is in use is hung up when its batch is done."""
        with self.freed:
            self.closed = True
            lines = [self._grab(line) for line in list(self.idle)]
            if self.reaper is not None:
                self.reaper.cancel()
        for line in lines:
            self._leave(line)

    # -- Getting one ---------------------------------------------------------------------------------------------------

    def _take(self, receiver: str, until: float, *, fresh: bool) -> Line:
        patient = min(until, uptime() + PATIENCE)
        while True:
            line, old = self._next(receiver, until, patient)
            if old is not None:
                self._leave(old)
            if line is None:
                line = self._open(receiver, until)
            elif fresh or line.stale or not self._may_stay(line):
                self._leave(line)
                continue
            if line is not None:
                return line

    def _next(self, receiver: str, until: float, patient: float) -> tuple[Line | None, Line | None]:
        """An idle connection for this receiver; or None, and with it leave to open one, and one that must go for it."""
        with self.freed:
            while True:
                own = next((each for each in reversed(self.idle) if each.receiver == receiver), None)
                if own is not None:
                    return self._grab(own), None
                if (self.made < self.most or self.idle) and self._may_ask(receiver):
                    # An idle one of another receiver may have the very ticket that was missing.
                    crowded = self.made >= self.most or receiver in self.refused
                    old = self._grab(self.idle[0]) if crowded and self.idle else None
                    self.made += 1
                    self.in_use[receiver] += 1
                    return None, old
                ends = until if self.in_use[receiver] or self.tickets is None else patient
                left = ends - uptime()
                if left <= 0:
                    raise self._busy(receiver)
                self.freed.wait(min(left, ASK_AGAIN) if receiver in self.refused else left)

    def _may_ask(self, receiver: str) -> bool:
        """One thread at a time, and not again at once, while others have all the tickets."""
        if uptime() < self.refused.get(receiver, 0.0):
            return False
        if receiver in self.refused:
            self.refused[receiver] = uptime() + ASK_AGAIN
        return True

    def _open(self, receiver: str, until: float) -> Line | None:
        """A new connection; None where no ticket is to be had now."""
        ticket: Ticket | None = None
        line: Line | None = None
        try:
            if self.tickets is not None:
                ticket = self.tickets.take(receiver, self.most)
                if ticket is None:
                    return None
            line = self.connect(until)
            line.receiver, line.ticket, line.most = receiver, ticket, self._most(ticket)
            return line
        except Unavailable as error:
            raise ProviderDown(f"Nobody can say whether a connection is free: {error}", passing=True) from error
        finally:
            if line is None:
                self._count_out(receiver, ticket, refused=self.tickets is not None and ticket is None)
            else:
                with self.freed:
                    self.refused.pop(receiver, None)
                    self.freed.notify_all()

    def _may_stay(self, line: Line) -> bool:
        """Whether the connection's ticket is good for another batch."""
        if self.tickets is None or line.ticket is None:
            return True
        try:
            renewed = self.tickets.renew(line.ticket)
        except Unavailable as error:
            log.info("a connection is closed, since nobody can renew its ticket: %s", error)
            return False
        if renewed is None:
            return False
        line.ticket, line.most = renewed, self._most(renewed)
        return line.messages < line.most

    def _most(self, ticket: Ticket | None) -> int:
        return self.messages if ticket is None or ticket.messages is None else min(self.messages, ticket.messages)

    def _busy(self, receiver: str) -> ProviderDown:
        if self.in_use[receiver] or self.tickets is None:
            said = f"All {self.most} connections were busy; the pool may be given more (connections at once)."
            return ProviderDown(said, retry_in=1.0, passing=True)
        self.tickets.leave(receiver, self.most)
        said = "Other processes, or emails to other receivers, have all of the pool's connections."
        return ProviderDown(said, retry_in=LATER, passing=True)

    # -- Giving it back ------------------------------------------------------------------------------------------------

    def _grab(self, line: Line) -> Line:
        self.idle.remove(line)
        self.in_use[line.receiver] += 1
        return line

    def _put_back(self, line: Line) -> bool:
        with self.freed:
            if self.closed:
                return False
            self.in_use[line.receiver] -= 1
            self.idle.append(line)
            self._watch()
            self.freed.notify_all()
            return True

    def _leave(self, line: Line) -> None:
        line.leave()
        self._lose(line)

    def _lose(self, line: Line) -> None:
        self._count_out(line.receiver, line.ticket)

    def _count_out(self, receiver: str, ticket: Ticket | None, *, refused: bool = False) -> None:
        """One that was in use, or was to be opened, is no more."""
        if ticket is not None and self.tickets is not None:
            self.tickets.give_back(ticket)
        with self.freed:
            self.made -= 1
            self.in_use[receiver] -= 1
            if refused:
                self.refused[receiver] = uptime() + ASK_AGAIN
            self.freed.notify_all()

    # -- Idle ones -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Where others may want the tickets, what nobody uses is closed soon. The lock is held."""
        if self.tickets is not None and self.reaper is None and self.idle and not self.closed:
            self.reaper = threading.Timer(HELD_IDLE, self._close_idle)
            self.reaper.daemon = True
            self.reaper.start()

    def _close_idle(self) -> None:
        with self.freed:
            self.reaper = None
            before = uptime() - HELD_IDLE
            lines = [self._grab(line) for line in list(self.idle) if line.used_at <= before]
            self._watch()
        for line in lines:
            self._leave(line)
