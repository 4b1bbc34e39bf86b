"""What providers report, from signed posts over HTTP to the report that shows it, against the old design's updates.

Posts in SendGrid's format, `--post` events each and signed by ECDSA, come over HTTP to the web process of the Procfile;
a tenth of them come twice. A worker process reads them: matched with their hand-offs, told from repeats, proven,
recorded, consequences drawn. Measured until the campaign's report shows every one of them; events_per_s counts repeats,
as the machine must. The old design finds the email of each event by the provider's id and updates its row, by eight
threads, and is spared HTTP and signatures; "by_post" commits once for a post. All on one server, with `--rows` rows of
the past on both sides.

Then emails a second through a sink with 200 ms of latency: alone, and while `--beside` events a second arrive.
"""

from __future__ import annotations

import random
import threading
import time
from argparse import ArgumentParser, Namespace
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event as Bell
from uuid import uuid4

import httpx
import orjson
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import MillraceError
from app.flows import launch, pools
from app.models import report, webhook
from app.providers.sendgrid import PREFIX
from app.providers.sendgrid_events import SIGNATURE, TIMESTAMP
from app.runtime import Runtime
from bench import old_design, prefill, sending
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.old_design import Email
from bench.prefill import Tenant
from bench.process import cpu_seconds, postgres_pid, sink, started, web_process

SIZES = {"rows": 2_000_000, "events": 400_000}
CALL = 50  # emails of a hand-off
THREADS = 8  # that post at once, and of the old design
LATENCY = 0.2  # seconds that the sink takes, beside which webhooks arrive
KINDS = ("delivered", "open", "click", "bounce", "spamreport")
WEIGHTS = (90, 28, 4, 2, 0.1)
Event = dict[str, object]

HAND_OFFS = """
WITH placed AS MATERIALIZED (
    SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM lead
), ranges AS (
    INSERT INTO outbox (campaign_id, run, state, due_at, size, position, sent, first_lead, last_lead, lead_ids)
    SELECT %(campaign)s, 1, 'done', now(), count(*), count(*), count(*), min(id), max(id), array_agg(id ORDER BY id)
      FROM placed
     GROUP BY place / 1000
    RETURNING id, first_lead
), calls AS (
    SELECT array_agg(id ORDER BY id) AS lead_ids, min(id) AS first FROM placed GROUP BY place / %(size)s
)
INSERT INTO handoff (range_id, campaign_id, pool_id, run, state, key, lead_ids, outcomes, settled_at)
SELECT (SELECT id FROM ranges WHERE first_lead <= calls.first ORDER BY first_lead DESC LIMIT 1),
       %(campaign)s, %(pool)s, 1, 'settled', gen_random_uuid(), lead_ids, repeat('s', cardinality(lead_ids)), now()
  FROM calls
"""
UPDATES = {
    "delivered": "UPDATE email SET status = 'delivered' WHERE provider_message_id = %s",
    "open": "UPDATE email SET opened_at = now() WHERE provider_message_id = %s",
    "click": "UPDATE email SET clicked_at = now() WHERE provider_message_id = %s",
    "bounce": "UPDATE email SET status = 'bounced', bounced_at = now(), error = '550' WHERE provider_message_id = %s",
    "spamreport": "UPDATE email SET status = 'complained' WHERE provider_message_id = %s",
}


@dataclass(frozen=True, slots=True)
class Post:
    """One signed body."""

    body: bytes
    headers: Mapping[str, str]
    events: int


@dataclass(frozen=True, slots=True)
class Door:
    """Where the posts of a campaign's pool go to, and what they are signed with."""

    campaign_id: int
    url: str
    key: ec.EllipticCurvePrivateKey
    handoffs: Sequence[tuple[int, list[int]]]


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--post", type=int, default=1000, help="events of a post (default 1,000)")
    parser.add_argument("--days", type=int, default=90, help="days over which the past is spread (default 90)")
    parser.add_argument("--beside", type=int, default=5000, help="events a second beside sending (default 5,000)")


