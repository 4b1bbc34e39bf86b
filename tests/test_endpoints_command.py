"""Promises of `millrace endpoints`: all that the pages can, for programs too; no address or secret is told twice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from app.config import Settings
from app.flows import tell_endpoints
from app.runtime import Runtime
from cli.main import main
from tests import world
from tests.endpoint_readers import Reader, reading
from tests.endpoint_world import happen
from tests.world import World


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))
    monkeypatch.setenv("MILLRACE_PRIVATE_PROVIDERS", "127.0.0.1")


@pytest.fixture
def built(runtime: Runtime) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key)


@pytest.fixture
def reader() -> Iterator[Reader]:
    with reading() as reader:
        yield reader


def millrace(*words: str) -> Result:
    return CliRunner().invoke(main, ["endpoints", *words])


def add(reader: Reader, *more: str) -> str:
    """An endpoint at the reader; its number, as the commands take it."""
    added = json.loads(millrace("add", "Warehouse", reader.url, "--json", *more).output)
    reader.secret = added["secret"]
    return str(added["id"])


def test_one_is_added_tested_listed_and_removed(runtime: Runtime, built: World, reader: Reader) -> None:
    assert millrace("list").output == "There is no endpoint.\n"
    number = add(reader, "--kind", "sent", "--campaign", str(built.campaign_id), "--with-email")
    assert millrace("test", number).output == "Taken: HTTP 200 thanks\n"
    happen(runtime, built, 3)
    tell_endpoints.make_posts(runtime)
    (listed,) = json.loads(millrace("list", "--json").output)
    assert (listed["kinds"], listed["campaign_id"], listed["with_email"]) == (["sent"], built.campaign_id, True)
    assert (listed["state"], listed["waiting_events"], listed["waiting_posts"]) == ("new", 3, 1)
    assert listed["oldest_seconds"] < 60
    assert "Warehouse at 127.0.0.1: new\n     events waiting: 3, the oldest for" in millrace("list").output
    post, trial = json.loads(millrace("posts", number, "--json").output)
    assert (post["state"], post["events"], trial["test"], trial["status"]) == ("waiting", 3, True, 200)
    assert "canary" not in millrace("list").output + millrace("list", "--json").output
    assert "3 events that wait?" in millrace("remove", number).output
    assert millrace("remove", number, "--yes").output == "Warehouse is removed.\n"
    assert json.loads(millrace("list", "--json").output) == []


def test_a_test_that_is_not_taken_fails(built: World, reader: Reader) -> None:
    number = add(reader)
    reader.status = 503
    reader.said = b"not\x1b[31m now"
    failed = millrace("test", number)
    assert (failed.exit_code, failed.output) == (1, "Not taken: HTTP 503 not [31m now\n")
    assert json.loads(millrace("test", number, "--json").output)["status"] == 503


def test_disabled_rotated_and_enabled(runtime: Runtime, built: World, reader: Reader) -> None:
    number = add(reader)
    assert millrace("disable", number).exit_code == 0
    happen(runtime, built, 2)
    tell_endpoints.tell_due(runtime)
    assert json.loads(millrace("list", "--json").output)[0]["state"] == "disabled"
    assert reader.tries == []
    assert "whsec_" in millrace("rotate", number).output
    assert millrace("enable", number).output == "It is told again; 2 events wait for it.\n"


def test_what_cannot_be_is_said_in_a_sentence(built: World) -> None:
    refused = millrace("add", "Inside", "https://127.0.0.2/hook")
    assert (refused.exit_code, "no public address" in refused.output) == (1, True)
    assert "There is no kind of event “boom”" in millrace("add", "x", "https://example.com/", "--kind", "boom").output
    assert "There is no such endpoint." in millrace("enable", "7").output
    assert "There is no such campaign." in millrace("add", "x", "https://example.com/", "--campaign", "99").output
