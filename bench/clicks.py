"""Clicks through the web process of the Procfile, answered from memory, against an INSERT for each.

One gunicorn worker with sixteen threads on one core; everything else (whoever clicks, PostgreSQL) on the others.
Connections are kept open, as a reverse proxy does; `fresh` opens one for each click. Measured until every click is in
the database; then they are read into the record, and how fast that goes is measured too.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from app.errors import Unavailable
from app.flows import launch, track
from app.runtime import Runtime
from bench import prefill, sending
from bench.harness import Answer, Figures, Server, Watch, family, reach, say, server
from bench.process import cpu_seconds, web_process

SIZES = {"clicks": 30_000, "leads": 20_000}
TARGET = 2_000.0
CONNECTIONS = 16
LINKS = 5  # of the benchmarks' letter
AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"
HAND_OFFS = """
INSERT INTO handoff (range_id, campaign_id, pool_id, run, state, key, lead_ids, outcomes, handed_at, settled_at)
SELECT outbox.id, campaign_id, %(pool)s, 1, 'settled', gen_random_uuid(), lead_ids[place : place + 49],
       repeat('s', cardinality(lead_ids[place : place + 49])), now() - interval '1 hour', now() - interval '1 hour'
  FROM outbox
 CROSS JOIN generate_series(1, size, 50) AS place
"""


@dataclass(frozen=True, slots=True)
class Web:
    """A web process: where it listens, and which it is."""

    port: int
    pid: int


def run(args: Namespace) -> Answer:
    """The same clicks for both."""
    with server(args.edition) as house, sending.runtime(house) as runtime:
        campaign_id, lead_ids = _campaign(house, runtime, args.leads)
        paths = _paths(runtime, campaign_id, lead_ids, args.clicks)
        core = _cores()
        say("ours")
        with _web(house, "web:create_app()", core) as web:
            ours = _measure(house, web, paths)
            fresh = _measure(house, web, paths[: len(paths) // 4], fresh=True)
        ours |= {"fresh_clicks_per_s": fresh["clicks_per_s"]} | _read(house, runtime)
        say("an INSERT for each click")
        with _web(house, "bench.click_rival:create_rival()", core) as web:
            rival = _measure(house, web, paths)
    return Answer(
        settings=house.settings | {"clicks": args.clicks, "leads": args.leads, "connections": CONNECTIONS},
        ours=ours,
        rivals={"insert_each": rival},
        reach={
            "clicks_per_s": reach(TARGET, ours["clicks_per_s"]),
            "clicks_per_s_vs_insert_each": reach(1.5, ours["clicks_per_s"] / rival["clicks_per_s"]),
            "read_per_s": reach(TARGET, ours["read_per_s"]),
        },
    )


def _campaign(house: Server, runtime: Runtime, leads: int) -> tuple[int, list[int]]:
    """A campaign that was sent an hour ago, tracked, with all of its hand-offs; its id, and its leads."""
    with psycopg.connect(house.database_url) as conn:
        tenant = prefill.create_tenant(conn)
        prefill.create_leads(conn, tenant, leads)
        campaign_id = sending.create_campaign(runtime, tenant, "sink+http://127.0.0.1:9")
        conn.execute("UPDATE campaign SET track_clicks = 'on'")
        conn.commit()
        launch.launch(runtime, tenant.organisation_id, campaign_id)
        conn.execute(HAND_OFFS, {"pool": 1})
        conn.commit()
        return campaign_id, [int(str(row[0])) for row in conn.execute("SELECT id FROM lead ORDER BY id")]


def _paths(runtime: Runtime, campaign_id: int, lead_ids: Sequence[int], clicks: int) -> list[bytes]:
    """Requests for links of leads drawn from all."""
    draw, token = random.Random(1), runtime.tracking.signer(campaign_id)
    head = f"HTTP/1.1\r\nHost: news.example.com\r\nUser-Agent: {AGENT}\r\nAccept: text/html\r\n"
    return [f"GET /t/{token(draw.choice(lead_ids))}/{draw.randint(1, LINKS)} {head}".encode() for _ in range(clicks)]


def _cores() -> set[int] | None:
    """The web's one core; None where there is only one for all."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    os.sched_setaffinity(0, set(cores[1:]))
    return {cores[0]}


@contextmanager
def _web(house: Server, application: str, core: set[int] | None) -> Iterator[Web]:
    with web_process(house, sending.environment(house), application) as (port, pid):
        if core:
            for each in family(pid):
                for thread in Path(f"/proc/{each}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), core)
        yield Web(port, pid)


def _measure(house: Server, web: Web, requests: Sequence[bytes], *, fresh: bool = False) -> Figures:
    """Clicks a second until all of them are in the database; each must have been led to its link."""
    with psycopg.connect(house.database_url, autocommit=True) as conn:
        before = _waiting(conn)
        cpu = cpu_seconds(web.pid)
        times: list[list[float]] = [[] for _ in range(CONNECTIONS)]
        with Watch() as watch:
            threads = [
                threading.Thread(target=_click, args=(web.port, requests[at::CONNECTIONS], times[at], fresh))
                for at in range(CONNECTIONS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            answered = watch.elapsed
            while _waiting(conn) < before + len(requests) and watch.elapsed < answered + 30:
                time.sleep(0.02)
        kept = _waiting(conn) - before
    took = sorted(each for part in times for each in part)
    if len(took) != len(requests) or kept != len(requests):
        raise Unavailable(f"Of {len(requests):,} clicks {len(took):,} were led on, and {kept:,} are in the database.")
    return {
        "clicks_per_s": len(requests) / watch.seconds,
        "clicks_per_web_cpu_s": len(requests) / (cpu_seconds(web.pid) - cpu),
        "median_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[len(took) * 99 // 100] * 1000,
    }


def _click(port: int, requests: Sequence[bytes], times: list[float], fresh: bool) -> None:
    line: socket.socket | None = None
    end = b"Connection: close\r\n\r\n" if fresh else b"\r\n"
    for request in requests:
        began = time.perf_counter()
        line = line or socket.create_connection(("127.0.0.1", port), timeout=30)
        line.sendall(request + end)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = line.recv(4096)
            if not piece:
                return
            answer += piece
        if not answer.startswith(b"HTTP/1.1 302") or b"Location: https://news.example.com/" not in answer:
            return
        times.append(time.perf_counter() - began)
        if fresh:
            line.close()
            line = None
    if line is not None:
        line.close()


def _waiting(conn: psycopg.Connection[tuple[object, ...]]) -> int:
    row = conn.execute("SELECT count(*) FROM hit").fetchone()
    assert row is not None
    return int(str(row[0]))


def _read(house: Server, runtime: Runtime) -> Figures:
    """Hits into events, a second."""
    with Watch() as watch:
        total, read = 0, 1
        while read:
            read = track.read_hits(runtime, wait=-60)
            total += read
    return {"read_per_s": total / watch.seconds}
