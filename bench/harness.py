"""What every benchmark shares: its own embedded server, its answer, and how both are shown.

A benchmark is a module `bench/<name>.py`, named in `BENCHES` of `bench/__main__.py`. It gives:

    a docstring             its first line is what `python -m bench` lists
    SIZES: dict[str, int]   which of --leads, --rows, --events it takes, with their defaults: {"rows": 2_000_000}
    run(args) -> Answer     does it all: starts its server, measures ours and the rivals, cleans up
    arguments(parser)       optional: adds options of its own (argparse)

`args` carries the sizes as integers (`args.rows`) and `args.edition` ("apache", "community" or None: what is there).

    def run(args: Namespace) -> Answer:
        with server(args.edition) as house:                    # fsync on, migrated; redis=True adds a Valkey
            with psycopg.connect(house.database_url) as conn:  # or app.db.Database(house.database_url)
                ...
            return Answer(
                settings=house.settings | {"leads": args.leads},
                ours={"rows_per_s": 1.0, "peak_rss_mb": 80.0},
                rivals={"row_by_row": {"rows_per_s": 0.1}},
                reach={"rows_per_s": reach(100_000, 1.0)},
            )

Figures have plain names: rows_per_s, emails_per_s, wal_bytes_per_email, seconds, p95_ms, peak_rss_mb. In `reach`, a
figure that ends in seconds, _ms, _mb or begins with wal_ is to stay below its target; every other one is to get above.
A rival's figure that was compared is named `<figure>_vs_<rival>`: how many times the rival's figure ours is.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

import orjson
import psycopg

from app import stack
from app.schema import migrate
from app.stack.timescale import Edition

Figures = dict[str, float]
Settings = dict[str, str | int | float]

# What decides a figure. Shown with every answer, read from the server itself.
SHOWN = (
    "server_version",
    "timescaledb.license",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
)
AT_MOST = re.compile(r"(^wal_.*|seconds|_ms|_mb)$")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a benchmark found; `reach` is made with `reach()`."""

    settings: Mapping[str, str | int | float]
    ours: Mapping[str, float]
    rivals: Mapping[str, Mapping[str, float]]
    reach: Mapping[str, Mapping[str, float]]
    broken: tuple[str, ...] = ()  # promises that did not hold, a sentence each: the command ends with 1


@dataclass(frozen=True, slots=True)
class Server:
    """An embedded PostgreSQL (and Valkey) in a temporary folder. `redis_url` is empty where none was asked for."""

    database_url: str
    redis_url: str
    edition: str
    folder: Path
    settings: Settings
    stack: stack.Stack


