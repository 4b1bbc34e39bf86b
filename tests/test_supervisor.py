"""The supervisor of `millrace up`: it shows every line, starts crashed processes again, and stops all together."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import ConfigError
from cli import supervisor as supervising
from cli.supervisor import Supervisor, read_procfile

ROOT = Path(__file__).parent.parent
SLEEP = "sleep 60"
SUPERVISE = """
import os, signal, sys
from pathlib import Path
from cli.supervisor import Supervisor
both = Supervisor({"one": "sleep 60", "two": "sh -c 'trap \\"\\" INT; sleep 60 & wait'"}, os.environ, Path("."))
signal.signal(signal.SIGINT, both.ask_to_stop)
both.start()
print(*(process.popen.pid for process in both.processes), flush=True)
sys.exit(both.run())
"""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "PATIENCE", 0.5)


def test_every_line_is_shown_with_the_name_of_its_process() -> None:
    out = io.StringIO()
    said = _supervisor({"web": "sh -c 'echo hello; echo trouble >&2; sleep 60'"}, out)
    _run_until(said, lambda: "trouble" in out.getvalue())
    assert "web | hello\n" in out.getvalue()
    assert "web | trouble\n" in out.getvalue()


def test_a_process_that_ends_is_started_again(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    command = f"sh -c 'echo x >> {marks}; sleep 0.2; test $(wc -l < {marks}) -lt 2 || sleep 60'"
    said = _supervisor({"worker": command}, io.StringIO())
    assert _run_until(said, lambda: marks.exists() and marks.read_text().count("x") == 2) == 0


def test_a_process_that_cannot_start_stops_all_with_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "TRIES", 2)
    out = io.StringIO()
    hopeless = _supervisor({"web": "sh -c 'exit 3'", "clock": SLEEP}, out)
    hopeless.start()
    clock = hopeless.processes[1].popen
    assert hopeless.run() == 1
    assert clock is not None
    assert clock.poll() is not None
    assert "web ended 2 times right after its start (exit code 3): stopping all" in out.getvalue()


def test_who_is_needed_by_the_others_stops_after_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ending = f"sh -c 'trap \"sleep {{}}; echo {{}} >> {log}; exit\" TERM; echo ready; sleep 60 & wait'"
    out = io.StringIO()
    commands = {"sink": ending.format(0, "sink"), "worker": ending.format(0.3, "worker")}
    _run_until(
        Supervisor(commands, os.environ, ROOT, out, frozenset({"sink"})), lambda: out.getvalue().count("ready") == 2
    )
    assert log.read_text().split() == ["worker", "sink"]


@pytest.mark.usefixtures("patient")
def test_who_does_not_end_when_asked_is_killed_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    stubborn = f"sh -c 'trap \"\" TERM; sleep 60 & echo $! > {note}; wait; sleep 60'"
    said = _supervisor({"worker": stubborn}, io.StringIO())
    _run_until(said, lambda: note.exists() and note.read_text().endswith("\n"))
    assert _within(5, lambda: not _alive(int(note.read_text())))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_however_the_supervisor_ends_nothing_is_left(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISE], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(_alive, pids))
        process.send_signal(how)
        process.wait(10)
    assert _within(5, lambda: not any(map(_alive, pids)))


def test_the_procfile_names_every_process_but_not_the_release() -> None:
    assert set(read_procfile(ROOT / "Procfile")) == {"web", "worker", "clock"}


def test_a_missing_procfile_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Procfile cannot be read"):
        read_procfile(tmp_path / "Procfile")


def _supervisor(commands: dict[str, str], out: io.StringIO) -> Supervisor:
    return Supervisor(commands, os.environ, ROOT, out)


def _run_until(supervisor: Supervisor, happened: Callable[[], bool]) -> int:
    def ask() -> None:
        _within(10, happened)
        supervisor.ask_to_stop()

    asker = threading.Thread(target=ask)
    asker.start()
    supervisor.start()
    code = supervisor.run()
    asker.join()
    assert happened()
    return code


def _within(seconds: float, happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happened()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
