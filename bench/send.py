"""Emails a second, launched to finished, through a real HTTP peer, against the same work without our database.

A campaign of 3 KB of personalised HTML goes to `--leads` leads through `millrace sink` in a process of its own, sent by
real worker processes beside a real clock, over the embedded servers. Measured from the call of `launch` until the
campaign is `finished`; the sink must have counted every lead once.

Rivals: `no_database` composes and posts the same letters in one process from leads in memory, with as many threads
and calls at once as a worker has. `old_design` is the usual thread of a campaign, into an empty email table: select 50
leads that have no row yet, compose, insert 50 rows, post, update 50 rows. Both stop after `--rival-seconds`.
"""

from __future__ import annotations

import gc
import time
from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg

from app.errors import MillraceError
from app.flows import launch
from app.models.template import LeadView
from app.runtime import Runtime
from bench import old_design, prefill, sending
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.old_design import Email
from bench.prefill import Tenant
from bench.process import Memory, Sink, cpu_seconds, postgres_pid, sink, started
from bench.sending import Poster, composing

SIZES = {"leads": 200_000}
PAGE = 1000
BATCH = 50


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each of the sink's replies")
    parser.add_argument("--rival-seconds", type=float, default=60.0, help="a rival is stopped after this (default 60)")
    parser.add_argument("--no-rivals", action="store_true", help="ours alone")


def run(args: Namespace) -> Answer:
    """Ours with the worker processes asked for, then the rivals with one process each."""
    with server(args.edition, redis=True) as house, sink(house, args.latency) as peer:
        with psycopg.connect(house.database_url) as conn:
            say(f"{args.leads:,} leads")
            tenant = prefill.create_tenant(conn)
            prefill.create_leads(conn, tenant, args.leads)
        ours = _ours(house, peer, tenant, args.leads, args.workers)
        rivals = {} if args.no_rivals else _rivals(house, peer, tenant, args.rival_seconds)
    names = ("leads", "workers", "latency")
    return Answer(
        settings=house.settings | {name: getattr(args, name) for name in names},
        ours=ours,
        rivals=rivals,
        reach=_reach(args, ours, rivals),
    )


def _reach(args: Namespace, ours: Figures, rivals: dict[str, Figures]) -> dict[str, Figures]:
    aims = {"peak_rss_mb": reach(200, ours["peak_rss_mb"])}
    if args.latency:
        return aims | {"emails_per_s": reach(4_000 * args.workers * min(0.2 / args.latency, 1), ours["emails_per_s"])}
    aims["seconds"] = reach(120 * args.leads / 1_000_000, ours["seconds"])
    if rivals and args.workers == 1:
        ratio = ours["emails_per_s"] / rivals["no_database"]["emails_per_s"]
        aims["emails_per_s_vs_no_database"] = reach(0.6, ratio)
    return aims


def _ours(house: Server, peer: Sink, tenant: Tenant, leads: int, workers: int) -> Figures:
    say(f"ours, {workers} worker process{'es' if workers > 1 else ''}")
    with ExitStack() as stack:
        runtime = stack.enter_context(sending.runtime(house))
        campaign_id = sending.create_campaign(runtime, tenant, peer.provider_url)
        variables = sending.environment(house)
        stack.enter_context(started(["cli", "clock"], variables, house.folder / "clock.log"))
        worker = stack.enter_context(sending.workers(house, workers, runtime.settings.worker_threads))
        pids = {"worker": worker.pid, "sink": peer.pid, "postgres": postgres_pid(house)}
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        with Wal(house.database_url) as wal, Memory(worker.pid) as memory, Watch() as watch:
            launch.launch(runtime, tenant.organisation_id, campaign_id)
            launched = watch.elapsed
            _wait_until_finished(house, campaign_id)
        spent = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        stats = peer.stats()
    if stats["distinct"] != leads or stats["duplicates"]:
        raise MillraceError(
            f"The sink counted {stats['distinct']} leads and {stats['duplicates']} duplicates, not {leads}."
        )
    return {
        "emails_per_s": leads / watch.seconds,
        "seconds": watch.seconds,
        "launch_seconds": launched,
        "peak_rss_mb": memory.peak_mb,
        **memory.flatness,
        "wal_bytes_per_email": wal.bytes / leads,
        **{f"{name}_cpu_us_per_email": seconds * 1e6 / leads for name, seconds in spent.items()},
    }


