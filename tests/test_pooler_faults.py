"""Behind a transaction pooler every transaction may have another session: nothing of ours needs the one before."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from app import schema
from app.config import Settings, read
from app.errors import ConfigError
from app.flows import api_keys, import_leads, launch, send_range
from app.models import clock_lease
from app.models.api_key import SCOPES
from app.runtime import Runtime
from cli.main import main
from tests import world
from tests.peers import Peer
from tests.pooler import Pooler, pooling
from tests.sending_world import sums
from tests.test_clock_lease import ticking
from tests.test_workers import eventually, is_finished, working
from web import create_app
from workers import clock

SESSIONS = 6


@pytest.fixture
def pooler(settings: Settings) -> Iterator[Pooler]:
    with pooling(settings.database_url, SESSIONS) as running:
        yield running


@pytest.fixture
def house(settings: Settings, pooler: Pooler) -> Settings:
    """Settings that reach the database through the pooler, and prepare nothing."""
    urls = {"database_url": pooler.url, "reports_database_url": pooler.url}
    return replace(settings, **urls, prepare=False, range_size=20, look_every=0.2)


def test_a_campaign_is_sent_by_worker_and_clock_with_a_message_by_the_api_amid_it(
    house: Settings, peer: Peer, pooler: Pooler, caplog: pytest.LogCaptureFixture
) -> None:
    peer.behave(latency=0.05)
    beside = Runtime(house, connections=clock.CONNECTIONS)
    thread = threading.Thread(target=clock.run, args=(beside,))
    with working(house) as runtime, closing(Runtime(house)) as door:
        built = world.build(runtime.db, secret_key=house.secret_key, leads=600, provider_url=peer.url)
        key = api_keys.create(door, built.organisation_id, built.user_id, "Shop", tuple(SCOPES))
        program = create_app(door).test_client()
        authorised = {"Authorization": f"Bearer {key.secret}"}
        thread.start()
        try:
            launch.launch(runtime, built.organisation_id, built.campaign_id)
            asked = {"to": "ann@example.com", "subject": "Order", "html": "<p>It is on its way.</p>"}
            posted = program.post("/api/v1/messages", json=asked, headers=authorised)
            assert posted.status_code == 202, posted.text
            message = f"/api/v1/messages/{posted.json['ids'][0]}"  # type: ignore[index]
            assert eventually(lambda: program.get(message, headers=authorised).json["state"] == "sent")  # type: ignore[index]
            assert eventually(lambda: is_finished(runtime, built.campaign_id))
        finally:
            beside.stopping.set()
            thread.join(20)
            beside.close()
        assert sums(runtime, built.campaign_id) == {"sent": 600}
    assert not [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert pooler.transactions > 100
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (601, 0)


def test_with_prepared_statements_it_fails(house: Settings, peer: Peer) -> None:
    with closing(Runtime(replace(house, prepare=True))) as runtime:
        built = world.build(runtime.db, secret_key=house.secret_key, leads=600, provider_url=peer.url)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        with pytest.raises(Exception, match="prepared statement"):
            for _ in range(20):
                send_range.drain(runtime)
    assert peer.sink.book.stats()["accepted"] < 600


def test_of_two_clocks_one_works_and_the_lease_row_is_whose_it_says(house: Settings) -> None:
    first: list[float] = []
    second: list[float] = []
    with ticking(house, first) as one:
        assert eventually(lambda: len(first) > 3)
        with ticking(house, second) as other:
            time.sleep(1.5)  # renewed, and asked for by the other, in whatever session
            assert not second
            with one.db.begin() as conn:
                assert clock_lease.find_owner(conn) == one.id
            one.stopping.set()
            assert eventually(lambda: bool(second), 4)
            with other.db.begin() as conn:
                assert clock_lease.find_owner(conn) == other.id


def test_leads_are_imported_through_it(house: Settings) -> None:
    """The one place with a temporary table: it ends with its transaction."""
    with closing(Runtime(house)) as runtime:
        built = world.build(runtime.db, secret_key=house.secret_key)
        lines = ["email,first_name", *(f"lead{n}@example.com,Name{n}" for n in range(5000))]
        for _ in range(SESSIONS + 1):
            stream = io.BytesIO("\n".join(lines).encode())
            import_leads.import_stream(runtime.db, built.organisation_id, None, "leads.csv", stream)
        with runtime.db.begin() as conn:
            assert conn.execute(text("SELECT count(*) FROM lead")).scalar_one() == 5000
            assert conn.execute(text("SELECT to_regclass('incoming')")).scalar_one() is None


def test_a_release_migrates_through_it_again_and_again(settings: Settings, pooler: Pooler) -> None:
    """A session's lock would stay with the session that the first one had, and the second would wait for ever."""
    schema.downgrade(settings.database_url, "-2")
    for _ in range(SESSIONS):
        schema.migrate(pooler.url)
    assert schema.current(pooler.url) == schema.head()


def test_two_releases_at_once_take_turns_through_it(settings: Settings, pooler: Pooler) -> None:
    release = threading.Thread(target=schema.migrate, args=(pooler.url,))
    with psycopg.connect(settings.database_url) as other:
        other.execute(schema.TAKE_TURN.replace(":lock", "%s"), [schema.LOCK])
        release.start()
        release.join(1.0)
        assert release.is_alive()
    release.join(20)
    assert not release.is_alive()


def test_the_doctor_finds_the_database_well_through_it(house: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", house.database_url)
    monkeypatch.setenv("REDIS_URL", house.redis_url)
    monkeypatch.setenv("SECRET_KEY", house.secret_key)
    monkeypatch.setenv("MILLRACE_PREPARE", "off")
    told = CliRunner().invoke(main, ["doctor"]).output
    assert f"at {schema.head()}, the newest" in told
    assert "prepared statement" not in told


def test_what_prepares_is_chosen_by_a_setting() -> None:
    variables = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://x", "SECRET_KEY": "x" * 32}
    chosen = {value: read(variables | {"MILLRACE_PREPARE": value}).prepare for value in ("", "on", "Off")}
    assert chosen == {"": True, "on": True, "Off": False}
    with pytest.raises(ConfigError, match="MILLRACE_PREPARE must be on or off, not maybe"):
        read(variables | {"MILLRACE_PREPARE": "maybe"})
