"""What the benchmarks that send have in common: a process's runtime on their server, and a campaign to launch."""

from __future__ import annotations

import gc
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import psycopg

from app import config
from app.errors import MillraceError
from app.flows import edit_campaign, pools, segments, senders
from app.flows.compose import Composer
from app.flows.edit_campaign import Draft
from app.flows.refresh import refresh
from app.mail import Accepted, Letter
from app.models import campaign
from app.models.template import Compiled
from app.providers import Provider, open_provider
from app.runtime import Runtime
from bench import letter
from bench.harness import Server
from bench.prefill import Tenant
from bench.process import started
from cli.process import open_runtime


def environment(house: Server, **more: str) -> dict[str, str]:
    """The variables that Millrace's processes read, for `house`; `more` are set on top."""
    redis_url = house.redis_url or "redis://127.0.0.1:1/0"  # a benchmark without bells never asks for it
    ours = {"DATABASE_URL": house.database_url, "REDIS_URL": redis_url, "SECRET_KEY": "bench" * 8}
    return ours | {"MILLRACE_HOME": str(house.folder), "MILLRACE_LOG_LEVEL": "WARNING"} | more


@contextmanager
def runtime(house: Server, **more: str) -> Iterator[Runtime]:
    """What a process of Millrace holds open, for a benchmark that calls its flows directly."""
    settings = config.read(environment(house, **more))
    held = open_runtime(settings, name="bench") if house.redis_url else Runtime(settings, name="bench")
    try:
        yield held
    finally:
        held.close()


@contextmanager
def workers(house: Server, processes: int, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """Worker processes as the Procfile starts them, once all have beaten: they are booted then."""
    command = ["dramatiq", "workers.main", "--processes", str(processes), "--threads", str(threads)]
    with started(command, environment(house), house.folder / "worker.log") as worker:
        wait_until(house, f"SELECT count(*) >= {processes} FROM process WHERE kind = 'worker'", 60)
        yield worker


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Python's garbage is collected as in a worker or a web process: what is there stays there, and pages pass by."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def wait_until(house: Server, question: str, seconds: float) -> None:
    """Until the database says that it is so; raises MillraceError after `seconds`."""
    until = time.monotonic() + seconds
    with psycopg.connect(house.database_url, autocommit=True) as conn:
        while conn.execute(question.encode()).fetchone() != (True,):
            if time.monotonic() > until:
                raise MillraceError(f"This was not so after {seconds:.0f} s: {question}")
            time.sleep(0.05)


def catch_up(house: Server) -> None:
    """Does at once what would have been done to the past in its time: roll-ups, compression.

    Otherwise it would begin in the middle of a measurement, with all of the past to do.
    """
    if house.edition == "apache":
        with runtime(house) as held:
            while refresh(held, hours_wait=0, days_wait=0):
                pass
        return
    with psycopg.connect(house.database_url, autocommit=True) as conn:
        conn.execute("SELECT _timescaledb_functions.stop_background_workers()")
        jobs = conn.execute(
            "SELECT job_id FROM timescaledb_information.jobs"
            " WHERE proc_name IN ('policy_refresh_continuous_aggregate', 'policy_compression') ORDER BY job_id"
        )
        for (job,) in jobs.fetchall():
            conn.execute("CALL run_job(%s)", [job])
        conn.execute("SELECT _timescaledb_functions.start_background_workers()")


def create_campaign(runtime: Runtime, tenant: Tenant, provider_url: str, condition: object = None) -> int:
    """A draft campaign with the benchmarks' letter, to the leads that match `condition` (None: all of them)."""
    organisation_id, name = tenant.organisation_id, f"Autumn {uuid4().hex[:8]}"
    sender_id, _ = create_sender(runtime, tenant, provider_url)
    segment_id = None if condition is None else segments.create(runtime, organisation_id, name, condition)
    draft = Draft(name, sender_id, segment_id, letter.SUBJECT, letter.HTML, letter.TEXT)
    return edit_campaign.create(runtime, organisation_id, tenant.user_id, draft)


def create_sender(runtime: Runtime, tenant: Tenant, provider_url: str) -> tuple[int, str]:
    """A sender with a pool of its own; its id and its address."""
    name, address = f"Walker {uuid4().hex[:8]}", "walker@news.example.com"
    pool_id = pools.add_pool(runtime, tenant.organisation_id, name, provider_url)
    return senders.add_sender(runtime, tenant.organisation_id, pool_id, name, address), address


@dataclass(frozen=True, slots=True)
class Poster:
    """What a rival composes and posts with: our own composer and provider, so that only the design differs."""

    composer: Composer
    provider: Provider
    subject: str

    def post(self, letters: list[Letter]) -> list[str]:
        """One call; the provider's ids, all of them accepted."""
        outcomes = self.provider.send(self.composer.batch(1, uuid4(), 1, letters))
        refs = [outcome.ref for outcome in outcomes if isinstance(outcome, Accepted)]
        if len(refs) != len(letters):
            raise MillraceError("The sink did not accept a call of a rival.")
        return refs


@contextmanager
def composing(runtime: Runtime, provider_url: str, tenant: Tenant) -> Iterator[Poster]:
    """A campaign's composer and its provider, for a rival."""
    campaign_id = create_campaign(runtime, tenant, provider_url)
    with runtime.db.begin() as conn:
        about = campaign.load_sending(conn, campaign_id)
        compiled = Compiled.from_json(campaign.load_compiled(conn, campaign_id, 0))
    provider = open_provider(provider_url, deadline=runtime.settings.call_deadline)
    try:
        yield Poster(Composer(compiled, about, runtime.settings.base_url, runtime.signer), provider, "Five new routes")
    finally:
        provider.close()
