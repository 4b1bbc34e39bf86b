"""What the commands open: settings from the environment, or from a running `millrace up`; a runtime; a bell."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.config import Settings, home, read
from app.runtime import Runtime
from workers.broker import Bell, open_broker

RUNNING = "running.json"


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment; where it names no database, what a `millrace up` of the same MILLRACE_HOME left for us."""
    running = home(environ) / RUNNING
    if environ.get("DATABASE_URL") or not running.is_file():
        return dict(environ)
    left: dict[str, str] = json.loads(running.read_text())
    return left | dict(environ)


def leave_environment(folder: Path, variables: Mapping[str, str]) -> Path:
    """Write down for other commands how to reach what is running; for the owner's eyes only, since it holds the key."""
    path = folder / RUNNING
    path.touch(mode=0o600)
    path.write_text(json.dumps(dict(variables)))
    return path


def open_runtime(settings: Settings | None = None, *, name: str = "millrace", connections: int = 4) -> Runtime:
    """A runtime that can ring. Raises ConfigError where nothing says where the servers are."""
    settings = settings or read(environment())
    runtime = Runtime(settings, name=name, connections=connections)
    runtime.use_bell(Bell(open_broker(settings.redis_url)))
    return runtime


@contextmanager
def runtime_of_command() -> Iterator[Runtime]:
    """A runtime for one command."""
    runtime = open_runtime()
    try:
        yield runtime
    finally:
        runtime.close()
