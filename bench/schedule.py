"""Messages that wait for their time: finding what is due among millions, cutting it into ranges, fetching it.

A store of `--messages` for the coming day, of which `--due` are due, accepted `--slip` at a time (1: each for itself,
which is the worst case: as many rows wait as messages), at moments of the day before their time that are all as likely.
find_seconds is the middle of nine: how much is due; cut_seconds is all of `range_messages.cut_due`, as the clock calls
it. Then two processes claim the ranges and load each page's addresses and data, as idle workers do before they compose.
They do it nine times, since one lasts less than a second: what they took is given back in between, the table vacuumed
and a checkpoint written. fetched_rows_per_s is the middle of the nine, rows by the time from the first claim to the
last page; after the first, the messages are in memory. The rival, `job_table`, is a table with a row and a state for
each, and an index over state and time: what is due is counted, set to "queued" 5,000 at a commit, and taken 1,000 at a
time with SKIP LOCKED, nine times too.
"""

from __future__ import annotations

import multiprocessing
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from statistics import median
from typing import NamedTuple, Protocol

import psycopg

from app import config
from app.flows import range_messages, send_range
from app.models import message
from app.runtime import Runtime
from bench import prefill, sending, stream
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.prefill import Connection

SIZES = {"messages": 5_000_000, "due": 335_000}
FETCHERS = 2
ROUNDS = 9
PATIENCE = 600.0  # seconds
GIVE_BACK = "UPDATE outbox SET state = 'ready', owner = NULL, lease_until = NULL"
FINDS = 9
NOWHERE = "sink+http://127.0.0.1:9"  # opened, never called

JOBS = """
CREATE TABLE job (
    id bigint PRIMARY KEY, status text NOT NULL, send_at timestamptz NOT NULL, address text NOT NULL,
    data jsonb NOT NULL
)
"""
FILL_JOBS = "INSERT INTO job SELECT id, 'scheduled', due_at, email, data FROM message"
INDEX_JOBS = "CREATE INDEX job_due ON job (status, send_at)"
FIND_JOBS = "SELECT count(*) FROM job WHERE status = 'scheduled' AND send_at <= now()"
QUEUE_JOBS = """
UPDATE job SET status = 'queued'
 WHERE id IN (SELECT id FROM job WHERE status = 'scheduled' AND send_at <= now() ORDER BY send_at LIMIT 5000
                 FOR UPDATE SKIP LOCKED)
"""
TAKE_JOBS = """
UPDATE job SET status = 'sending'
 WHERE id IN (SELECT id FROM job WHERE status = 'queued' ORDER BY send_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING id, address, data
"""
QUEUE_AGAIN = "UPDATE job SET status = 'queued' WHERE status = 'sending'"


class Fetched(NamedTuple):
    """What a process took."""

    rows: int
    began: float
    ended: float


class Queue(Protocol):
    """What a process answers through, once for each round."""

    def put(self, found: Fetched) -> None: ...

    def get(self, block: bool, timeout: float) -> Fetched: ...


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--slip", type=int, default=1, help="messages that were accepted together (default 1)")
    parser.add_argument("--no-rivals", action="store_true", help="ours alone")


def run(args: Namespace) -> Answer:
    """Ours, then the rival over the same messages."""
    with _house(args) as (house, conn, runtime):
        ours = _ours(house, runtime, args.due)
        rivals = {} if args.no_rivals else {"job_table": _theirs(house, conn, args.due)}
    aims = {
        "find_seconds": reach(0.06, ours["find_seconds"]),
        "cut_seconds": reach(1.0, ours["cut_seconds"]),
        "fetched_rows_per_s": reach(500_000, ours["fetched_rows_per_s"]),
    }
    names = ("messages", "due", "slip")
    return Answer(house.settings | {name: getattr(args, name) for name in names}, ours, rivals, aims)


@contextmanager
def _house(args: Namespace) -> Iterator[tuple[Server, Connection, Runtime]]:
    with (
        server(args.edition) as house,
        psycopg.connect(house.database_url) as conn,
        sending.runtime(house, MILLRACE_LEASE="600") as runtime,
    ):
        opened = stream.open_stream(runtime, conn, NOWHERE)
        say(f"{args.messages:,} messages, of which {args.due:,} are due")
        stream.fill(conn, opened, args.messages, args.due, args.slip)
        yield house, conn, runtime


