"""The embedded PostgreSQL + TimescaleDB and Valkey: for trying, for tests, for one small machine.

with stack.start(home) as servers:
    servers.database_url, servers.redis_url
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import psycopg

from app.errors import ConfigError, MillraceError
from app.stack import timescale
from app.stack.postgres import NAME, Postgres
from app.stack.timescale import Edition, Extension
from app.stack.valkey import Valkey

Server = Literal["postgres", "valkey"]
BOTH: tuple[Server, ...] = ("postgres", "valkey")


class Stack:
    """The servers of one home folder; they stop when this object's process ends, however it ends."""

    def __init__(self, home: Path, lock: IO[str], postgres: Postgres | None, valkey: Valkey | None) -> None:
        self.home = home
        self.lock = lock
        self._postgres = postgres
        self._valkey = valkey

    @property
    def postgres(self) -> Postgres:
        if self._postgres is None:
            raise ConfigError("This stack was started without PostgreSQL.")
        return self._postgres

    @property
    def valkey(self) -> Valkey:
        if self._valkey is None:
            raise ConfigError("This stack was started without Valkey.")
        return self._valkey

    @property
    def database_url(self) -> str:
        return self.postgres.url()

    @property
    def redis_url(self) -> str:
        return self.valkey.url()

    @property
    def edition(self) -> Edition:
        return self.postgres.extension.edition

    def stop(self) -> None:
        """Stops both cleanly and gives the home folder free. Twice does no harm."""
        for server in (self._postgres, self._valkey):
            if server is not None:
                server.stop()
        self.lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(
    home: Path,
    *,
    durable: bool = True,
    edition: Edition | None = None,
    settings: Mapping[str, str] | None = None,
    servers: tuple[Server, ...] = BOTH,
) -> Stack:
    """Starts `servers` with their data in `home`, made when it is not there.

    `durable=False` trades power-cut safety for speed (tests). `edition` None takes the one that the home was made with,
    else the best one here. `settings` are PostgreSQL's. Call it from the main thread: the servers end with the calling
    thread. Raises ConfigError or Unavailable with a sentence that says the way out.
    """
    home = home.expanduser().absolute()
    lock = _take(home)
    try:
        postgres = _postgres(home, durable, edition, settings) if "postgres" in servers else None
        valkey = Valkey(home, durable=durable) if "valkey" in servers else None
    except BaseException:
        lock.close()
        raise
    stack = Stack(home, lock, postgres, valkey)
    try:
        if valkey is not None:
            valkey.start()
        if postgres is not None:
            postgres.start()
            _keep_up(home, postgres)
    except BaseException:
        stack.stop()
        raise
    return stack


def editions_available() -> list[Edition]:
    """The editions of TimescaleDB that can be had here; the first look may fetch Debian's package."""
    found: list[Edition] = []
    with suppress(ConfigError):
        found.append(timescale.apache().edition)
    if timescale.community() is not None:
        found.append("community")
    return found


def _take(home: Path) -> IO[str]:
    """The home's lock, held while its servers run; a process killed with -9 loses it."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {home} cannot be made ({error.strerror}): set MILLRACE_HOME to one that can."
        ) from error
    if home.stat().st_uid != os.geteuid():
        raise ConfigError(f"{home} belongs to another user: set MILLRACE_HOME to a folder of your own.")
    lock = (home / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise ConfigError(
            f"Millrace already runs from {home} (process {holder}): stop it first,"
            " or set MILLRACE_HOME to another folder."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _postgres(home: Path, durable: bool, edition: Edition | None, settings: Mapping[str, str] | None) -> Postgres:
    made_with = _made_with(home)
    if made_with and edition and made_with[0] != edition:
        raise ConfigError(
            f"{home} was made with TimescaleDB's {made_with[0]} edition: use another folder for {edition}."
        )
    extension = timescale.choose(made_with[0] if made_with else edition)
    return Postgres(home, extension, durable=durable, settings=settings)


def _made_with(home: Path) -> tuple[Edition, str] | None:
    """The edition and version that the home's database has."""
    kept = home / "timescaledb"
    if not kept.exists():
        return None
    edition, version = kept.read_text().split()
    return "community" if edition == "community" else "apache", version


def _keep_up(home: Path, postgres: Postgres) -> None:
    """Brings the database's TimescaleDB to the version of the files, and remembers which that is."""
    made_with, extension = _made_with(home), postgres.extension
    if made_with is not None and made_with[1] != extension.version:
        _update(postgres, extension, made_with[1])
    (home / "timescaledb").write_text(f"{extension.edition} {extension.version}\n")


def _update(postgres: Postgres, extension: Extension, old: str) -> None:
    try:
        with psycopg.connect(postgres.url(NAME), autocommit=True) as connection:
            connection.execute("ALTER EXTENSION timescaledb UPDATE")  # must be a session's first statement
    except psycopg.errors.UndefinedObject:
        return  # nothing was migrated yet
    except psycopg.Error as error:
        raise MillraceError(
            f"The database was made with TimescaleDB {old} and cannot be brought to {extension.version}: {error}"
        ) from error