@contextmanager
def server(
    edition: Edition | None = None, *, redis: bool = False, changed: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A migrated server of the benchmark's own, removed at the end: fsync on. `changed` are PostgreSQL's settings."""
    servers = stack.BOTH if redis else stack.BOTH[:1]
    with (
        tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder,
        stack.start(Path(folder), durable=True, edition=edition, settings=changed, servers=servers) as running,
    ):
        migrate(running.database_url)
        yield Server(
            database_url=running.database_url,
            redis_url=running.redis_url if redis else "",
            edition=running.edition,
            folder=Path(folder),
            settings=_shown(running.database_url),
            stack=running,
        )


def _shown(database_url: str) -> Settings:
    found: Settings = {
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "psycopg": version("psycopg"),
    }
    with psycopg.connect(database_url) as conn:
        for name in SHOWN:
            row = conn.execute("SELECT current_setting(%s, true)", [name]).fetchone()
            found[name] = str(row[0]) if row and row[0] is not None else "-"
        row = conn.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
        found["timescaledb"] = str(row[0]) if row else "-"
    return found


def reach(target: float, got: float) -> Figures:
    """A target and what was got, as the answer carries them."""
    return {"target": target, "got": round(got, 3)}


def say(text: str) -> None:
    """Tells a waiting person what goes on; never part of the answer."""
    print(f"… {text}", file=sys.stderr, flush=True)


class Watch:
    """What a `with` block took: `.seconds`, and of this process's CPU `.cpu_seconds`; within it, `.elapsed` so far."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._began

    def __enter__(self) -> Self:
        self._began, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu_seconds = self.elapsed, time.process_time() - self._cpu


class Wal:
    """Bytes of write-ahead log that a `with` block made: `.bytes`, of which `.image_bytes` are images of whole pages.

    It begins with a CHECKPOINT. So the first change of every page within the block logs the whole page, for ours and
    for rivals alike: as a server that works around the clock does after each of its own checkpoints.
    """

    bytes: int = 0
    image_bytes: int = 0

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    def __enter__(self) -> Self:
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
            conn.execute("CHECKPOINT")
            self._from = _one(conn, "SELECT pg_current_wal_insert_lsn()::text")
        return self

    def __exit__(self, *_: object) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            until = _one(conn, "SELECT pg_current_wal_insert_lsn()::text")
            self.bytes = int(_one(conn, "SELECT pg_wal_lsn_diff(%s, %s)", until, self._from))
            self._until = until

    def read_images(self) -> int:
        """Fills and gives `.image_bytes`. Reads the log itself, seconds a gigabyte: call it when nothing is timed."""
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute("SELECT pg_switch_wal()")  # the end of the log must be on disk to be read
            query = "SELECT coalesce(sum(fpi_size), 0)::bigint FROM pg_get_wal_stats(%s, %s)"
            self.image_bytes = int(_one(conn, query, self._from, self._until))
        return self.image_bytes


def _one(conn: psycopg.Connection[tuple[object, ...]], query: str, *values: object) -> str:
    row = conn.execute(query, values).fetchone()
    assert row is not None
    return str(row[0])


def peak_mb(pid: int | str = "self") -> float:
    """The most memory that a process ever held, in MB (VmHWM, proc(5)); 0 when it is gone."""
    return _status_mb(pid, "VmHWM")


def resident_mb(pid: int | str = "self") -> float:
    """The memory that a process holds now, in MB (VmRSS); 0 when it is gone."""
    return _status_mb(pid, "VmRSS")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(found for child in children for found in family(int(child)))]


def slope(points: list[tuple[float, float]]) -> float:
    """The slope of the straight line through (x, y) points, by least squares; 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def _status_mb(pid: int | str, name: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def show(name: str, answer: Answer, *, json: bool) -> None:
    """Prints the answer as a table and, with `json`, as one object on the last line."""
    print(f"{name}\n")
    for setting, value in answer.settings.items():
        print(f"  {setting:<24} {value}")
    print()
    _table({"ours": answer.ours, **answer.rivals})
    for figure, aim in answer.reach.items():
        print(f"  reach {figure}: {_verdict(figure, aim)}")
    for promise in answer.broken:
        print(f"  BROKEN: {promise}")
    if json:
        whole = {"bench": name, "settings": answer.settings, "ours": answer.ours, "rivals": answer.rivals}
        sys.stdout.flush()
        broken = {"broken": answer.broken} if answer.broken else {}
        print(orjson.dumps(whole | {"reach": answer.reach} | broken).decode(), flush=True)


def _table(columns: Mapping[str, Mapping[str, float]]) -> None:
    figures = list(dict.fromkeys(figure for column in columns.values() for figure in column))
    wide = max((len(figure) for figure in figures), default=0)
    widths = {name: max(14, len(name)) for name in columns}
    print("  " + " " * wide + "".join(f"  {name:>{widths[name]}}" for name in columns))
    for figure in figures:
        cells = (f"  {_plain(column.get(figure)):>{widths[name]}}" for name, column in columns.items())
        print(f"  {figure:<{wide}}" + "".join(cells))
    print()


def _plain(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def _verdict(figure: str, aim: Mapping[str, float]) -> str:
    below = AT_MOST.search(figure) is not None
    reached = aim["got"] <= aim["target"] if below else aim["got"] >= aim["target"]
    sign = "≤" if below else "≥"
    return f"{sign} {_plain(aim['target'])}, got {_plain(aim['got'])}: {'reached' if reached else 'MISSED'}"
