"""Beating: every process says that it lives, so that `millrace doctor` and the pages can tell who does."""

from __future__ import annotations

import os
import socket

from app.models import process
from app.models.process import Process
from app.runtime import Runtime


def beat(runtime: Runtime, kind: str) -> None:
    """Write this process's beat; rows of processes long gone are dropped on the way."""
    with runtime.db.begin() as conn:
        process.beat(conn, runtime.id, kind, socket.gethostname(), os.getpid())


def beat_worker(runtime: Runtime) -> None:
    """A worker's beat."""
    beat(runtime, "worker")


def beat_clock(runtime: Runtime) -> None:
    """A clock's beat."""
    beat(runtime, "clock")


def alive(runtime: Runtime, kind: str) -> list[Process]:
    """The processes of a kind that were seen within the last half minute."""
    with runtime.db.begin() as conn:
        return process.alive(conn, kind)
