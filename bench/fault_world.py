"""The world that faults happen to: real servers and processes, one sink, one pool and some campaigns a character."""

from __future__ import annotations

import secrets
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import httpx
import psycopg
import redis

from app.errors import Conflict, Unavailable
from app.flows import edit_campaign, launch, pools, segments, senders, steer
from app.flows.edit_campaign import Draft
from app.models.webhook import HEARD
from app.runtime import Runtime
from bench import letter, prefill, sending
from bench.fault_processes import Processes
from bench.fault_schedule import WORKERS
from bench.harness import Server, say
from bench.prefill import Tenant
from bench.process import Sink, sink

T = TypeVar("T")
KEYS_FOR = 3600  # seconds that a sink with keys honours one
TOLD = "no_keys_webhooks"
TOLD_TWICE = 0.1  # share of webhooks that come twice
PATIENCE = 60.0  # seconds that a person tries again while the database is away


def _where(name: str, value: object) -> dict[str, object]:
    return {"combinator": "and", "rules": [{"field": f"attributes.{name}", "operator": "=", "value": value}]}


PLAN_PRO, AGED_20 = _where("plan", "pro"), _where("age", 20)  # a fifth of the leads, and a sixtieth
# The campaigns of a character: who they go to, and when they are launched, as a share of the time.
CAMPAIGNS = {"big": (None, 0.0), "small": (AGED_20, 0.33), "cancelled": (PLAN_PRO, 0.5)}


HANDED = """
SELECT handoff.id, cardinality(handoff.lead_ids), outbox.owner, process.pid
  FROM handoff
  JOIN outbox
    ON outbox.id = handoff.range_id
  LEFT JOIN process
    ON process.id = outbox.owner
 WHERE handoff.state = 'handed'
"""
NUMBERS = "SELECT id, pid FROM process"
# As if so much time had passed since a pool's calls that nobody knows of, and since all that was heard of it.
AGE_CALLS = """
UPDATE handoff
   SET handed_at = handed_at - make_interval(secs => %s)
 WHERE pool_id = %s
   AND state = 'unknown'
"""
AGE_HEARD = "UPDATE pool_heard SET slot = slot - %s WHERE pool_id = %s"


@dataclass(frozen=True, slots=True)
class Held:
    """A hand-off that was under way when a worker was hit: its leads, who had it, and the worker's processes."""

    leads: int
    owner: object
    pids: frozenset[int]


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
    def told(self) -> bool:
        """Whether its provider tells of emails by webhooks; then its campaigns' policy is to send again."""
        return self.name == TOLD

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
    started_in: float = 0.0  # seconds that the processes took to come up: how fast this machine is now

    def ask(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Rows of one statement, on a connection of its own; waits while the database is away."""

        def once() -> list[tuple[object, ...]]:
            with psycopg.connect(self.house.database_url, autocommit=True, connect_timeout=5) as conn:
                cursor = conn.execute(query.encode(), values)
                return cursor.fetchall() if cursor.description else []

        return patiently(once, psycopg.OperationalError)

    def standing(self) -> set[int]:
        """Hand-offs that are not settled, of all workers."""
        return {int(str(handoff_id)) for handoff_id, _, _, _ in self.ask(HANDED)}

    def held_by(self, pids: Sequence[int]) -> dict[int, Held]:
        """Hand-offs that the worker with these processes has not settled.

        One that was not up for a second has not said its number yet: then what nobody known holds may be its own, as
        `own` tells in the end. A process that is no worker holds none.
        """
        rows, known = self.ask(HANDED), {pid for _, pid in self.ask(NUMBERS)}
        has_said = bool(known.intersection(pids))
        return {
            int(str(handoff_id)): Held(int(str(leads)), owner, frozenset(pids))
            for handoff_id, leads, owner, pid in rows
            if pid in pids or (pids and pid is None and not has_said)
        }

    def own(self, held: Mapping[int, Held]) -> dict[int, int]:
        """Those whose owner has not turned out to be somebody else since: id -> leads."""
        numbers = dict(self.ask(NUMBERS))
        return {
            handoff_id: each.leads for handoff_id, each in held.items() if numbers.get(each.owner) in (None, *each.pids)
        }

    def let_pass(self, pool_id: int, seconds: int) -> None:
        """Nothing more comes of a pool's unknown calls, and so much time passes."""
        self.ask(AGE_CALLS, seconds, pool_id)
        self.ask(AGE_HEARD, seconds // HEARD, pool_id)

    def launch(self, name: str, kind: str) -> int:
        """Writes and launches a campaign through the product, as a person does, who tries again when told to."""
        character = self.characters[name]
        condition = CAMPAIGNS[kind][0]

        def create() -> int:
            title = f"{name} {kind} {secrets.token_hex(4)}"
            organisation_id = self.tenant.organisation_id
            segment_id = segments.create(self.runtime, organisation_id, title, condition) if condition else None
            draft = Draft(title, character.sender_id, segment_id, letter.SUBJECT, letter.HTML, letter.TEXT)
            draft = replace(draft, unknown_policy="resend" if character.told else "hold")
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
        began = time.monotonic()
        processes.start()
        stack.callback(processes.stop)
        _await_processes(built)
        built.started_in = time.monotonic() - began
        yield built


@contextmanager
def _character(built: World, name: str) -> Iterator[Character]:
    log = built.house.folder / f"accepted-{name}.log"
    keyed, told = name == "keys", name == TOLD
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
