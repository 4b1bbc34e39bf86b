"""The world that faults happen to: real servers and processes, one sink, one pool and some campaigns a character."""

from __future__ import annotations

import secrets
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import psycopg
import redis

from app.errors import Conflict, Unavailable
from app.flows import edit_campaign, launch, pools, segments, senders, steer
from app.flows.edit_campaign import Draft
from app.runtime import Runtime
from bench import letter, prefill, sending
from bench.fault_processes import Processes
from bench.fault_schedule import WORKERS
from bench.harness import Server, say
from bench.prefill import Tenant
from bench.process import Sink, sink

T = TypeVar("T")
KEYS_FOR = 3600  # seconds that a sink with keys honours one
TOLD_TWICE = 0.1  # share of webhooks that come twice
PATIENCE = 60.0  # seconds that a person tries again while the database is away


def _where(name: str, value: object) -> dict[str, object]:
    return {"combinator": "and", "rules": [{"field": f"attributes.{name}", "operator": "=", "value": value}]}


PLAN_PRO, AGED_20 = _where("plan", "pro"), _where("age", 20)  # a fifth of the leads, and a sixtieth
# The campaigns of a character: who they go to, and when they are launched, as a share of the time.
CAMPAIGNS = {"big": (None, 0.0), "small": (AGED_20, 0.33), "cancelled": (PLAN_PRO, 0.5)}


HANDED = """
SELECT handoff.id, cardinality(handoff.lead_ids)
  FROM handoff
  JOIN outbox
    ON outbox.id = handoff.range_id
  LEFT JOIN process
    ON process.id = outbox.owner
 WHERE handoff.state = 'handed'
   AND (%s OR process.pid = ANY(%s) OR process.id IS NULL)
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the world sends: so that the work lasts as long as the faults do."""

    lease: float
    deadline: float
    range_size: int
    batch: int
    latency: float


@dataclass(slots=True)
class Character:
    """A provider of one character, and what is sent through it."""

    name: str
    sink: Sink
    log: Path
    pool_id: int
    sender_id: int
    campaigns: dict[str, int] = field(default_factory=dict)

    @property
    def ids(self) -> list[int]:
        return list(self.campaigns.values())


@dataclass(slots=True)
class World:
    """Everything, and the person at the keyboard."""

    house: Server
    runtime: Runtime
    tenant: Tenant
    pace: Pace
    processes: Processes
    characters: dict[str, Character]

    def ask(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Rows of one statement, on a connection of its own; waits while the database is away."""

        def once() -> list[tuple[object, ...]]:
            with psycopg.connect(self.house.database_url, autocommit=True, connect_timeout=5) as conn:
                cursor = conn.execute(query.encode(), values)
                return cursor.fetchall() if cursor.description else []

        return patiently(once, psycopg.OperationalError)

    def standing(self, pids: Sequence[int] | None = None) -> dict[int, int]:
        """Hand-offs that are not settled: id -> leads. Of all workers, or of the one with these processes.

        A worker that was not up for a second has not said its number yet; what nobody else holds is taken for its own.
        """
        rows = self.ask(HANDED, pids is None, list(pids or ()))
        return {int(str(handoff_id)): int(str(leads)) for handoff_id, leads in rows}

    def launch(self, name: str, kind: str) -> int:
        """Writes and launches a campaign through the product, as a person does, who tries again when told to."""
        character = self.characters[name]
        condition = CAMPAIGNS[kind][0]

        def create() -> int:
            title = f"{name} {kind} {secrets.token_hex(4)}"
            organisation_id = self.tenant.organisation_id
            segment_id = segments.create(self.runtime, organisation_id, title, condition) if condition else None
            draft = Draft(title, character.sender_id, segment_id, letter.SUBJECT, letter.HTML, letter.TEXT)
            return edit_campaign.create(self.runtime, organisation_id, self.tenant.user_id, draft)

        campaign_id = character.campaigns[kind] = patiently(create, Unavailable)
        self.steer(launch.launch, campaign_id)
        return campaign_id

    def steer(self, verb: Callable[[Runtime, int, int], object], campaign_id: int) -> bool:
        """Pause, resume, cancel: whether it was legal in the campaign's state."""
        try:
            patiently(lambda: verb(self.runtime, self.tenant.organisation_id, campaign_id), Unavailable)
        except Conflict:
            return False
        return True

    def help_out(self) -> int:
        """What the product asks a person for: campaigns with quarantined ranges are resumed; how many were."""
        asked = self.ask("SELECT DISTINCT campaign_id FROM outbox WHERE state = 'quarantined'")
        helped = 0
        for (campaign_id,) in asked:
            self.steer(steer.pause, int(str(campaign_id)))
            helped += self.steer(steer.resume, int(str(campaign_id)))
        for (pool_id,) in self.ask("SELECT id FROM pool WHERE state = 'paused' AND resume_at IS NULL"):
            pool = int(str(pool_id))
            patiently(lambda pool=pool: pools.resume_pool(self.runtime, self.tenant.organisation_id, pool), Unavailable)
            helped += 1
        return helped

    def restart_postgres(self) -> None:
        """An immediate shutdown and a start that recovers from the log, as after a crash of the machine's server."""
        self.house.stack.postgres.break_off()
        self.house.stack.postgres.start()

    def cut_backends(self) -> None:
        """Ends every session of Millrace's processes in the middle of what it does."""
        self.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'millrace%%' AND pid <> pg_backend_pid()"
        )

    def flush_valkey(self) -> None:
        with redis.Redis.from_url(self.house.redis_url, socket_timeout=5) as client:
            try:
                client.flushall()
            except redis.ConnectionError:
                say("Valkey was away when it was to be flushed")

    def web_answers(self) -> bool:
        """Whether the web process is healthy."""
        try:
            return httpx.get(f"{self.runtime.settings.base_url}/healthz", timeout=0.5).status_code == 200
        except httpx.HTTPError:
            return False


