"""What the benchmarks that send have in common: a process's runtime on their server, and a campaign to launch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg

from app import config
from app.flows import edit_campaign, pools, segments, senders
from app.flows.edit_campaign import Draft
from app.flows.refresh import refresh
from app.runtime import Runtime
from bench import letter
from bench.harness import Server
from bench.prefill import Tenant
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
    pool_id = pools.add_pool(runtime, organisation_id, name, provider_url)
    sender_id = senders.add_sender(runtime, organisation_id, pool_id, name, "walker@news.example.com")
    segment_id = None if condition is None else segments.create(runtime, organisation_id, name, condition)
    draft = Draft(name, sender_id, segment_id, letter.SUBJECT, letter.HTML, letter.TEXT)
    return edit_campaign.create(runtime, organisation_id, tenant.user_id, draft)
