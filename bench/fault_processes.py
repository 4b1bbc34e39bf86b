"""Millrace's processes as a platform runs them: started from the Procfile, killed, frozen, drained, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import Unavailable
from app.stack.confine import bound_to_us
from bench.harness import family
from bench.process import ROOT
from cli.supervisor import read_procfile, with_our_programs

GRACE = 30.0  # seconds that a platform waits after SIGTERM before it kills (Heroku's)
TRIES = 5  # starts in a row that ended at once, after which something is wrong


@dataclass(slots=True)
class Process:
    """One process of the Procfile and all its descendants; they are one process group."""

    name: str
    command: str
    popen: subprocess.Popen[bytes]
    started_at: float
    draining_since: float | None = None
    frozen: bool = False
    ended_at_once: int = 0


@dataclass(slots=True)
class Processes:
    """web, clock and so many workers. Call it from the main thread: they end with the thread that starts them."""

    environment: Mapping[str, str]
    folder: Path
    workers: int
    running: dict[str, Process] = field(default_factory=dict)
    drains: list[float] = field(default_factory=list)  # seconds from SIGTERM to the end
    too_slow: int = 0  # processes that were killed because they did not end in time

    def start(self) -> None:
        commands = read_procfile(ROOT / "Procfile")
        names = {"web": "web", "clock": "clock"} | {f"worker{number}": "worker" for number in range(self.workers)}
        for name, line in names.items():
            self.running[name] = self._start(name, commands[line])

    def pids(self, name: str) -> list[int]:
        """The numbers of all its processes."""
        return family(self.running[name].popen.pid)

    def kill(self, name: str, *, whole: bool) -> None:
        """kill -9: of all its processes at once, or of the innermost alone, as for want of memory; up again at once."""
        process = self.running[name]
        if whole:
            _signal(process, signal.SIGKILL)
            process.popen.wait()
            self.look_after()
        else:
            _kill_one(family(process.popen.pid)[1:2])

    def freeze(self, name: str) -> Process | None:
        """SIGSTOP to all its processes; what to thaw, None for one that is frozen or asked to end already."""
        process = self.running[name]
        if process.frozen or process.draining_since is not None:
            return None
        process.frozen = True
        _signal(process, signal.SIGSTOP)
        return process

    def thaw(self, process: Process) -> None:
        """SIGCONT; nothing happens where it was killed meanwhile."""
        process.frozen = False
        if process.popen.poll() is None:
            _signal(process, signal.SIGCONT)

    def drain(self, name: str, *, whole: bool) -> bool:
        """SIGTERM, to the first process (Docker) or to all of them (Heroku); started again when it has ended.

        False for one that is frozen, and would only hear it afterwards, or was asked already.
        """
        process = self.running[name]
        if process.frozen or process.draining_since is not None:
            return False
        process.draining_since = time.monotonic()
        if whole:
            _signal(process, signal.SIGTERM)
        else:
            process.popen.send_signal(signal.SIGTERM)
        return True

    def look_after(self) -> None:
        """Starts again who has ended; kills who was asked to end and has not within the grace."""
        for name, process in list(self.running.items()):
            since = process.draining_since
            if process.popen.poll() is None:
                if since is not None and time.monotonic() - since > GRACE:
                    self.too_slow += 1
                    _signal(process, signal.SIGKILL)
                    process.popen.wait()
                else:
                    continue
            if since is not None:
                self.drains.append(time.monotonic() - since)
            _signal(process, signal.SIGKILL)  # what it has left behind
            again = self._start(name, process.command)
            # One that ends right after its start, though nobody has killed it, is broken.
            at_once = process.popen.returncode > 0 and time.monotonic() - process.started_at < 3
            again.ended_at_once = process.ended_at_once + 1 if at_once else 0
            self.running[name] = again
            if again.ended_at_once >= TRIES:
                raise Unavailable(f"{name} does not start; see {self._log(name)}: {self._last_words(name)}")

    def stop(self) -> None:
        """All of them, cleanly; by force after the grace."""
        for process in self.running.values():
            _signal(process, signal.SIGCONT)
            process.popen.send_signal(signal.SIGTERM)
        until = time.monotonic() + GRACE
        for process in self.running.values():
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, until - time.monotonic()))
            _signal(process, signal.SIGKILL)
            process.popen.wait()

    def _start(self, name: str, command: str) -> Process:
        with self._log(name).open("ab") as log:
            popen = subprocess.Popen(
                [*bound_to_us("TERM"), "sh", "-c", f"exec {command}"],
                cwd=ROOT,
                env=with_our_programs(dict(os.environ) | dict(self.environment)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Process(name, command, popen, time.monotonic())

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _last_words(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")[-500:]


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.popen.pid, number)


def _kill_one(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
