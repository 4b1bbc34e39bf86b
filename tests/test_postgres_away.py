"""PostgreSQL restarted, or its connections cut, amid a campaign: workers wait, go on, and double nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.config import Settings
from app.errors import Unavailable
from app.flows import finish, launch, rescue, send_range
from app.models import ledger, outbox
from app.runtime import Runtime
from app.stack.timescale import Edition
from tests import world
from tests.peers import running_sink
from tests.servers import Servers
from workers.looking import keep_looking

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LEADS = 3000


def kill(servers: Servers, edition: Edition, url: str) -> None:
    servers.postgres(edition).postgres.restart()


def cut(servers: Servers, edition: Edition, url: str) -> None:
    with servers.postgres(edition).postgres.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname LIKE 'test_%'"
        )


@pytest.mark.parametrize("fault", [kill, cut])
def test_a_campaign_survives_it_without_a_lost_or_doubled_lead(
    settings: Settings, servers: Servers, edition: Edition, fault: Callable[[Servers, Edition, str], None]
) -> None:
    house = replace(settings, range_size=100, look_every=0.1, lease=6.0)
    with running_sink(latency=0.05) as peer, closing(Runtime(house)) as runtime:
        built = world.build(runtime.db, secret_key=house.secret_key, leads=LEADS, provider_url=peer.url)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        worker = threading.Thread(target=keep_looking, args=(runtime, send_range.drain))
        worker.start()
        for _ in range(3):
            calls = peer.sink.book.stats()["calls"]
            while peer.sink.book.stats()["calls"] <= calls + 2:
                time.sleep(0.01)
                assert worker.is_alive()
            fault(servers, edition, settings.database_url)
        until = time.monotonic() + 60
        state = ""
        while state not in ("finished", "settling") and time.monotonic() < until:
            time.sleep(0.2)
            try:
                with runtime.db.begin() as conn:
                    # what was claimed in a transaction that died with its reply is found by the rescuer
                    conn.execute(text("UPDATE outbox SET lease_until = now() WHERE state = 'leased' AND position = 0"))
                    state = str(world.row(conn, "SELECT state FROM campaign")["state"])
                rescue.rescue_expired(runtime)
                finish.finish_due(runtime)
            except Unavailable:
                continue
        runtime.stopping.set()
        worker.join(20)
        with runtime.db.begin() as conn:
            sums = outbox.progress(conn, built.campaign_id)
            record = ledger.sum_all(conn, built.campaign_id, LONG_AGO).record
        stats = peer.sink.book.stats()
    assert state == "finished"
    assert (sums.sent, sums.unknown, sums.open) == (LEADS, 0, 0)
    assert record == {"sent": LEADS}
    assert (stats["accepted"], stats["duplicates"]) == (LEADS, 0)
