"""A worker cut off from the database past its lease: no connection breaks, nothing passes, and others go on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg.conninfo
import pytest

from app.config import Settings
from app.flows import launch, rescue, send_range
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.sending_world import claim, launched, query, sums
from tests.test_ending import CHECKOUT, COMMAND
from tests.test_sending import events
from tests.test_workers import eventually, is_finished, working
from tests.wire import Wire, wire
from workers import clock

LEASE = 3.0


@pytest.fixture
def line(settings: Settings) -> Iterator[Wire]:
    """The wire to PostgreSQL."""
    folder = psycopg.conninfo.conninfo_to_dict(settings.database_url)["host"]
    with wire(lambda: asyncio.open_unix_connection(Path(str(folder)) / ".s.PGSQL.5432")) as line:
        yield line


@pytest.fixture
def far(settings: Settings, line: Wire) -> Settings:
    """Settings that reach PostgreSQL by the wire."""
    known = psycopg.conninfo.conninfo_to_dict(settings.database_url)
    url = f"postgresql://{known['user']}@127.0.0.1:{line.port}/{known['dbname']}"
    return replace(near_by(settings), database_url=url, reports_database_url=url)


def near_by(settings: Settings) -> Settings:
    return replace(settings, lease=LEASE, call_deadline=0.3 * LEASE, range_size=100, look_every=0.2)


def rescued(runtime: Runtime) -> bool:
    return eventually(lambda: rescue.rescue_expired(runtime) == 1, LEASE + 5)


def test_cut_off_before_it_hands_over_it_hands_nothing_over_when_it_is_back(
    settings: Settings, far: Settings, line: Wire, peer: Peer
) -> None:
    with closing(Runtime(near_by(settings))) as near, closing(Runtime(far)) as cut_off:
        built = launched(near, peer)
        page = claim(cut_off)
        line.hold()
        worker = threading.Thread(target=send_range.send, args=(cut_off, page))
        worker.start()
        assert rescued(near)
        with near.db.begin() as conn:
            conn.exec_driver_sql("UPDATE outbox SET due_at = now()")
        again = claim(near)  # as it was: the fence alone tells the two apart
        assert (again.lease.position, again.lease.lead_ids) == (page.lease.position, page.lease.lead_ids)
        line.let_go()
        worker.join(10)
        assert not worker.is_alive()
        assert (peer.sink.book.stats()["calls"], query(near, "SELECT count(*) FROM handoff")) == (0, [(0,)])
        send_range.send(near, again)
        assert sums(near, built.campaign_id) == {"sent": 100}
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (100, 0)


def test_cut_off_amid_its_calls_it_settles_nothing_and_what_it_knows_resolves_the_unknown(
    settings: Settings, far: Settings, line: Wire, peer: Peer
) -> None:
    peer.behave(latency=0.5)
    with closing(Runtime(near_by(settings))) as near, closing(Runtime(far)) as cut_off:
        built = launched(near, peer)
        page = claim(cut_off)
        worker = threading.Thread(target=send_range.send, args=(cut_off, page))
        worker.start()
        assert eventually(lambda: peer.sink.book.stats()["calls"] > 0)
        line.hold()
        assert rescued(near)
        assert sums(near, built.campaign_id) == {"unknown": 100}
        line.let_go()
        worker.join(10)
        assert not worker.is_alive()
        assert sums(near, built.campaign_id) == {"sent": 100}
        assert events(near, built.campaign_id) == {"sent": 100, "unknown": 0}
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (100, 0)


def test_a_worker_process_that_is_cut_off_amid_a_campaign_leaves_it_to_the_others(
    settings: Settings, far: Settings, line: Wire, peer: Peer
) -> None:
    peer.behave(latency=0.4)
    variables = {
        "DATABASE_URL": far.database_url,
        "REDIS_URL": far.redis_url,
        "SECRET_KEY": far.secret_key,
        "MILLRACE_LEASE": str(LEASE),
        "MILLRACE_LOOK_EVERY": "0.2",
    }
    near = near_by(settings)
    beside = Runtime(near, connections=clock.CONNECTIONS)
    rescuer = threading.Thread(target=clock.run, args=(beside,))
    command = [sys.executable, "-m", *COMMAND]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=os.environ | variables, start_new_session=True)
    try:
        built = world.build(beside.db, secret_key=near.secret_key, leads=2000, provider_url=peer.url)
        launch.launch(beside, built.organisation_id, built.campaign_id)
        assert eventually(lambda: peer.sink.book.stats()["calls"] > 2, 30)  # only it is there
        line.hold()
        held = query(beside, "SELECT count(*) FROM outbox WHERE state = 'leased'")
        rescuer.start()
        with working(near):
            time.sleep(2.5 * LEASE)
            line.let_go()
            assert eventually(lambda: is_finished(beside, built.campaign_id), 40)
        assert held > [(0,)]
        assert sums(beside, built.campaign_id) == {"sent": 2000}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        beside.stopping.set()
        rescuer.join(20)
        beside.close()
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (2000, 0)
