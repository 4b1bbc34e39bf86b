"""Messages over HTTP: a thousand to a request, one to a request, and one at a time while a campaign sends.

The web process of the Procfile, with `--web` workers, takes `--messages` messages of a template in posts of 1,000 over
two connections, each a transaction of its own, then a twentieth as many in posts of one over eight connections. Then
`--rate` posts of one a second for `--seconds`, each begun at its time whatever became of the one before it: on an idle
machine, and beside a campaign to `--leads` leads that a worker and a clock send through a sink with 200 ms of latency.
Latencies count from the time at which a post was due. delay is the time from a message's answer until the sink had it,
by the sink's clock.

The rival, `task_queue`, is the same web server with a row and a Dramatiq message for each message.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import psycopg

from app.errors import MillraceError
from app.flows import api_keys, launch
from app.message_ids import FIRST, from_public
from app.runtime import Runtime
from bench import api_rival, prefill, sending, stream
from bench.harness import Answer, Figures, Server, Watch, reach, say, server
from bench.paced import Paced, post_at_rate
from bench.process import Sink, cpu_seconds, sink, started, web_process
from bench.stream import Open

SIZES = {"messages": 100_000, "leads": 400_000}
POST = 1_000
BATCHING, SINGLE = 2, 8  # connections
PATH = "/api/v1/messages"
OURS = "web:create_app()"
RIVAL = "bench.api_rival:create_rival()"
LATENCY = 0.2  # seconds that the sink takes
SENT = "SELECT coalesce(sum(sent), 0) FROM outbox WHERE NOT message"


@dataclass(frozen=True, slots=True)
class Door:
    """A web process that takes messages."""

    url: str
    pid: int
    headers: Mapping[str, str]


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--web", type=int, default=2, help="workers of the web process (default 2)")
    parser.add_argument("--rate", type=int, default=100, help="posts of one message a second (default 100)")
    parser.add_argument("--seconds", type=int, default=20, help="for how long (default 20)")


def run(args: Namespace) -> Answer:
    """Ours, then the rival's web process on the same server."""
    with server(args.edition, redis=True) as house, ExitStack() as stack:
        log = house.folder / "accepted.log"
        peer = stack.enter_context(sink(house, LATENCY, "--log", str(log)))
        runtime = stack.enter_context(sending.runtime(house))
        conn = stack.enter_context(psycopg.connect(house.database_url))
        opened = stream.open_stream(runtime, conn, peer.provider_url)
        say(f"{args.leads:,} leads")
        prefill.create_leads(conn, opened.tenant, args.leads)
        with _door(house, runtime, opened, OURS, args.web) as door:
            say("ours")
            ours = _taken(door, opened, args.messages)
            ours |= _latencies(house, runtime, door, opened, peer, log, args)
        conn.execute(api_rival.TABLE)
        conn.commit()
        with _door(house, runtime, opened, RIVAL, args.web) as door:
            say("a task queue")
            rival = _taken(door, opened, args.messages // 5)
            idle = _paced(door, opened, args.rate, args.seconds)
            rival |= {"single_median_ms": idle.ms(0.5), "single_p99_ms": idle.ms(0.99)}
    aims = {
        "messages_per_s": reach(10_000, ours["messages_per_s"]),
        "single_beside_sending_p99_ms": reach(3 * ours["single_p99_ms"], ours["single_beside_sending_p99_ms"]),
        "delay_beside_sending_most_seconds": reach(2.0, ours["delay_beside_sending_most_seconds"]),
    }
    names = ("messages", "leads", "web", "rate", "seconds")
    settings = house.settings | {name: getattr(args, name) for name in names}
    return Answer(settings, ours, {"task_queue": rival}, aims)


@contextmanager
def _door(house: Server, runtime: Runtime, opened: Open, application: str, workers: int) -> Iterator[Door]:
    tenant = opened.tenant
    key = api_keys.create(
        runtime, tenant.organisation_id, tenant.user_id, application, ["messages:send"], api_keys.MOST_PER_MINUTE
    )
    headers = {"authorization": f"Bearer {key.secret}", "content-type": "application/json"}
    with web_process(house, sending.environment(house), application, workers) as (port, pid):
        yield Door(f"http://127.0.0.1:{port}{PATH}", pid, headers)


def _taken(door: Door, opened: Open, messages: int) -> Figures:
    """Messages a second, a thousand to a post and one to a post."""
    few = max(messages // 20, SINGLE)
    batches = [_body(opened, first, min(POST, messages - first)) for first in range(0, messages, POST)]
    singles = [_body(opened, first, 1) for first in range(few)]
    _post_all(door, [_body(opened, 0, POST)] * 2 * BATCHING, BATCHING)  # as after a minute's work
    before = cpu_seconds(door.pid)
    batched = _post_all(door, batches, BATCHING)
    spent = cpu_seconds(door.pid) - before
    single = _post_all(door, singles, SINGLE)
    alone = cpu_seconds(door.pid) - before - spent
    return {
        "messages_per_s": messages / batched,
        "web_cpu_us_per_message": spent * 1e6 / messages,
        "singles_per_s": few / single,
        "web_cpu_us_per_single": alone * 1e6 / few,
    }


def _body(opened: Open, first: int, number: int) -> bytes:
    """One message is a JSON object, several are a list."""
    asked = [
        {"to": each.to, "template": each.template, "data": each.data, "metadata": each.metadata}
        for each in stream.new_messages(opened, number, first=first)
    ]
    return orjson.dumps(asked if number > 1 else asked[0])


def _post_all(door: Door, bodies: Sequence[bytes], connections: int) -> float:
    """Every body once; in seconds."""

    def post(mine: Sequence[bytes]) -> None:
        with httpx.Client(headers=dict(door.headers), timeout=60) as client:
            for body in mine:
                _answered(client.post(door.url, content=body))

    with ThreadPoolExecutor(connections) as threads, Watch() as watch:
        list(threads.map(post, [bodies[at::connections] for at in range(connections)]))
    return watch.seconds


def _answered(reply: httpx.Response) -> list[object]:
    if reply.status_code != 202:
        raise MillraceError(f"A post was answered {reply.status_code}: {reply.text[:300]}")
    ids: list[object] = reply.json()["ids"]
    return ids


def _paced(door: Door, opened: Open, rate: int, seconds: int) -> Paced:
    bodies = [_body(opened, n, 1) for n in range(rate * seconds)]
    return post_at_rate(door.url, door.headers, bodies, rate)


def _latencies(
    house: Server, runtime: Runtime, door: Door, opened: Open, peer: Sink, log: Path, args: Namespace
) -> Figures:
    """On an idle machine; then, when everything that was accepted so far has left, beside a campaign."""
    say(f"{args.rate} a second, alone")
    idle = _paced(door, opened, args.rate, args.seconds)
    with ExitStack() as stack:
        stack.enter_context(started(["cli", "clock"], sending.environment(house), house.folder / "clock.log"))
        stack.enter_context(sending.workers(house, 1, runtime.settings.worker_threads))
        sending.wait_until(house, "SELECT NOT EXISTS (SELECT FROM outbox WHERE state IN ('ready', 'leased'))", 600)
        say(f"{args.rate} a second, beside a campaign to {args.leads:,}")
        campaign_id = sending.create_campaign(runtime, opened.tenant, peer.provider_url)
        launch.launch(runtime, opened.tenant.organisation_id, campaign_id)
        time.sleep(1)
        began, before = time.time(), _count(house, SENT)
        beside = _paced(door, opened, args.rate, args.seconds)
        sent, seconds = _count(house, SENT) - before, time.time() - began
        delays = _delays(log, beside.ids(), wait=30)
    return {
        "single_median_ms": idle.ms(0.5),
        "single_p99_ms": idle.ms(0.99),
        "single_sent_late_p99_ms": idle.late_ms(0.99),
        "single_beside_sending_median_ms": beside.ms(0.5),
        "single_beside_sending_p99_ms": beside.ms(0.99),
        "single_beside_sending_sent_late_p99_ms": beside.late_ms(0.99),
        "campaign_emails_per_s_meanwhile": sent / seconds,
        "delay_beside_sending_median_seconds": delays[len(delays) // 2],
        "delay_beside_sending_most_seconds": delays[-1],
    }


def _count(house: Server, question: str) -> int:
    with psycopg.connect(house.database_url) as conn:
        row = conn.execute(question.encode()).fetchone()
    assert row is not None
    return int(str(row[0]))


def _delays(log: Path, ids: Mapping[str, float], wait: float) -> list[float]:
    """Seconds from each message's answer until the sink had it, in order; waits for the last ones."""
    answered = {from_public(each) or 0: at for each, at in ids.items()}
    until = time.monotonic() + wait
    while (missing := answered.keys() - (arrived := _arrived(log)).keys()) and time.monotonic() < until:
        time.sleep(0.5)
    if missing:
        raise MillraceError(f"{len(missing)} of {len(answered)} messages did not reach the sink.")
    return sorted(max(0.0, arrived[each] - at) for each, at in answered.items())


def _arrived(log: Path) -> dict[int, float]:
    """Message -> when the sink accepted it."""
    found: dict[int, float] = {}
    with log.open() as lines:
        for line in lines:
            *_, leads, at = line.split()
            found.update((int(lead), float(at)) for lead in leads.split(",") if int(lead) >= FIRST)
    return found
