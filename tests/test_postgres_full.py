"""PostgreSQL that has no room: a full disk, no connection left. What cannot be written down first is not sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import psycopg
import pytest

from app.config import Settings
from app.errors import Unavailable
from app.flows import launch, rescue, send_range
from app.mail import Accepted
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.sending_world import hand_over, launched, lose_the_lease, settle_with, sums
from tests.test_sending import state

# What the server says when a write finds no room, raised where a real one would be.
FULL = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$
"""


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100, lease=3.0, call_deadline=0.9))
    yield runtime
    runtime.close()


@contextmanager
def full(url: str, table: str) -> Iterator[None]:
    """No row can be added to a table."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(FULL)
        conn.execute(f"CREATE TRIGGER no_room BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION no_room()")
        try:
            yield
        finally:
            conn.execute(f"DROP TRIGGER no_room ON {table}")


def test_without_room_for_the_intention_no_call_is_made(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300)
    with full(runtime.settings.database_url, "handoff"):
        for _ in range(2):
            with pytest.raises(Unavailable):
                send_range.drain(runtime)
        assert peer.sink.book.stats()["calls"] == 0
        assert sums(runtime, built.campaign_id) == {"open": 300}
    rescued, until = 0, time.monotonic() + 20
    while rescued < 2 and time.monotonic() < until:
        rescued += rescue.rescue_expired(runtime)
        time.sleep(0.1)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 300}
    assert peer.sink.book.stats()["duplicates"] == 0


def test_answers_wait_until_there_is_room_for_them(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=100)
    with full(runtime.settings.database_url, "event"):
        worker = threading.Thread(target=send_range.drain, args=(runtime,))
        worker.start()
        until = time.monotonic() + 20
        while peer.sink.book.stats()["accepted"] < 100 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        assert sums(runtime, built.campaign_id) == {"open": 100}
    worker.join(20)
    assert sums(runtime, built.campaign_id) == {"sent": 100}
    assert state(runtime, built.campaign_id) == "finished"
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (100, 0)


def test_a_process_that_must_end_before_there_is_room_leaves_unknowns_and_no_silence(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.flows.settle.LAST_WAIT", 0.5)
    built = launched(runtime, peer, leads=100)
    with full(runtime.settings.database_url, "event"):
        threading.Timer(1.0, runtime.stopping.set).start()
        with pytest.raises(Unavailable):
            send_range.drain(runtime)
    lose_the_lease(runtime)
    assert sums(runtime, built.campaign_id) == {"unknown": 100}


def test_answers_outlive_a_server_that_takes_no_writes_for_a_while(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50)
    page, handoffs = hand_over(runtime)
    with psycopg.connect(runtime.settings.database_url, autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')  # as after a failover
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'millrace%'"
        )

        def promote() -> None:
            with psycopg.connect(runtime.settings.database_url, autocommit=True) as again:
                again.execute("SET default_transaction_read_only = off")
                again.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = off')
                again.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name LIKE 'millrace%'"
                )

        threading.Timer(5.0, promote).start()
        settle_with(runtime, page, handoffs, [Accepted("ref")] * 50)
    assert sums(runtime, built.campaign_id) == {"sent": 50}


def test_too_many_connections_are_waited_out(settings: Settings, peer: Peer) -> None:
    with psycopg.connect(settings.database_url, autocommit=True) as admin:
        owner = admin.execute("SELECT current_user").fetchone()
        assert owner is not None
        role = f"crowded_{time.time_ns()}"
        admin.execute(f'CREATE ROLE {role} LOGIN CONNECTION LIMIT 1 IN ROLE "{owner[0]}"')
        try:
            _send_as(settings, role, peer)
        finally:
            admin.execute(f"DROP ROLE {role}")


def _send_as(settings: Settings, role: str, peer: Peer) -> None:
    crowded = replace(
        settings,
        database_url=f"{settings.database_url}&user={role}"
        if "?" in settings.database_url
        else f"{settings.database_url}?user={role}",
    )
    with closing(Runtime(settings)) as ours, closing(Runtime(crowded)) as runtime:
        runtime.db.pool.timeout = 2.0
        built = world.build(ours.db, secret_key=settings.secret_key, leads=100, provider_url=peer.url)
        launch.launch(ours, built.organisation_id, built.campaign_id)
        with psycopg.connect(crowded.database_url), pytest.raises(Unavailable):
            send_range.drain(runtime)
        assert peer.sink.book.stats()["calls"] == 0
        send_range.drain(runtime)
        assert sums(ours, built.campaign_id) == {"sent": 100}
