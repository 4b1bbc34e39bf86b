"""Many clocks, of which one works: taken over within seconds, never shared, and no session lock anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

from sqlalchemy import text

from app.config import Settings
from app.models import clock_lease
from app.runtime import Runtime
from tests.test_workers import eventually, house
from workers import clock
from workers.turn import LEASE, Turn

__all__ = ["house"]

CLOCK = """
import os
from app.config import read
from app.runtime import Runtime
from workers import clock
tick = clock.Task(0.1, lambda runtime: print("tick", flush=True))
clock.run(Runtime(read(os.environ), name="clock", connections=4), (tick,))
"""


def test_of_two_that_take_the_lease_at_once_one_has_it(runtime: Runtime) -> None:
    def hold(owner: object) -> int | None:
        with runtime.db.begin() as conn:
            return clock_lease.hold(conn, owner, 5.0)  # type: ignore[arg-type]

    with ThreadPoolExecutor(8) as threads:
        fences = list(threads.map(hold, [uuid4() for _ in range(8)]))
    assert sorted(fence for fence in fences if fence) == [1]


def test_a_lease_is_another_s_once_it_has_run_out_and_its_number_grows(runtime: Runtime) -> None:
    first, second = uuid4(), uuid4()
    with runtime.db.begin() as conn:
        assert clock_lease.hold(conn, first, 5.0) == 1
        assert clock_lease.hold(conn, first, 5.0) == 1
        assert clock_lease.hold(conn, second, 5.0) is None
        assert clock_lease.find_owner(conn) == first
        conn.execute(text("UPDATE clock_lease SET until = now() - interval '1 second'"))
        assert clock_lease.find_owner(conn) is None
        assert clock_lease.hold(conn, second, 5.0) == 2
        assert clock_lease.hold(conn, first, 5.0) is None
        clock_lease.let_go(conn, first)  # not its any more
        assert clock_lease.find_owner(conn) == second
        clock_lease.let_go(conn, second)
    with runtime.db.begin() as conn:
        assert clock_lease.hold(conn, first, 5.0) == 3


def test_a_lease_that_cannot_be_renewed_is_not_held_for_longer(runtime: Runtime, monkeypatch: object) -> None:
    with Turn(runtime) as turn:
        assert turn.held
        turn._ended.set()  # it does not renew any more, as a process that is stopped
        turn._thread.join()
        began = time.monotonic()
        assert eventually(lambda: not turn.held, LEASE + 2)
        assert time.monotonic() - began <= LEASE + 0.2  # as often as it is looked


@contextmanager
def ticking(house: Settings, ticks: list[float]) -> Iterator[Runtime]:
    """A clock in a thread, that notes when it acts."""
    runtime = Runtime(house, connections=4)
    tasks = (clock.Task(0.1, lambda runtime: ticks.append(time.monotonic())),)
    thread = threading.Thread(target=clock.run, args=(runtime, tasks))
    thread.start()
    try:
        yield runtime
    finally:
        runtime.stopping.set()
        thread.join(10)
        runtime.close()


def test_one_of_two_clocks_works_and_a_stop_hands_over_at_once(house: Settings) -> None:
    first: list[float] = []
    second: list[float] = []
    with ticking(house, second) as other:
        assert eventually(lambda: len(second) > 3)
        with ticking(house, first) as one:
            time.sleep(1.0)
            assert not first
            other.stopping.set()
            began = time.monotonic()
            assert eventually(lambda: bool(first), 4)
            assert time.monotonic() - began < 3  # not the whole lease
            assert not one.stopping.is_set()


def test_a_clock_that_was_killed_is_replaced_within_seconds(house: Settings, runtime: Runtime) -> None:
    environment = os.environ | {
        "DATABASE_URL": house.database_url,
        "REDIS_URL": house.redis_url,
        "SECRET_KEY": house.secret_key,
        "BASE_URL": house.base_url,
    }
    working = subprocess.Popen([sys.executable, "-c", CLOCK], env=environment, stdout=subprocess.PIPE, text=True)
    assert working.stdout is not None
    try:
        assert working.stdout.readline() == "tick\n"
        mine: list[float] = []
        with ticking(house, mine):
            time.sleep(0.5)
            assert not mine
            working.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            assert eventually(lambda: bool(mine), LEASE + 5)
            assert mine[0] - killed < LEASE + 2
    finally:
        working.kill()
        working.wait()
        working.stdout.close()
