"""The database's schema: brought to the newest migration, or asked how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from app.errors import ConfigError, Unavailable

MIGRATIONS = Path(__file__).parent.parent / "migrations"
LOCK = 7_203_191  # an advisory lock of our own: two releases that migrate at once take turns
TAKE_TURN = "SELECT set_config('idle_in_transaction_session_timeout', '0', true), pg_advisory_xact_lock(:lock)"
WAY_OUT = "Install TimescaleDB on that server (docs/operations.md), or unset DATABASE_URL to use the embedded one."


def migrate(database_url: str, revision: str = "head") -> None:
    """Upgrades to `revision`; where nothing is to do, nothing happens. Many may call it at once.

    Raises Unavailable when the server cannot be reached, ConfigError when it has no TimescaleDB that we may use.
    """
    with _in_turn(database_url), _connection(database_url) as connection:
        _create_extension(connection)
        command.upgrade(_config(connection), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Back to `revision` ("base": nothing of ours is left); data that it has no place for is lost."""
    with _in_turn(database_url), _connection(database_url) as connection:
        command.downgrade(_config(connection), revision)


def current(database_url: str) -> str | None:
    """The migration that the database is at; None before the first."""
    with _connection(database_url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The newest migration that this code knows."""
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if newest is None:
        raise ConfigError(f"{MIGRATIONS} holds no migrations: this is no whole checkout of Millrace.")
    return newest


@contextmanager
def _in_turn(database_url: str) -> Iterator[None]:
    """Our turn to migrate: it ends with the transaction that takes it, which stays open meanwhile.

    A session's lock would stay behind a transaction pooler, with whoever gets the connection next.
    """
    with _connection(database_url) as waiting:
        waiting.execute(text(TAKE_TURN), {"lock": LOCK})
        yield


@contextmanager
def _connection(database_url: str) -> Iterator[Connection]:
    engine = _engine(database_url)
    try:
        with engine.connect() as connection:
            yield connection
            connection.commit()
    finally:
        engine.dispose()


def _engine(database_url: str) -> Engine:
    def connect() -> psycopg.Connection[tuple[object, ...]]:
        try:
            return psycopg.connect(
                database_url, connect_timeout=10, application_name="millrace migrate", prepare_threshold=None
            )
        except psycopg.Error as error:  # a URL with an unknown part is a ProgrammingError
            said = " ".join(str(error).split())
            raise Unavailable(
                f"The database cannot be reached: {said} Mend DATABASE_URL, or start the server."
            ) from error

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)


def _create_extension(connection: Connection) -> None:
    known = connection.execute(
        text("SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'")
    ).first()
    if known is None:
        raise ConfigError(f"This PostgreSQL server has no TimescaleDB extension. {WAY_OUT}")
    if known.installed_version is None:
        try:
            connection.execute(text("CREATE EXTENSION timescaledb"))
        except Exception as error:
            said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise ConfigError(f"TimescaleDB is there but cannot be switched on: {said}. {WAY_OUT}") from error
    connection.commit()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
