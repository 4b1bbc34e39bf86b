"""Taking clicks and opens: answered from memory, at once; written down a moment later, by a thread of its own.

A reader who follows a link never waits for the database, nor is lost where it is away: what cannot be written waits
here, and beyond a bound it is dropped and counted, for the reader's way matters more than the figure.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from app.errors import MillraceError
from app.models import campaign, track
from app.models.track import HONEYPOT, PIXEL, Hit
from app.runtime import Runtime

log = logging.getLogger(__name__)

EVERY: Final = 0.2  # seconds between two writes
AT_MOST: Final = 1_000  # hits that are not waited for longer
MOST_WAITING: Final = 200_000  # hits that a process keeps while the database is away: some 40 MB
MOST_CAMPAIGNS: Final = 5_000  # whose links a process keeps
LAST_TRY: Final = 4.0  # seconds that a process which ends tries to write what is left
AHEAD: Final = 30 * 86400.0  # seconds: who was launched since then is read before anybody asks
AHEAD_EVERY: Final = 10.0
FRESH: Final = 10.0  # seconds that links are believed to be all


class Waiting(NamedTuple):
    """A hit that is not written yet; `at` is the process's monotonic time, in seconds."""

    campaign_id: int
    lead_id: int
    position: int
    at: float
    machine: str | None


class Door:
    """One process's part in tracking. Threads share it; its own begins with the first hit, after any fork."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.dropped = 0
        self._links: dict[int, Sequence[str]] = {}
        self._read_at: dict[int, float] = {}  # when, by campaign
        self._waiting: deque[Waiting] = deque()
        self._full = threading.Event()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._process = 0
        self._ahead_at = 0.0  # when links are read ahead next
        self._ahead = AHEAD

    def follow(self, token: str, number: int, machine: str | None) -> str | None:
        """Where a link leads, and that it was followed is noted; None where it is none of ours.

        "" for the link that nobody can see. Raises Unavailable where its campaign's links are not known yet and the
        database cannot be asked: they are read once.
        """
        named = self.runtime.tracking.read(token)
        if named is None:
            return None
        lead_id, campaign_id = named
        if number == 0:
            self._note(campaign_id, lead_id, HONEYPOT, machine)
            return ""
        links = self._links.get(campaign_id)
        if links is None or (number > len(links) and self._is_stale(campaign_id)):
            links = self._load(campaign_id)
        if not 0 < number <= len(links):
            return None
        self._note(campaign_id, lead_id, number, machine)
        return links[number - 1]

    def open(self, token: str, machine: str | None) -> bool:
        """Note that an email's pixel was loaded; False where it is none of ours."""
        named = self.runtime.tracking.read(token)
        if named is None:
            return False
        lead_id, campaign_id = named
        self._note(campaign_id, lead_id, PIXEL, machine)
        return True

    def drain(self, seconds: float = LAST_TRY) -> None:
        """Write what waits, for so many seconds at most: the process ends."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until and not self.runtime.stopping.is_set():
            if not self._write():
                time.sleep(EVERY)
        if self._waiting:
            log.error("%s clicks and opens were not written before the process ended", f"{len(self._waiting):,}")

    @property
    def waiting(self) -> int:
        """Hits that are not written yet."""
        return len(self._waiting)

    def _note(self, campaign_id: int, lead_id: int, position: int, machine: str | None) -> None:
        if self._process != os.getpid():
            self._begin()
        if lead_id == 0:  # who asked not to be tracked is nobody
            return
        waiting = self._waiting
        if len(waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        waiting.append(Waiting(campaign_id, lead_id, position, time.monotonic(), machine))
        if len(waiting) >= AT_MOST:
            self._full.set()

    def _begin(self) -> None:
        with self._lock:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
            threading.Thread(target=self._keep_writing, name="tracking", daemon=True).start()
            atexit.register(self.drain)

    def _keep_writing(self) -> None:
        told = 0
        while not self.runtime.stopping.is_set():
            self._full.wait(EVERY)
            self._full.clear()
            if self._waiting and not self._write():
                self.runtime.stopping.wait(1.0)
            if self.dropped > told:
                told = self.dropped
                log.error("%s clicks and opens were dropped: the database has been away for long", f"{told:,}")
            if not self.runtime.stopping.is_set():
                self._read_ahead()

    def _write(self) -> bool:
        """Write what waits now; False where the database would not, and all of it still waits."""
        with self._writing:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), 10 * AT_MOST))]
            try:
                with self.runtime.db.begin() as conn:
                    now, here = campaign.now(conn), time.monotonic()  # times are the database's, whatever ours says
                    track.keep(
                        conn,
                        (
                            Hit(
                                each.campaign_id,
                                each.lead_id,
                                each.position,
                                now - timedelta(seconds=here - each.at),
                                each.machine,
                            )
                            for each in batch
                        ),
                    )
            except Exception as error:  # the thread must not die, whatever the database says
                self._waiting.extendleft(reversed(batch))
                known = isinstance(error, MillraceError)
                log.log(logging.WARNING if known else logging.ERROR, "clicks and opens wait: %s", error)
                return False
            return True

    def _is_stale(self, campaign_id: int) -> bool:
        """Whether links may have been added since they were read; not asked again for each number without one."""
        return time.monotonic() - self._read_at.get(campaign_id, 0.0) > FRESH

    def _load(self, campaign_id: int) -> Sequence[str]:
        with self.runtime.db.begin() as conn:
            return self._remember(campaign_id, track.find_links(conn, campaign_id))

    def _remember(self, campaign_id: int, urls: Sequence[str]) -> Sequence[str]:
        """As a Location header has them: ASCII. Those of a campaign that was launched never change, a template's do: it
        may get more."""
        links = [as_header(url) for url in urls]
        with self._lock:
            while len(self._links) >= MOST_CAMPAIGNS:
                self._read_at.pop(oldest := next(iter(self._links)), None)
                self._links.pop(oldest)
            if links:
                self._links[campaign_id] = links
                self._read_at[campaign_id] = time.monotonic()
        return links

    def _read_ahead(self) -> None:
        """Links of campaigns that were launched since the last time, so that no reader waits for them."""
        if time.monotonic() < self._ahead_at:
            return
        self._ahead_at = time.monotonic() + AHEAD_EVERY
        try:
            with self.runtime.db.begin() as conn:
                found = track.find_recent_links(conn, self._ahead, MOST_CAMPAIGNS)
            for campaign_id, urls in found.items():
                if campaign_id not in self._links:
                    self._remember(campaign_id, urls)
        except Exception as error:  # as above; whoever is asked for reads its links then
            log.warning("links are not read ahead: %s", error)
            return
        self._ahead = 10 * AHEAD_EVERY


def as_header(url: str) -> str:
    """A link's address as a Location header has it: ASCII, and nothing that would end the header. Never raises."""
    try:
        parts = urlsplit(url)
        if not parts.netloc.isascii():
            name, colon, port = parts.netloc.partition(":")
            url = parts._replace(netloc=name.encode("idna").decode() + colon + port).geturl()
    except ValueError:  # it leads to no host that there is, and says so to who follows it
        pass
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~")
