"""Processes that a benchmark starts and watches: the sink, workers, the clock; their memory and CPU time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from app.errors import Unavailable
from app.stack.confine import bound_to_us
from bench.harness import Server, family, peak_mb, resident_mb, slope

ROOT = Path(__file__).parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this Python's environment, told to end (SIGTERM) when the block does; it writes into `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*bound_to_us("TERM"), sys.executable, "-m", *command],
            cwd=ROOT,
            env=dict(os.environ) | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def web_process(
    house: Server, variables: Mapping[str, str], application: str = "web:create_app()", workers: int = 1
) -> Iterator[tuple[int, int]]:
    """A web process as the Procfile starts it, with so many workers, once it answers: its port, and its pid."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = ["gunicorn", application, "--worker-class", "gthread", "--threads", "16", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", str(workers)]
    log = house.folder / "web.log"
    with started([*command, "--log-level", "warning"], {**variables, "PORT": str(port)}, log) as process:
        until = time.monotonic() + 60
        while not _answers(port):
            if time.monotonic() > until:
                raise Unavailable(f"The web process did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield port, process.pid


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).is_success
    except httpx.TransportError:
        return False


class Sink:
    """A running `millrace sink`."""

    def __init__(self, address: str, pid: int) -> None:
        self.address = address
        self.pid = pid

    @property
    def provider_url(self) -> str:
        return f"sink+{self.address}"

    def stats(self) -> dict[str, Any]:
        """Its counts: accepted, distinct, duplicates, …; of its webhooks by themselves in `webhooks`."""
        found: dict[str, Any] = httpx.get(f"{self.address}/stats", timeout=10).raise_for_status().json()
        return found

    def behave(self, **changes: float | str) -> None:
        """Changes how it answers from now on."""
        httpx.post(f"{self.address}/settings", json=changes, timeout=10).raise_for_status()

    def reset(self) -> None:
        """Forgets all counts."""
        httpx.post(f"{self.address}/reset", json={}, timeout=10).raise_for_status()


@contextmanager
def sink(house: Server, latency: float, *options: str, name: str = "sink") -> Iterator[Sink]:
    """The sink as a process of its own on a free port, answering after `latency` seconds; `options` of its command."""
    log = house.folder / f"{name}.log"
    with started(["cli.sink", "--port", "0", "--latency", str(latency), *options], {}, log) as process:
        yield Sink(_listening(process, log), process.pid)


def _listening(process: subprocess.Popen[bytes], log: Path) -> str:
    mark = "listens on "
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        said = log.read_text()
        if mark in said and said.endswith("\n"):
            return said.split(mark, 1)[1].split()[0]
        time.sleep(0.05)
    raise Unavailable(f"The sink did not start: {log.read_text()[-500:]}")


def postgres_pid(house: Server) -> int:
    """The server's first process, parent of all its backends."""
    return int((house.folder / "postgres" / "postmaster.pid").read_text().split()[0])


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants, those that have ended included (proc(5), fields 14 to 17)."""
    return sum(_cpu_ticks(each) for each in family(pid)) / TICKS


def _cpu_ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, stat.rsplit(")", 1)[1].split()[11:15]))


class Memory:
    """Watches a family's largest process while a block runs: `.peak_mb` and `.flatness`."""

    def __init__(self, pid: int, every: float = 0.5) -> None:
        self.pid = pid
        self.every = every
        self.peak_mb = 0.0
        self.points: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def flatness(self) -> dict[str, float]:
        """How memory grew in the second half of the time, in MB a minute; nothing after less than half a minute."""
        late = self.points[len(self.points) // 2 :]
        return {"rss_slope_mb_per_minute": slope(late)} if self.points and self.points[-1][0] > 0.5 else {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(self.every):
            pids = family(self.pid)
            self.peak_mb = max([self.peak_mb, *map(peak_mb, pids)])
            self.points.append(((time.monotonic() - began) / 60, max(map(resident_mb, pids), default=0.0)))
