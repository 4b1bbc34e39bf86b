"""Serialisation failures by PostgreSQL itself (40001): a database whose transactions are stricter than ours ask for."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.flows import finish, launch, rescue, send_range
from app.mail import Accepted
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.sending_world import hand_over, launched, query, settle_with, sums
from tests.test_sending import events, state
from tests.test_workers import eventually
from workers.looking import keep_looking

WORKERS = 3
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture(params=["repeatable read", "serializable"])
def strict(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The database gives every transaction this isolation, as an operator may have set it."""
    with psycopg.connect(settings.database_url, autocommit=True) as admin:
        chosen = f"SET default_transaction_isolation = '{request.param}'"
        admin.execute(f'ALTER DATABASE "{admin.info.dbname}" {chosen}')
    return replace(settings, range_size=50, look_every=0.1, lease=6.0, call_deadline=1.8)


def test_a_page_that_cannot_be_serialised_is_settled_again_and_once(
    strict: Settings, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Runtime(strict)) as runtime, psycopg.connect(strict.database_url) as other:
        built = launched(runtime, peer, leads=50)
        page, handoffs = hand_over(runtime)
        other.execute("UPDATE outbox SET variant = variant")  # somebody changes the range while it is settled
        worker = threading.Thread(target=settle_with, args=(runtime, page, handoffs, [Accepted("ref")] * 50))
        worker.start()
        assert eventually(lambda: query(runtime, WAITING) == [(1,)], 5)
        other.commit()
        worker.join(10)
        assert [each.getMessage() for each in caplog.records if "could not serialize access" in each.getMessage()]
        assert sums(runtime, built.campaign_id) == {"sent": 50}
        assert events(runtime, built.campaign_id) == {"sent": 50}


def test_workers_that_cannot_be_serialised_lose_and_double_nobody(strict: Settings, peer: Peer) -> None:
    peer.behave(latency=0.02)
    with closing(Runtime(strict, connections=12)) as runtime:
        built = world.build(runtime.db, secret_key=strict.secret_key, leads=2000, provider_url=peer.url)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        workers = [threading.Thread(target=keep_looking, args=(runtime, send_range.drain)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        until = time.monotonic() + 40
        while state(runtime, built.campaign_id) != "finished" and time.monotonic() < until:
            time.sleep(0.2)
            with suppress(DBAPIError):  # the clock's turn comes again
                rescue.rescue_expired(runtime)
                finish.finish_due(runtime)
                with runtime.db.begin() as conn:  # what could not be handed over waits for a minute
                    conn.execute(text("UPDATE outbox SET due_at = now() WHERE state = 'ready' AND due_at > now()"))
        runtime.stopping.set()
        for worker in workers:
            worker.join(20)
        assert sums(runtime, built.campaign_id) == {"sent": 2000}
        assert events(runtime, built.campaign_id) == {"sent": 2000}
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (2000, 0)
