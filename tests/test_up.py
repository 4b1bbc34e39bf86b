"""`millrace up` as an operator meets it: one command starts everything, one key stops it, nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import copy_cluster, prepared

ROOT = Path(__file__).parent.parent
SECONDS = 60.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    copy_cluster(prepared("apache"), folder)
    return folder


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        chosen: int = probe.getsockname()[1]
        return chosen


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_it_says_where_to_look_and_however_it_ends_nothing_is_left(how: signal.Signals, home: Path, port: int) -> None:
    with _up(home, port) as process:
        login = _line(process, r"log in as (\S+)")
        _line(process, r"Ctrl-C stops everything")
        assert login[1] == "admin@example.com"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            assert b"<html" in page.read()
        process.send_signal(how)
        code = process.wait(40)
    assert code == (0 if how == signal.SIGINT else -signal.SIGKILL)
    assert _within(30, lambda: not _processes_of(home)), _processes_of(home)


def test_a_second_start_keeps_the_data(home: Path, port: int) -> None:
    for login in (r"log in as \S+ with the password \S+", r"log in as \S+; the first password is in "):
        with _up(home, port) as process:
            _line(process, login)
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0


def test_a_taken_port_is_said_in_a_sentence(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert _said(home, PORT=str(port)) == (
            1,
            f"Error: Port {port} is taken by another program: choose another, like PORT={port + 1}.\n",
        )


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PORT": "http"}, "PORT must be a number"),
        ({"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}, "Mend DATABASE_URL"),
        ({"DATABASE_URL": "mysql://x/y", "REDIS_URL": "redis://127.0.0.1:1/0"}, "must begin with postgres"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "Mend REDIS_URL"),
        ({"MILLRACE_HOME": "/proc/1/nothing"}, "set MILLRACE_HOME to one that can"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(
    variables: dict[str, str], sentence: str, home: Path, port: int
) -> None:
    code, said = _said(home, **{"PORT": str(port), **variables})
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said


def _environment(home: Path, **variables: str) -> dict[str, str]:
    ours = {"MILLRACE_HOME": str(home), **variables}
    return {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")} | ours


def _said(home: Path, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "up"],
        cwd=ROOT,
        env=_environment(home, **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    return done.returncode, done.stderr


@contextmanager
def _up(home: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "up", "--no-demo"],
        cwd=ROOT,
        env=_environment(home, PORT=str(port)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The first line that says it; fails with all that was said."""
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError("".join(said))


def _processes_of(home: Path) -> list[str]:
    """The command lines of what still runs with this home folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(home) in command or f"MILLRACE_HOME={home}".encode() in (folder / "environ").read_bytes():
                found.append(f"{folder.name} {command}")
        except OSError:
            continue
    return [line for line in found if line.split(" ", 1)[1]]  # a zombie has no command line


def _within(seconds: float, happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.05)
    return happened()
