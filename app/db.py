"""The way to PostgreSQL: one pool, transactions, named statements, COPY."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy import Connection, TextClause, create_engine, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg as psycopg_dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import NullPool

from app.errors import Unavailable

CHECK_AFTER = 1.0  # seconds
PREPARED_FROM = 5  # times that a statement was run on a connection; a page's statements are prepared at once
MODELS = Path(__file__).parent / "models"
_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_TRAILING_COMMENTS = re.compile(r"(\n--[^\n]*|\s)*\Z")
set_json_loads(orjson.loads)  # a page reads a thousand leads' attributes
# SQLSTATE classes that mean "the server is away or full", not "the statement is wrong" (PostgreSQL manual, appendix A).
# 25006: a primary that was demoted, and takes no write any more.
_AWAY = ("08", "53", "57P", "25006")
_LOCKED = "55P03"


class Base(DeclarativeBase):
    """The root of mapped classes: one row by id, from a form."""


class Statements:
    """The named statements of one `models/<noun>.sql`, as attributes; a wrong name raises AttributeError."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        pieces = _NAME.split((MODELS / f"{noun}.sql").read_text())
        self.by_name: dict[str, TextClause] = {
            # comments after a statement belong to the next one
            name: text(_TRAILING_COMMENTS.sub("", body).strip())
            for name, body in zip(pieces[1::2], pieces[2::2], strict=True)
        }

    def __getattr__(self, name: str) -> TextClause:
        try:
            return self.by_name[name]
        except KeyError:
            raise AttributeError(f"{self.noun}.sql has no statement named {name}") from None


class Line(psycopg.Connection[tuple[object, ...]]):
    """A connection that knows when it was last in use: seconds of the monotonic clock."""

    returned = 0.0


class Database:
    """A pool of connections to one server. Give `begin` for transactions, `session` for mapped classes.

    `prepare` off: no statement is ever prepared, for a transaction pooler may run the next one in another session.
    """

    def __init__(
        self, url: str, *, size: int = 8, name: str = "millrace", timeout: float = 10.0, prepare: bool = True
    ) -> None:
        self.url = url
        self.pool = ConnectionPool(
            url,
            min_size=0,
            max_size=size,
            timeout=timeout,
            open=True,
            close_returns=True,
            connection_class=Line,
            check=_check,
            reset=_note_return,
            kwargs={
                "application_name": name,
                "prepare_threshold": PREPARED_FROM if prepare else None,
                "connect_timeout": 5,
                "keepalives_idle": 15,
                "keepalives_interval": 5,
                "tcp_user_timeout": 20_000,
            },
        )
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self.pool.getconn,
            poolclass=NullPool,
            use_native_hstore=False,  # or every checkout would ask the catalogue for a type we never use
            json_deserializer=orjson.loads,
            json_serializer=lambda value: orjson.dumps(value).decode(),
        )

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by an exception. Raises Unavailable."""
        with _availability(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def each(self) -> Iterator[Connection]:
        """Each statement a transaction of its own: for one or two, that need no more; two trips fewer."""
        with _availability(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction over mapped classes; objects stay readable after the commit."""
        with _availability(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()
        self.pool.close()


class Joined(Database):
    """A database whose transactions are parts of one that is open: savepoints, committed with it or not at all."""

    def __init__(self, outer: Connection) -> None:
        self.outer = outer

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with self.outer.begin_nested():
            yield self.outer

    @contextmanager
    def each(self) -> Iterator[Connection]:
        """No transactions of their own: what is done is a part of the one that is open, and undone with all of it."""
        yield self.outer

    @contextmanager
    def session(self) -> Iterator[Session]:
        joined = Session(self.outer, expire_on_commit=False, join_transaction_mode="create_savepoint")
        with joined as session, session.begin():
            yield session

    def close(self) -> None:
        """It is not ours to close."""


def _note_return(line: Line) -> None:
    line.returned = time.monotonic()


def _check(line: Line) -> None:
    """Ask a connection whether it still is one, unless it was just in use: a page would ask several times.

    One that is lost within that time is found out by its first statement: Unavailable, as amid any transaction.
    """
    if time.monotonic() - line.returned > CHECK_AFTER:
        ConnectionPool.check_connection(line)


@contextmanager
def _availability() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable("The database cannot be reached.") from error
    except DBAPIError as error:
        if _is_away(error.orig):
            raise Unavailable("The database cannot be reached.") from error
        raise
    except psycopg.Error as error:
        if _is_away(error):
            raise Unavailable("The database cannot be reached.") from error
        raise


def words_of(error: Exception) -> str:
    """What people may be told of an error: what a database says of a statement holds its values, so its kind alone."""
    return type(error).__name__ if isinstance(error, DBAPIError | psycopg.Error) else str(error)


def is_locked(error: DBAPIError) -> bool:
    """Whether a statement gave up since somebody else held a lock for longer than `lock_timeout`."""
    return getattr(error.orig, "sqlstate", None) == _LOCKED


def _is_away(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    if state is None:  # the server said nothing: it is gone, or the driver itself found fault with what it was given
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return bool(state.startswith(_AWAY))


def driver(connection: Connection) -> psycopg.Connection[tuple[object, ...]]:
    """The psycopg connection under a SQLAlchemy one, in the same transaction."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def fetch(
    connection: Connection, statement: TextClause, values: Mapping[str, object], *, prepare: bool = True
) -> list[tuple[Any, ...]]:
    """All rows as plain tuples: for a page of a thousand, where SQLAlchemy's rows would cost as much as the query.

    Prepared at once, or with `prepare` off never: what must be planned anew for its values. A database that prepares
    nothing (`Database`) is not asked to.
    """
    with driver(connection).cursor() as cursor:
        return cursor.execute(_pyformat(statement), values, prepare=prepare).fetchall()


@cache
def _pyformat(statement: TextClause) -> str:
    return str(statement.compile(dialect=psycopg_dialect()))  # type: ignore[no-untyped-call]


def run(connection: Connection, statement: TextClause, values: Mapping[str, object]) -> None:
    """A statement that gives nothing, without SQLAlchemy's share of the cost."""
    driver(connection).execute(_pyformat(statement), values)


def array(numbers: Iterable[int]) -> str:
    """Numbers as an array literal, for a parameter that is cast: twenty times as fast as adapting a list of them."""
    return "{" + orjson.dumps(list(numbers))[1:-1].decode() + "}"


def json_list(items: str) -> list[Any]:
    """JSON that PostgreSQL put together with commas between: brackets of its own would be a copy of all of it each."""
    found: list[Any] = orjson.loads(f"[{items}]")
    return found


def copy(connection: Connection, target: str, blocks: Iterable[str | bytes]) -> None:
    """COPY `target` ("table (column, …)") FROM STDIN in text format; `blocks` are whole lines, already encoded."""
    with copying(connection, target, blocks):
        pass


@contextmanager
def copying(connection: Connection, target: str, blocks: Iterable[str | bytes]) -> Iterator[None]:
    """The same, and what is within is done while the server stores the last of it: it may not speak with the server."""
    with driver(connection).cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN") as stream:
        for block in blocks:
            stream.write(block)
        yield