def _wait_until_finished(house: Server, campaign_id: int) -> None:
    sending.wait_until(house, f"SELECT state = 'finished' FROM campaign WHERE id = {campaign_id}", 3600)


def _rivals(house: Server, peer: Sink, tenant: Tenant, seconds: float) -> dict[str, Figures]:
    with sending.runtime(house) as runtime:
        with composing(runtime, peer.provider_url, tenant) as ready:
            peer.reset()
            no_database = _no_database(house, runtime, ready, seconds)
        with composing(runtime, peer.provider_url, tenant) as ready:
            peer.reset()
            return {"no_database": no_database, "old_design": _old_design(house, tenant, ready, seconds)}


def _no_database(house: Server, runtime: Runtime, ready: Poster, seconds: float) -> Figures:
    say("without a database")
    with psycopg.connect(house.database_url) as conn:
        rows = conn.execute("SELECT id, email, time_zone, attributes FROM lead ORDER BY id").fetchall()
    leads = [LeadView(*row) for row in rows]
    gc.freeze()  # millions of leads in memory would be looked through again and again
    pages = iter([leads[first : first + PAGE] for first in range(0, len(leads), PAGE)])
    until = time.monotonic() + seconds

    def loop() -> int:
        sent = 0
        for page in pages:
            letters, _ = ready.composer.compose(page)
            calls = [runtime.calls.submit(ready.post, letters[at : at + BATCH]) for at in range(0, len(letters), BATCH)]
            sent += sum(len(call.result()) for call in calls)
            if time.monotonic() > until:
                break
        return sent

    threads = runtime.settings.worker_threads
    with ThreadPoolExecutor(threads) as pool, Watch() as watch:
        sent = sum(loop.result() for loop in [pool.submit(loop) for _ in range(threads)])
    gc.unfreeze()
    return {"emails_per_s": sent / watch.seconds, "seconds": watch.seconds, "emails": sent} | _cpu(watch, sent)


UNSENT = """
SELECT id, email, time_zone, attributes
  FROM lead
 WHERE organisation_id = %s
   AND status = 'active'
   AND id > %s
   AND NOT EXISTS (SELECT FROM email WHERE email.lead_id = lead.id AND email.campaign_id = 1)
 ORDER BY id
 LIMIT 50
"""


def _old_design(house: Server, tenant: Tenant, ready: Poster, seconds: float) -> Figures:
    say("the old design")
    sent = last = 0
    with psycopg.connect(house.database_url) as conn:
        old_design.create(conn, rows=0)
        until = time.monotonic() + seconds
        with Wal(house.database_url) as wal, Watch() as watch:
            while time.monotonic() < until:
                rows = conn.execute(UNSENT, [tenant.organisation_id, last], prepare=True).fetchall()
                if not rows:
                    break
                leads = [LeadView(*row) for row in rows]
                _send_fifty(conn, ready, leads, tenant)
                sent, last = sent + len(leads), leads[-1].id
    return {
        "emails_per_s": sent / watch.seconds,
        "seconds": watch.seconds,
        "emails": sent,
        "wal_bytes_per_email": wal.bytes / sent,
    } | _cpu(watch, sent)


def _cpu(watch: Watch, emails: int) -> Figures:
    """A rival's work is done in this process."""
    return {"worker_cpu_us_per_email": watch.cpu_seconds * 1e6 / emails}


def _send_fifty(conn: old_design.Connection, ready: Poster, leads: list[LeadView], tenant: Tenant) -> None:
    letters, _ = ready.composer.compose(leads)
    emails = [Email(1, tenant.user_id, letter.lead_id, letter.address, ready.subject) for letter in letters]
    ids = old_design.insert(conn, emails, "queued")
    old_design.mark_sent(conn, ids, ready.post(letters))
