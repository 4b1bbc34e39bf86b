"""The embedded servers: what they promise to tests and to `make up`."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app import schema, stack
from app.errors import ConfigError, Unavailable
from app.stack import confine, elf, timescale
from app.stack.postgres import binary
from app.stack.server import await_end
from tests.servers import copy_cluster, prepared

HOLD = """
import sys, time
from pathlib import Path
from app import stack
servers = stack.start(Path(sys.argv[1]), durable=False)
print(servers.postgres.child.process.pid, servers.valkey.child.process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a cluster in it, so that a start takes 0.2 s."""
    folder = tmp_path / "home"
    copy_cluster(prepared("apache"), folder)
    return folder


@pytest.fixture
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the servers of `home`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True, cwd=schema.MIGRATIONS.parent
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.editions
def test_every_test_gets_a_migrated_database_with_timescaledb(database_url: str, edition: str) -> None:
    with psycopg.connect(database_url) as connection:
        licence = connection.execute("SHOW timescaledb.license").fetchone()
        campaigns = connection.execute("SELECT count(*) FROM campaign").fetchone()
    assert licence == ({"apache": "apache", "community": "timescale"}[edition],)
    assert campaigns == (0,)


def test_the_embedded_valkey_refuses_who_does_not_know_its_password(redis_url: str) -> None:
    port = urlsplit(redis_url).port or 0
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=port, password="guessed", retry=once) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_a_second_start_keeps_the_data_and_the_addresses(tmp_path: Path) -> None:
    with stack.start(tmp_path, edition="apache") as first:
        urls = first.database_url, first.redis_url
        with psycopg.connect(first.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        with redis.Redis.from_url(first.redis_url) as client:
            client.set("kept", "42")
    with stack.start(tmp_path) as second:
        assert (second.database_url, second.redis_url) == urls
        with psycopg.connect(second.database_url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        with redis.Redis.from_url(second.redis_url) as client:
            assert client.get("kept") == b"42"


def test_a_home_that_already_runs_is_refused_with_its_process(home: Path, holder: subprocess.Popen[str]) -> None:
    _pids(holder)
    with pytest.raises(ConfigError, match=f"already runs from .* \\(process {holder.pid}\\)"):
        stack.start(home, durable=False)


def test_kill_9_of_the_parent_stops_both_servers_and_leaves_the_home_usable(
    home: Path, holder: subprocess.Popen[str]
) -> None:
    pids = _pids(holder)
    holder.kill()
    holder.wait()
    with stack.start(home, durable=False) as again, psycopg.connect(again.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert not [pid for pid in pids if _is_server(pid)]


def test_a_folder_is_not_used_while_a_server_that_is_ending_still_works_in_it(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "0.5"], cwd=tmp_path) as ending:
        (tmp_path / "pid").write_text(f"{ending.pid}\n{tmp_path}\n")
        with pytest.raises(Unavailable, match=f"process {ending.pid}"):
            await_end(tmp_path / "pid", tmp_path, seconds=0.1)
        await_end(tmp_path / "pid", tmp_path)
        assert not _is_server(ending.pid)


def test_a_killed_postgres_starts_again_and_recovers(home: Path) -> None:
    with stack.start(home, durable=False, servers=("postgres",)) as servers:
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        servers.postgres.kill()
        servers.postgres.start()
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_postgres_that_was_broken_off_ends_its_sessions_and_recovers(home: Path) -> None:
    with stack.start(home, durable=False, servers=("postgres",)) as servers:
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            connection.commit()
            connection.execute("INSERT INTO kept VALUES (43)")
            servers.postgres.break_off()
            with pytest.raises(psycopg.OperationalError):
                connection.commit()
        servers.postgres.start()
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchall() == [(42,)]
        assert "was not properly shut down" in (home / "postgres.log").read_text()


def test_malloc_keeps_what_a_page_took_unless_told_otherwise(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4194304")
    with stack.start(home, durable=False, servers=("postgres",)) as servers:
        process = servers.postgres.child.process
        assert process is not None
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    assert b"MALLOC_MMAP_THRESHOLD_=9437184" in environment
    assert b"MALLOC_TRIM_THRESHOLD_=4194304" in environment


def test_a_home_with_a_very_long_path_still_has_a_socket(home: Path) -> None:
    deep = home.rename(home.with_name("x" * 90))
    with (
        stack.start(deep, durable=False, servers=("postgres",)) as servers,
        psycopg.connect(servers.database_url) as connection,
    ):
        assert connection.execute("SELECT 1").fetchone() == (1,)
    servers.postgres.sockets.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_without_user_namespaces_runs_postgres_as_an_unprivileged_user(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in (confine.dropped(), confine.mapped()):  # and back: what the one made, the other can use
        monkeypatch.setattr(confine, "choose", lambda way=way: way)
        with stack.start(home, durable=False, servers=("postgres",)) as servers:
            assert servers.postgres.child.process is not None
            status = Path(f"/proc/{servers.postgres.child.process.pid}/status").read_text()
            assert f"\nUid:\t{way.owner}\t" in status
            with servers.postgres.connect() as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_home_keeps_its_edition(home: Path) -> None:
    with pytest.raises(ConfigError, match="apache edition"):
        stack.start(home, edition="community")


def test_a_machine_without_apt_is_told_the_two_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"no apt-get.*docker compose.*DATABASE_URL"):
        timescale.apache()


def test_a_server_that_does_not_start_is_reported_with_its_own_words(home: Path) -> None:
    with pytest.raises(Unavailable, match=r"did not start: .*shared_buffers"):
        stack.start(home, durable=False, servers=("postgres",), settings={"shared_buffers": "nonsense"})


def test_a_database_without_timescaledb_is_refused_with_the_way_out(home: Path) -> None:
    bare = {"shared_preload_libraries": "", "extension_control_path": "$system"}
    with (
        stack.start(home, durable=False, servers=("postgres",), settings=bare) as servers,
        pytest.raises(ConfigError, match=r"no TimescaleDB extension.*DATABASE_URL"),
    ):
        schema.migrate(servers.database_url)


def test_an_unreachable_database_is_said_to_be_unreachable() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        schema.migrate("postgresql://nobody@127.0.0.1:1/nothing")


def test_a_library_for_a_newer_c_library_loads_once_it_is_loosened(tmp_path: Path) -> None:
    built = (binary("postgres").parent.parent / "lib" / "libpq.so.5").read_bytes()
    newer = built.replace(b"GLIBC_2.14\0", b"GLIBC_2.94\0")  # where memcpy comes from
    assert newer != built
    (tmp_path / "newer.so").write_bytes(newer)
    with pytest.raises(OSError, match=r"version `GLIBC_2.94' not found"):
        ctypes.CDLL(str(tmp_path / "newer.so"))
    (tmp_path / "loosened.so").write_bytes(elf.loosen(newer, newest=(2, 50)))
    assert ctypes.CDLL(str(tmp_path / "loosened.so")).PQlibVersion() >= 180000


def test_loosening_changes_nothing_that_is_not_too_new() -> None:
    original = (binary("postgres").parent.parent / "lib" / "libpq.so.5").read_bytes()
    assert elf.loosen(original, newest=(99, 0)) == original


def _pids(holder: subprocess.Popen[str]) -> list[int]:
    assert holder.stdout is not None
    return [int(pid) for pid in holder.stdout.readline().split()]


def _is_server(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
