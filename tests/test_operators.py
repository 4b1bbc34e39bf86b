"""What operators type: campaigns steered from a terminal, and a doctor who says what to do."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from click.testing import CliRunner, Result

from app.config import Settings, read
from app.errors import ConfigError
from app.flows import beat, send_range
from app.runtime import Runtime
from cli.main import main
from tests import world
from tests.conftest import SECRET_KEY
from tests.peers import Peer
from tests.world import World

VARIABLES = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://127.0.0.1:1", "SECRET_KEY": "x" * 32}


@pytest.fixture
def built(runtime: Runtime, peer: Peer) -> World:
    return world.build(runtime.db, secret_key=SECRET_KEY, leads=30, provider_url=peer.url)


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))


def millrace(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_a_campaign_is_listed_launched_and_told_about(runtime: Runtime, built: World) -> None:
    assert "draft" in millrace("campaign", "list").output
    checked = millrace("campaign", "launch", str(built.campaign_id), "--check")
    assert checked.exit_code == 0 and "30 leads" in checked.output
    assert "sending" in millrace("campaign", "launch", str(built.campaign_id)).output
    send_range.drain(runtime)
    told = json.loads(millrace("campaign", "status", str(built.campaign_id), "--json").output)
    assert (told["state"], told["audience"], told["sent"], told["open"]) == ("finished", 30, 30, 0)
    assert "These add up." in millrace("campaign", "status", str(built.campaign_id)).output


def test_pause_resume_and_cancel_say_what_they_did(built: World) -> None:
    number = str(built.campaign_id)
    millrace("campaign", "launch", number)
    assert "paused" in millrace("campaign", "pause", number).output
    assert "sending" in millrace("campaign", "resume", number).output
    assert "0 of 30 had gone" in millrace("campaign", "cancel", number).output


def test_a_move_that_is_not_legal_is_a_sentence(built: World) -> None:
    refused = millrace("campaign", "pause", str(built.campaign_id))
    assert refused.exit_code == 1 and "The campaign is draft" in refused.output


@pytest.mark.parametrize("number", ["0", "99999999999", "x", "77"])
def test_a_campaign_that_cannot_be_is_a_sentence(number: str) -> None:
    refused = millrace("campaign", "status", number)
    assert refused.exit_code in (1, 2) and "Traceback" not in refused.output and refused.output


def test_what_stands_in_a_launchs_way_is_named(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        conn.exec_driver_sql("UPDATE campaign SET sender_id = NULL")
    refused = millrace("campaign", "launch", str(built.campaign_id))
    assert refused.exit_code == 1 and "Choose a sender" in refused.output


def test_the_doctor_finds_everything_well_where_it_is(runtime: Runtime, settings: Settings) -> None:
    beat.beat_clock(runtime)
    with closing(Runtime(settings)) as worker:
        beat.beat_worker(worker)
    told = millrace("doctor", "--json")
    findings = {each["part"]: each for each in json.loads(told.output)}
    assert told.exit_code == 0, told.output
    parts = {"settings", "redis", "database", "timescaledb", "migrations", "clock", "worker"}
    assert set(findings) == parts | {"reading", "credentials", "alerts"}


def test_the_doctor_finds_what_no_worker_reads_and_secrets_of_another_key(
    runtime: Runtime, built: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtime.db.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO hit (at, lead_id, campaign_id, position) VALUES (now() - interval '1 h', 1, 1, 1)"
        )
    monkeypatch.setenv("SECRET_KEY", "another key of at least 32 characters")
    findings = {each["part"]: each for each in json.loads(millrace("doctor", "--json").output)}
    assert findings["reading"]["found"] == "clicks and opens wait for 60 minutes"
    assert findings["credentials"]["found"] == "1 of 1 stored secrets cannot be read"
    assert not findings["reading"]["well"] and not findings["credentials"]["well"]


def test_the_doctor_says_what_to_do_about_a_missing_clock() -> None:
    told = millrace("doctor")
    assert told.exit_code == 1
    assert "start one with `millrace clock`" in told.output


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("REDIS_URL", "redis://127.0.0.1:1/0", "redis"),
        ("DATABASE_URL", "postgresql://127.0.0.1:1/x", "database"),
        ("SECRET_KEY", "short", "settings"),
    ],
)
def test_the_doctor_names_what_is_away(monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str) -> None:
    monkeypatch.setenv(name, value)
    told = millrace("doctor", "--json")
    bad = [each for each in json.loads(told.output) if not each["well"]]
    assert told.exit_code == 1 and part in {each["part"] for each in bad}
    assert all(each["advice"] for each in bad)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://x"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("REDIS_URL", "redis://x:port"),
        ("SECRET_KEY", "short"),
        ("BASE_URL", "ftp://x"),
        ("MILLRACE_CALLS", "inf"),
        ("MILLRACE_CALLS", "many"),
        ("MILLRACE_LEASE", "nan"),
        ("MILLRACE_RANGE_SIZE", "0"),
        ("MILLRACE_WEBHOOK_DAYS", "1000000"),
        ("MILLRACE_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read(VARIABLES | {name: value})


def test_settings_never_print_their_secrets() -> None:
    assert "x" * 32 not in repr(read(VARIABLES))
