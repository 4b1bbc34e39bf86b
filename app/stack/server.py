"""What PostgreSQL and Valkey have in common here: a child process, its log, and how it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.errors import Unavailable


def await_end(pid_file: Path, folder: Path, *, seconds: float = 30.0) -> None:
    """Waits for a server that was told to stop just now (its parent died) and still works in `folder`.

    Raises Unavailable when it does not end; two servers must never share a folder.
    """
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    deadline = time.monotonic() + seconds
    while _works_in(pid, folder):
        if time.monotonic() > deadline:
            raise Unavailable(f"A server (process {pid}) still runs in {folder} and does not end: stop it first.")
        time.sleep(0.02)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve()
    except OSError:  # it ended, or the number now belongs to somebody else
        return False


class Child:
    """One server process. `stop_signal` asks it to finish cleanly."""

    def __init__(self, name: str, log: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(
        self,
        command: Sequence[str],
        ready: Callable[[], bool],
        *,
        seconds: float,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Runs `command` until `ready` answers True; raises Unavailable, with the log's end, when it never does.

        `environment` is for variables that this process has not set itself.
        """
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal reaches the supervisor, which stops the servers last.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env={**(environment or {}), **os.environ},
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise Unavailable(f"The embedded {self.name} did not start: {self.last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise Unavailable(f"The embedded {self.name} was not ready after {seconds:.0f} s: {self.last_words()}")
            time.sleep(0.01)

    def stop(self, *, seconds: float, how: signal.Signals | None = None) -> None:
        """Ends it cleanly (or with the signal `how`), by force after `seconds`. One that does not run is left alone."""
        if self.process is None:
            return
        if self.running:
            self.process.send_signal(how or self.stop_signal)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process = None

    def kill(self) -> None:
        """As kill -9 does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def last_words(self) -> str:
        """The log's most telling line, and where the log is."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()[-40:] if line.strip()]
        telling = [line for line in lines if "FATAL" in line or "ERROR" in line or "error" in line.lower()]
        return f"{(telling or lines or ['it said nothing'])[-1]} (log: {self.log})"