def _ours(house: Server, runtime: Runtime, due: int) -> Figures:
    say("ours")
    finds = [_find(runtime, due) for _ in range(FINDS)]
    with Wal(house.database_url) as wal, Watch() as watch:
        cut = range_messages.cut_due(runtime)
    assert cut == due, f"{cut} messages were cut, not {due}."
    figures = {
        "find_seconds": median(finds),
        "cut_seconds": watch.seconds,
        "cut_wal_bytes_per_message": wal.bytes / due,
    }
    return figures | _fetch(house, fetch_ranges, due, GIVE_BACK, "outbox")


def _find(runtime: Runtime, due: int) -> float:
    with runtime.db.begin() as conn, Watch() as watch:
        found = message.find_due(conn)
    messages = sum(each.messages for each in found)
    assert messages == due, f"{messages} messages are due, not {due}."
    return watch.seconds


def _fetch(
    house: Server, fetch: Callable[[str, Barrier, Queue], None], due: int, give_back: str, table: str
) -> Figures:
    """By two processes of their own, at once; between rounds `give_back` undoes what they did to `table`."""
    context = multiprocessing.get_context("spawn")
    begun, queue = context.Barrier(FETCHERS + 1, timeout=PATIENCE), context.Queue()
    processes = [
        context.Process(target=fetch, args=(house.database_url, begun, queue), daemon=True) for _ in range(FETCHERS)
    ]
    for each in processes:
        each.start()
    speeds = []
    try:
        with psycopg.connect(house.database_url, autocommit=True) as conn:
            for _ in range(ROUNDS):
                conn.execute(f"VACUUM ANALYZE {table}")
                conn.execute("CHECKPOINT")
                begun.wait()
                found = [queue.get(True, PATIENCE) for _ in processes]
                rows = sum(each.rows for each in found)
                assert rows == due, f"{rows} rows were fetched, not {due}."
                speeds.append(rows / (max(each.ended for each in found) - min(each.began for each in found)))
                conn.execute(give_back)
    finally:
        begun.abort()  # whoever still waits for a round ends
        for each in processes:
            each.join()
    return {"fetched_rows_per_s": median(speeds)}


def fetch_ranges(database_url: str, begun: Barrier, queue: Queue) -> None:
    """In a process of its own: claim and load until nothing is left."""
    variables = {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1/0", "SECRET_KEY": "bench" * 8}
    runtime = Runtime(config.read(variables), name="bench")

    def take() -> int:
        lease = send_range.claim(runtime)
        return 0 if lease is None else len(send_range.load(runtime, lease).leads)

    _take_all(take, begun, queue)
    runtime.close()


def _take_all(take: Callable[[], int], begun: Barrier, queue: Queue) -> None:
    """`take` gives the rows of a page, 0 where none is left."""
    with sending.collecting_seldom():
        for _ in range(ROUNDS):
            begun.wait()
            began, rows = time.time(), 0
            while found := take():
                rows += found
            queue.put(Fetched(rows, began, time.time()))


def _theirs(house: Server, conn: Connection, due: int) -> Figures:
    say("a table of jobs")
    conn.execute(JOBS)
    conn.execute(FILL_JOBS)
    conn.execute(INDEX_JOBS)
    conn.commit()
    prefill.vacuum(conn, "job")
    finds = []
    for _ in range(FINDS):
        with Watch() as watch:
            conn.execute(FIND_JOBS)
        finds.append(watch.seconds)
    with Wal(house.database_url) as wal, Watch() as watch:
        while conn.execute(QUEUE_JOBS).rowcount:
            conn.commit()
        conn.commit()
    figures = {
        "find_seconds": median(finds),
        "cut_seconds": watch.seconds,
        "cut_wal_bytes_per_message": wal.bytes / due,
    }
    return figures | _fetch(house, fetch_jobs, due, QUEUE_AGAIN, "job")


def fetch_jobs(database_url: str, begun: Barrier, queue: Queue) -> None:
    """In a process of its own: take jobs until none is left."""
    with psycopg.connect(database_url) as conn:

        def take() -> int:
            taken = conn.execute(TAKE_JOBS).fetchall()
            conn.commit()
            return len(taken)

        _take_all(take, begun, queue)