def patiently(act: Callable[[], T], *errors: type[Exception]) -> T:
    """What `act` gives; one of `errors` is waited out, for a minute at most."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return act()
        except errors:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@contextmanager
def world(house: Server, leads: int, names: Sequence[str], pace: Pace) -> Iterator[World]:
    """Servers with `leads` leads, running processes, and a sink of each character; nothing launched yet."""
    port = _free_port()
    variables = sending.environment(
        house,
        PORT=str(port),
        BIND="127.0.0.1",
        BASE_URL=f"http://127.0.0.1:{port}",
        MILLRACE_LEASE=str(pace.lease),
        MILLRACE_CALL_DEADLINE=str(pace.deadline),
        MILLRACE_LOOK_EVERY="1",
        MILLRACE_RANGE_SIZE=str(pace.range_size),
        MILLRACE_WORKER_THREADS="2",
    )
    with psycopg.connect(house.database_url) as conn:
        tenant = prefill.create_tenant(conn)
        prefill.create_leads(conn, tenant, leads)
    with ExitStack() as stack:
        settings = {name: variables[name] for name in variables if name.startswith("MILLRACE_") or "URL" in name}
        runtime = stack.enter_context(sending.runtime(house, **settings))
        processes = Processes(variables, house.folder, WORKERS)
        built = World(house, runtime, tenant, pace, processes, {})
        for name in names:
            built.characters[name] = stack.enter_context(_character(built, name))
        processes.start()
        stack.callback(processes.stop)
        _await_processes(built)
        yield built


@contextmanager
def _character(built: World, name: str) -> Iterator[Character]:
    log = built.house.folder / f"accepted-{name}.log"
    keyed, told = name == "keys", name == "no_keys_webhooks"
    secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode() if told else None
    options = ["--log", str(log), "--batch", str(built.pace.batch), *(["--idempotent"] if keyed else [])]
    options += ["--webhook-secret", secret, "--webhook-repeat", str(TOLD_TWICE)] if secret else []
    organisation_id = built.tenant.organisation_id
    with sink(built.house, built.pace.latency, *options, name=f"sink-{name}") as peer:
        url = f"{peer.provider_url}?batch={built.pace.batch}" + (f"&idempotent={KEYS_FOR}" if keyed else "")
        pool_id = pools.add_pool(built.runtime, organisation_id, name, url, built.pace.batch, webhook_secret=secret)
        sender_id = senders.add_sender(built.runtime, organisation_id, pool_id, name, f"{name}@news.example.com")
        if told:
            ((token,),) = built.ask("SELECT webhook_token FROM pool WHERE id = %s", pool_id)
            peer.behave(webhook=pools.webhook_address(built.runtime, str(token), "sink"))
        yield Character(name, peer, log, pool_id, sender_id)


def _await_processes(built: World) -> None:
    until = time.monotonic() + 60
    beating = "SELECT count(*) FROM process WHERE kind IN ('worker', 'clock')"
    while built.ask(beating) != [(WORKERS + 1,)] or not built.web_answers():
        built.processes.look_after()
        if time.monotonic() > until:
            raise Unavailable("The processes did not start within a minute.")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
