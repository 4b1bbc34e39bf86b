"""Runs a Procfile's processes on this machine: their lines prefixed, crashed ones started again, all stopped together.

Every process ends with this one, even by kill -9 (PR_SET_PDEATHSIG), so they must be started from the main thread.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TextIO

from app.errors import ConfigError
from app.stack import confine

COLOURS = ("36", "33", "32", "35", "34", "31")  # ANSI foregrounds
SOON = 5.0  # seconds: who ends sooner than this after its start did not really start
TRIES = 4
PATIENCE = 25.0  # seconds from asking to killing; workers finish the page in hand
_LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(.+)$")


@dataclass(slots=True)
class Process:
    """One line of the Procfile, and what became of it."""

    name: str
    command: str
    colour: str
    popen: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0


@dataclass(slots=True)
class Supervisor:
    """`run` comes back when it was asked to stop (0) or a process could not be kept up (1)."""

    commands: Mapping[str, str]
    environment: Mapping[str, str]
    folder: Path
    out: TextIO = field(default_factory=lambda: sys.stdout)
    last: frozenset[str] = frozenset()  # these stop when the others have ended, who may still need them
    stopping: bool = False
    processes: list[Process] = field(default_factory=list)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        for place, (name, command) in enumerate(self.commands.items()):
            self.processes.append(Process(name, command, COLOURS[place % len(COLOURS)]))

    def start(self) -> None:
        """Starts every process that is not running."""
        for process in self.processes:
            if process.popen is None:
                self._start(process)

    def run(self) -> int:
        """Keeps them up until Ctrl-C or SIGTERM; give 0, or 1 when one of them could not be kept up."""
        failed = False
        while not self.stopping and not failed:
            time.sleep(0.1)
            failed = any(self._look_after(process) for process in self.processes)
        self.stop()
        return int(failed)

    def ask_to_stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """A signal handler: `run` will notice. The second time, nobody waits any longer."""
        if self.stopping:
            _signal(self.processes, signal.SIGKILL)
        self.stopping = True

    def stop(self) -> None:
        """Asks all to end, waits, kills who is left."""
        self.stopping = True
        for wave in (False, True):
            self._stop([process for process in self.processes if (process.name in self.last) == wave])

    def say(self, name: str, line: str, colour: str = "1") -> None:
        """One prefixed line; coloured on a terminal."""
        width = max(map(len, (*self.commands, "up")))
        prefix = f"{name:<{width}} |"
        if self.out.isatty():
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        with self._writing:
            try:
                self.out.write(f"{prefix} {line}\n")
                self.out.flush()
            except (BrokenPipeError, ValueError):  # who read us is gone; the processes still have work
                pass

    def _start(self, process: Process) -> None:
        process.popen = subprocess.Popen(
            [*confine.bound_to_us("TERM"), "sh", "-c", f"exec {process.command}"],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us alone: we stop them in order
        )
        process.started_at = time.monotonic()
        process.reader = threading.Thread(target=self._read, args=(process, process.popen), daemon=True)
        process.reader.start()

    def _read(self, process: Process, popen: subprocess.Popen[str]) -> None:
        assert popen.stdout is not None
        with popen.stdout as lines:
            for line in lines:
                self.say(process.name, line.rstrip("\n"), process.colour)

    def _look_after(self, process: Process) -> bool:
        """Starts an ended process again, later each time; True when it is hopeless."""
        now = time.monotonic()
        if process.popen is None:
            if now >= process.start_at:
                self._start(process)
            return False
        code = process.popen.poll()
        if code is None:
            return False
        process.failures = process.failures + 1 if now - process.started_at < SOON else 1
        process.popen = None
        if process.failures >= TRIES:
            self.say("up", f"{process.name} ended {TRIES} times right after its start ({_ending(code)}): stopping all")
            return True
        process.start_at = now + 2 ** (process.failures - 1)
        self.say("up", f"{process.name} ended ({_ending(code)}); starting it again")
        return False

    def _stop(self, processes: list[Process]) -> None:
        _signal(processes, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        for process in processes:
            if process.popen is not None:
                try:
                    process.popen.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self.say("up", f"{process.name} did not end within {PATIENCE:.0f} s: killed")
        _signal(processes, signal.SIGKILL)
        for process in processes:
            if process.popen is not None:
                process.popen.wait()
            if process.reader is not None:
                process.reader.join(timeout=1)


def read_procfile(path: Path) -> dict[str, str]:
    """The commands by name, without `release`. Raises ConfigError."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    found = {match[1]: match[2] for match in map(_LINE.match, lines) if match}
    found.pop("release", None)
    return found


def with_our_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which `python`, `gunicorn` and `dramatiq` are the ones beside this Python."""
    beside = str(Path(sys.executable).parent)
    return {**environment, "PATH": f"{beside}:{environment.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1"}


def quoted(parts: Iterable[str]) -> str:
    """A command line for the shell."""
    return shlex.join(parts)


def _signal(processes: Iterable[Process], number: signal.Signals) -> None:
    """Asks a process, which asks its own; kills a whole group."""
    for process in processes:
        if process.popen is not None:
            try:
                if number == signal.SIGKILL:
                    os.killpg(process.popen.pid, number)
                else:
                    process.popen.send_signal(number)
            except ProcessLookupError:
                pass


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
