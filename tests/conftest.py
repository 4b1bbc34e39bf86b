"""Fixtures: a migrated database, a Valkey, settings and a runtime for one test, on real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from playwright.sync_api import Browser, sync_playwright

from app import stack
from app.config import Settings
from app.runtime import Runtime
from app.stack.timescale import Edition
from tests import chromium, postfix
from tests.peers import Peer, running_sink
from tests.servers import Servers

EDITIONS = pytest.StashKey[list[Edition]]()
SECRET_KEY = "a key for tests, known to everybody"


# The same examples each time: a run that fails is about the change it is made for. EXPLORE=1 draws new ones.
hypothesis.settings.register_profile("steady", derandomize=True)
if not os.environ.get("EXPLORE"):
    hypothesis.settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "editions: runs once on each edition of TimescaleDB that is present")
    config.addinivalue_line("markers", "settings(**chosen): what these tests' settings say otherwise than the defaults")
    # One process looks (and may fetch), the others are told: every worker must collect the same tests.
    told = getattr(config, "workerinput", {}).get("editions")
    config.stash[EDITIONS] = told if told is not None else stack.editions_available()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    node.workerinput["editions"] = node.config.stash[EDITIONS]  # type: ignore[attr-defined]


def pytest_report_header(config: pytest.Config) -> list[str]:
    editions = config.stash[EDITIONS]
    return [
        f"timescaledb editions: {', '.join(editions) or 'NONE: tests on a database will fail'}",
        f"chromium: {chromium.find() or 'NONE: BROWSER TESTS ARE SKIPPED (`make browser` fetches one)'}",
        f"postfix: {f'NONE, ITS TESTS ARE SKIPPED: {none}' if (none := postfix.find()) else 'this machine has it'}",
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("editions"):
        metafunc.parametrize("edition", metafunc.config.stash[EDITIONS] or ["apache"], indirect=True)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """This test process's own servers. Stop or kill them only from a test that starts them again."""
    started = Servers(tmp_path_factory.mktemp("servers"))
    yield started
    started.stop()


@pytest.fixture
def edition(request: pytest.FixtureRequest) -> Edition:
    """The edition under a test: Apache, which is everywhere, unless the test is marked `editions`."""
    chosen: Edition = getattr(request, "param", "apache")
    return chosen


@pytest.fixture
def database_url(servers: Servers, edition: Edition) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    with servers.database(edition) as url:
        yield url


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """An empty Valkey database."""
    url = servers.valkey().redis_url
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def settings(request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings for this test's database and Valkey, and a home folder of its own; a mark `settings` chooses others."""
    marked = request.node.get_closest_marker("settings")
    return Settings(
        database_url=database_url,
        reports_database_url=database_url,
        redis_url=redis_url,
        secret_key=SECRET_KEY,
        home=tmp_path / "home",
        **(marked.kwargs if marked else {}),
    )


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """A runtime on this test's database; its bell rings for nobody."""
    opened = Runtime(settings, name="test")
    yield opened
    opened.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A provider: a sink that answers at once."""
    with running_sink() as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, one for this test process. Where there is none the test is skipped, and the header says so."""
    path = chromium.find()
    if path is None:
        pytest.skip("there is no Chromium here (`make browser` fetches one)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path)
        yield launched
        launched.close()
