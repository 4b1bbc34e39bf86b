"""Ending a worker as platforms do: all processes of a container are asked at once; pages in hand are finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.config import Settings
from app.flows import launch
from app.runtime import Runtime
from tests import world
from tests.peers import Peer

CHECKOUT = Path(__file__).parent.parent
COMMAND = ("dramatiq", "workers.main", "--processes", "1", "--threads", "2", "--worker-shutdown-timeout", "20000")
HELD = "SELECT count(*) FILTER (WHERE state = 'leased') AS held, sum(unknown) AS unknown, sum(sent) AS sent FROM outbox"


@pytest.fixture
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker, all of whose processes are one group."""
    variables = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_LOOK_EVERY": "0.2",
    }
    command = [sys.executable, "-m", *COMMAND]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=os.environ | variables, start_new_session=True)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_worker_that_is_told_twice_to_stop_finishes_its_pages(
    settings: Settings, peer: Peer, worker: subprocess.Popen[bytes]
) -> None:
    peer.behave(latency=2.0)
    runtime = Runtime(replace(settings, range_size=100))
    built = world.build(runtime.db, secret_key=settings.secret_key, leads=2000, provider_url=peer.url)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    until = time.monotonic() + 30
    while not peer.sink.book.stats()["calls"] and time.monotonic() < until:
        time.sleep(0.05)
    for _ in range(2):  # each hears of it twice: from the platform and from Dramatiq's first process
        os.killpg(worker.pid, signal.SIGTERM)
        time.sleep(0.3)
    assert worker.wait(30) == 0
    with runtime.db.begin() as conn:
        sums = world.row(conn, HELD)
    runtime.close()
    assert (sums["held"], sums["unknown"]) == (0, 0)
    assert 0 < sums["sent"] == peer.sink.book.stats()["accepted"] < 2000