def run(args: Namespace) -> Answer:
    """Both designs are told the same events, in the same order."""
    settings = {"wal_keep_size": "32GB"}
    with server(args.edition, redis=True, changed=settings) as house, _processes(house) as running:
        with psycopg.connect(house.database_url) as conn:
            tenant = prefill.create_tenant(conn)
            leads = max(args.events // 2, args.post)
            say(f"{leads:,} emails, handed over; {args.rows:,} events of the past")
            prefill.create_leads(conn, tenant, leads)
            prefill.create_events(conn, tenant, args.rows, days=args.days)
            sending.catch_up(house)
            old_design.create(conn, rows=args.rows, days=args.days)
            door = _hand_over(running, conn, tenant)
        told = tell(door, args.events)
        ours = _ours(house, running, tenant, door, _cut(told, args.post))
        ours |= _beside(house, running, tenant, door, args)
        rivals = _theirs(house, told, args.post)
    names = ("rows", "events", "post", "days", "beside")
    return Answer(
        settings=house.settings | {name: getattr(args, name) for name in names},
        ours=ours,
        rivals=rivals,
        reach={
            "events_per_s": reach(20_000, ours["events_per_s"]),
            "events_per_s_vs_old_design": reach(3, ours["events_per_s"] / rivals["old_design"]["events_per_s"]),
            "sending_beside_webhooks": reach(0.8, ours["emails_per_s_beside"] / ours["emails_per_s_alone"]),
        },
    )


@dataclass(frozen=True, slots=True)
class Running:
    """The processes that serve, by pid, and our own way to the database."""

    runtime: Runtime
    base: str
    pids: Mapping[str, int]


@contextmanager
def _processes(house: Server) -> Iterator[Running]:
    """Web, worker and clock as the Procfile starts them."""
    variables = sending.environment(house)
    with ExitStack() as stack:
        runtime = stack.enter_context(sending.runtime(house))
        stack.enter_context(started(["cli", "clock"], variables, house.folder / "clock.log"))
        command = ["dramatiq", "workers.main", "--processes", "1", "--threads", str(runtime.settings.worker_threads)]
        worker = stack.enter_context(started(command, variables, house.folder / "worker.log"))
        port, pid = stack.enter_context(web_process(house, variables))
        pids = {"web": pid, "worker": worker.pid, "postgres": postgres_pid(house)}
        yield Running(runtime, f"http://127.0.0.1:{port}", pids)


def _wait(question: Callable[[], bool], seconds: float, otherwise: str, every: float = 0.05) -> None:
    until = time.monotonic() + seconds
    while not question():
        if time.monotonic() > until:
            raise MillraceError(f"After {seconds:.0f} s {otherwise}.")
        time.sleep(every)


def _hand_over(running: Running, conn: psycopg.Connection[tuple[object, ...]], tenant: Tenant) -> Door:
    runtime, key = running.runtime, ec.generate_private_key(ec.SECP256R1())
    campaign_id = sending.create_campaign(runtime, tenant, "sendgrid://:SG.bench@127.0.0.1:9?tls=none")
    with runtime.db.begin() as ours:
        (door,) = webhook.list_doors(ours, tenant.organisation_id).values()
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pools.set_webhook_secret(runtime, tenant.organisation_id, door.pool_id, b64encode(public).decode())
    conn.execute(HAND_OFFS, {"campaign": campaign_id, "pool": door.pool_id, "size": CALL})
    conn.commit()
    prefill.vacuum(conn, "handoff")
    found = conn.execute("SELECT id, lead_ids FROM handoff ORDER BY id").fetchall()
    handoffs = [(int(str(each)), list(leads)) for each, leads in found]  # type: ignore[call-overload]
    return Door(campaign_id, f"{running.base}/webhooks/{door.token}/sendgrid", key, handoffs)


def tell(door: Door, events: int, seed: int = 1) -> list[Event]:
    """Events of emails drawn from all of them: those of one call do not come together."""
    draw = random.Random(seed)
    now = int(time.time())
    told: list[Event] = []
    for number, kind in enumerate(draw.choices(KINDS, WEIGHTS, k=events)):
        handoff_id, leads = draw.choice(door.handoffs)
        lead_id = draw.choice(leads)
        ids = {f"{PREFIX}handoff": str(handoff_id), f"{PREFIX}lead": str(lead_id), f"{PREFIX}run": "1"}
        event: Event = {
            "email": f"lead{lead_id}@example.com",
            "timestamp": now,
            "smtp-id": f"<{uuid4()}@example.com>",
            "event": kind,
            "category": ["millrace"],
            "sg_event_id": b64encode(f"{seed}-event-{number:012}".encode()).decode(),
            "sg_message_id": f"14c5d75ce93.dfd.{number}.filter0001.16648.5515E0B88.0",
        }
        told.append(event | ids | _about(kind))
    return told


def _about(kind: str) -> Event:
    match kind:
        case "delivered":
            return {"response": "250 OK"}
        case "bounce":
            return {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"}
        case "click":
            return {"url": "https://news.example.com/routes/mills", "useragent": "Mozilla/5.0", "ip": "192.0.2.1"}
        case _:
            return {"useragent": "Mozilla/5.0", "ip": "192.0.2.1"}


def _cut(told: Sequence[Event], size: int) -> list[Sequence[Event]]:
    return [told[first : first + size] for first in range(0, len(told), size)]


def _sign(door: Door, events: Sequence[Event]) -> Post:
    body, moment = orjson.dumps(events), str(int(time.time()))
    signature = b64encode(door.key.sign(moment.encode() + body, ec.ECDSA(SHA256()))).decode()
    headers = {SIGNATURE: signature, TIMESTAMP: moment, "content-type": "application/json"}
    return Post(body, headers, len(events))


def _ours(house: Server, running: Running, tenant: Tenant, door: Door, cut: Sequence[Sequence[Event]]) -> Figures:
    say("ours")
    posts = [_sign(door, events) for events in cut]
    expected = sum(post.events for post in posts)
    posts += posts[::10]
    before = {name: cpu_seconds(pid) for name, pid in running.pids.items()}
    with Wal(house.database_url) as wal, Watch() as watch, ThreadPoolExecutor(THREADS) as threads:
        with httpx.Client(limits=httpx.Limits(max_connections=THREADS), timeout=60) as client:
            list(threads.map(lambda post: _post(client, door, post), posts))
        kept = watch.elapsed
        _wait(lambda: _is_read(running), 600, "posts were not read")
        _wait(lambda: _reported(running, tenant, door) >= expected, 60, "the report did not show every event", 0.2)
    spent = {name: cpu_seconds(pid) - before[name] for name, pid in running.pids.items()}
    shown = _reported(running, tenant, door)
    if shown != expected:
        raise MillraceError(f"The report shows {shown} events, not {expected}.")
    posted = sum(post.events for post in posts)
    return {
        "events_per_s": posted / watch.seconds,
        "posted_events_per_s": posted / kept,
        "seconds": watch.seconds,
        "wal_bytes_per_event": wal.bytes / posted,
        **{f"{name}_cpu_us_per_event": seconds * 1e6 / posted for name, seconds in spent.items()},
    }


def _post(client: httpx.Client, door: Door, post: Post) -> None:
    client.post(door.url, content=post.body, headers=dict(post.headers)).raise_for_status()


def _is_read(running: Running) -> bool:
    with running.runtime.db.begin() as conn:
        return not webhook.find_waiting(conn)


def _reported(running: Running, tenant: Tenant, door: Door) -> int:
    """Events that the campaign's report counts."""
    with running.runtime.db.begin() as conn:
        seen = report.sum_campaign(conn, tenant.organisation_id, door.campaign_id)
    return seen.delivered + seen.opened + seen.clicked + seen.bounced + seen.complained + seen.opened_by_machines


def _beside(house: Server, running: Running, tenant: Tenant, door: Door, args: Namespace) -> Figures:
    """Emails a second while nothing arrives, and while `args.beside` events a second do."""
    with sink(house, LATENCY) as peer:
        alone = _send(running, tenant, peer.provider_url)
        say(f"sending while {args.beside:,} events a second arrive")
        size = min(args.post, max(args.beside // 4, 1))
        posts = [_sign(door, events) for events in _cut(tell(door, args.beside * 60, seed=2), size)]
        ended, posted = Bell(), [0]
        thread = threading.Thread(target=_arrive, args=(door, posts, size / args.beside, ended, posted))
        thread.start()
        try:
            began = time.monotonic()
            beside = _send(running, tenant, peer.provider_url)
            seconds = time.monotonic() - began
        finally:
            ended.set()
            thread.join()
    figures = {"emails_per_s_alone": alone, "emails_per_s_beside": beside}
    return figures | {"events_per_s_beside": posted[0] / seconds}


def _arrive(door: Door, posts: Sequence[Post], every: float, ended: Bell, posted: list[int]) -> None:
    due = time.monotonic()
    with httpx.Client(timeout=60) as client:
        for post in posts:
            due += every
            if ended.wait(max(0.0, due - time.monotonic())):
                return
            _post(client, door, post)
            posted[0] += post.events


def _send(running: Running, tenant: Tenant, provider_url: str) -> float:
    """Launched to finished, in emails a second."""
    runtime = running.runtime
    campaign_id = sending.create_campaign(runtime, tenant, provider_url)
    with Watch() as watch:
        launch.launch(runtime, tenant.organisation_id, campaign_id)
        _wait(lambda: _is_finished(runtime, campaign_id), 600, "a campaign was not finished")
    with runtime.db.begin() as conn:
        sent = report.sum_campaign(conn, tenant.organisation_id, campaign_id).sent
    return sent / watch.seconds


def _is_finished(runtime: Runtime, campaign_id: int) -> bool:
    with runtime.db.begin() as conn:
        return bool(conn.exec_driver_sql(f"SELECT state = 'finished' FROM campaign WHERE id = {campaign_id}").scalar())


def _theirs(house: Server, told: Sequence[Event], post: int) -> dict[str, Figures]:
    """Its emails have been sent before, and are not measured."""
    say("the old design")
    ids = {each[f"{PREFIX}lead"]: str(uuid4()) for each in told}
    emails = [Email(10**6, 1, int(str(lead)), f"lead{lead}@example.com", "News", ref) for lead, ref in ids.items()]
    with psycopg.connect(house.database_url) as conn:
        for first in range(0, len(emails), old_design.COMMIT_EVERY):
            old_design.insert(conn, emails[first : first + old_design.COMMIT_EVERY], "sent")
        old_design.vacuum(conn)
    posts = _cut(told, post)
    return {
        "old_design": _updated(house, posts, ids, commit_every=1),
        "old_design_by_post": _updated(house, posts, ids, commit_every=post),
    }


def _updated(
    house: Server, posts: Sequence[Sequence[Event]], ids: Mapping[object, str], *, commit_every: int
) -> Figures:
    """Each post's in the order of the ids, or two threads would wait for each other."""

    def update(mine: Sequence[Sequence[Event]]) -> None:
        with psycopg.connect(house.database_url) as conn:
            for post in mine:
                for number, each in enumerate(sorted(post, key=lambda event: ids[event[f"{PREFIX}lead"]]), 1):
                    conn.execute(UPDATES[str(each["event"])].encode(), [ids[each[f"{PREFIX}lead"]]], prepare=True)
                    if number % commit_every == 0:
                        conn.commit()
                conn.commit()

    with Wal(house.database_url) as wal, Watch() as watch, ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(update, [posts[at::THREADS] for at in range(THREADS)]))
    events = sum(map(len, posts))
    return {"events_per_s": events / watch.seconds, "wal_bytes_per_event": wal.bytes / events, "seconds": watch.seconds}
