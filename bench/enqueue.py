"""Emails from accepted to claimable: ours in batches, against a Dramatiq message for each, as task queues do it.

`--emails` are accepted by `messages.accept`, a thousand to a transaction, each stored with its address and its data;
what is due now has its range with the commit. Measured from the first to the moment at which a worker could claim the
last one (the clock's cut included, where anything was left to it). `dramatiq` sends as many messages of one actor, with
the address and the data in them, to the same machine's Valkey (which appends to its file, as `millrace up` sets it); it
stores no email anywhere else, and is spared everything that comes after. `rows` inserts a row for each into a jobs
table, 50 a commit.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

import dramatiq
import psycopg
from dramatiq.brokers.redis import RedisBroker

from app.flows import messages, range_messages
from app.flows.messages import NewMessage
from app.runtime import Runtime
from bench import sending, stream
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.schedule import JOBS, NOWHERE
from bench.stream import Open

SIZES = {"emails": 50_000}
BATCH = 1_000
COMMIT_EVERY = 50
_WARM: tuple[str, None, dict[str, object], dict[str, object]] = ("lead@example.com", None, {}, {})
CLAIMABLE = "SELECT coalesce(sum(size - position), 0) FROM outbox WHERE state = 'ready' AND due_at <= now()"


def run(args: Namespace) -> Answer:
    """All into an empty store, one after the other."""
    with (
        server(args.edition, redis=True) as house,
        psycopg.connect(house.database_url) as conn,
        sending.runtime(house) as runtime,
        sending.collecting_seldom(),
    ):
        opened = stream.open_stream(runtime, conn, NOWHERE)
        ours = _ours(house, runtime, opened, args.emails)
        asked = stream.new_messages(opened, args.emails)
        rivals = {"dramatiq": _dramatiq(house, asked), "rows": _rows(house, asked)}
    return Answer(
        settings=house.settings | {"emails": args.emails},
        ours=ours,
        rivals=rivals,
        reach={"emails_per_s_vs_dramatiq": reach(10, ours["emails_per_s"] / rivals["dramatiq"]["emails_per_s"])},
    )


def _ours(house: Server, runtime: Runtime, opened: Open, emails: int) -> Figures:
    say("ours")
    batches = [
        stream.new_messages(opened, min(BATCH, emails - first), first=first) for first in range(0, emails, BATCH)
    ]
    _accept(runtime, opened, stream.new_messages(opened, 1))  # as in a process that has taken some before
    range_messages.cut_due(runtime)
    with Wal(house.database_url) as wal, Watch() as watch:
        for batch in batches:
            _accept(runtime, opened, batch)
        accepted = watch.elapsed
        range_messages.cut_due(runtime)
    with psycopg.connect(house.database_url) as conn:
        row = conn.execute(CLAIMABLE).fetchone()
    assert row is not None and int(str(row[0])) == emails + 1, f"{row} can be claimed, not {emails + 1}."
    return {
        "emails_per_s": emails / watch.seconds,
        "seconds": watch.seconds,
        "accept_seconds": accepted,
        "cpu_us_per_email": watch.cpu_seconds * 1e6 / emails,
        "wal_bytes_per_email": wal.bytes / emails,
    }


def _accept(runtime: Runtime, opened: Open, batch: Sequence[NewMessage]) -> None:
    with runtime.db.begin() as conn:
        messages.accept(conn, opened.tenant.organisation_id, opened.tenant.user_id, batch)


def _dramatiq(house: Server, asked: list[NewMessage]) -> Figures:
    say("a Dramatiq message for each")
    broker = RedisBroker(url=house.redis_url, middleware=[])  # type: ignore[no-untyped-call]

    def send(to: str, template: str | None, data: object, metadata: object) -> None:
        """Never run: nobody consumes the queue."""

    actor = dramatiq.actor(broker=broker, queue_name="rival")(send)
    actor.send(*_WARM)
    with Watch() as watch:
        for each in asked:
            actor.send(each.to, each.template, each.data, each.metadata)
    broker.flush("rival")
    broker.close()
    return {
        "emails_per_s": len(asked) / watch.seconds,
        "seconds": watch.seconds,
        "cpu_us_per_email": watch.cpu_seconds * 1e6 / len(asked),
    }


def _rows(house: Server, asked: list[NewMessage]) -> Figures:
    say("a row for each")
    with psycopg.connect(house.database_url) as conn:
        conn.execute(JOBS)
        conn.execute("CREATE INDEX job_due ON job (status, send_at)")
        conn.commit()
        insert = 'INSERT INTO job VALUES (%s, \'queued\', now(), %s, \'{"first_name": "Ada", "plan": "pro"}\')'
        with Wal(house.database_url) as wal, Watch() as watch:
            for first in range(0, len(asked), COMMIT_EVERY):
                rows = [(first + n, each.to) for n, each in enumerate(asked[first : first + COMMIT_EVERY])]
                conn.cursor().executemany(insert, rows)
                conn.commit()
    return {
        "emails_per_s": len(asked) / watch.seconds,
        "seconds": watch.seconds,
        "cpu_us_per_email": watch.cpu_seconds * 1e6 / len(asked),
        "wal_bytes_per_email": wal.bytes / len(asked),
    }
