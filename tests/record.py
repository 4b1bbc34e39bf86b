"""Writing and refreshing the record in tests: events put in by plain SQL, sums brought up to date on either edition."""

from __future__ import annotations

from datetime import datetime
from time import sleep
from typing import Any

import psycopg
from sqlalchemy import Connection, text

from app.config import Settings
from app.flows import refresh
from app.runtime import Runtime

LEVELS = tuple(f"{family}_{level}" for family in ("report", "brief", "user") for level in ("5min", "hour", "day"))

INSERT = text("""
    INSERT INTO event (time, lead_id, organisation_id, user_id, campaign_id, domain_id, kind,
                       link_id, pool_id, variant, run, weight, machine, message, detail)
    SELECT :time, lead_id, :organisation_id, :user_id, :campaign_id, :domain_id, CAST(:kind AS event_kind),
           :link_id, :pool_id, :variant, :run, :weight, :machine, :message, CAST(:detail AS jsonb)
    FROM unnest(CAST(:lead_ids AS bigint[])) AS lead_id
""")
PLAIN = {
    "organisation_id": 1,
    "user_id": 1,
    "campaign_id": 1,
    "domain_id": 1,
    "link_id": 0,
    "pool_id": 1,
    "variant": 0,
    "run": 1,
    "weight": 1,
    "machine": False,
    "message": False,
    "detail": None,
}


def append(conn: Connection, time: datetime, kind: str, leads: int | list[int] = 1, **values: Any) -> None:
    """Events of one kind at one time: for so many leads, or for these."""
    lead_ids = list(range(1, leads + 1)) if isinstance(leads, int) else leads
    conn.execute(INSERT, PLAIN | {"time": time, "kind": kind, "lead_ids": lead_ids} | values)


def runtime(database_url: str) -> Runtime:
    """A runtime on this database alone: nothing here rings a bell."""
    return Runtime(Settings(database_url, "redis://127.0.0.1:9", "a key for tests, known to everybody", database_url))


def refresh_all(running: Runtime) -> None:
    """Bring every level's sums up to date, as the clock or the policies do in time."""
    with running.db.begin() as conn:
        community = conn.execute(text("SELECT to_regclass('rollup_5min') IS NULL")).scalar_one()
    if not community:
        refresh.refresh(running, hours_wait=0, days_wait=0)
        return
    with psycopg.connect(running.db.url, autocommit=True) as conn:
        for level in LEVELS:
            _persist(conn, f"CALL refresh_continuous_aggregate('{level}', NULL, now() - INTERVAL '1 second')")


def run_policies(running: Runtime, kind: str) -> None:
    """Run now what TimescaleDB's own workers would run in time; the Apache edition has none of these."""
    with psycopg.connect(running.db.url, autocommit=True) as conn:
        jobs = conn.execute(
            "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s"
            " AND hypertable_schema = 'public' ORDER BY job_id",
            [kind],
        ).fetchall()
        for (job,) in jobs:
            _persist(conn, f"CALL run_job({job})")


def _persist(conn: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    for _ in range(100):  # one of TimescaleDB's own workers may be at it
        try:
            conn.execute(statement)
            return
        except psycopg.errors.LockNotAvailable:
            sleep(0.1)
    raise AssertionError(f"somebody else was at it for ten seconds: {statement}")


def sums(conn: Connection, view: str) -> dict[tuple[Any, ...], int]:
    """(bucket, campaign, kind, run, machine) -> total, as a view says it; (bucket, user, kind, machine) by user."""
    columns = _columns(view)
    rows = conn.execute(text(f"SELECT bucket, {columns}, sum(total) FROM {view} GROUP BY bucket, {columns}"))
    return {tuple(row[:-1]): int(row[-1]) for row in rows}


def truth(conn: Connection, view: str, width: str) -> dict[tuple[Any, ...], int]:
    """The same straight from the events."""
    columns = _columns(view)
    rows = conn.execute(
        text(
            f"SELECT time_bucket(CAST(:width AS interval), time) AS bucket, {columns}, sum(weight)"
            f" FROM event GROUP BY 1, {columns}"
        ),
        {"width": width},
    )
    return {tuple(row[:-1]): int(row[-1]) for row in rows}


def _columns(view: str) -> str:
    return "user_id, kind, machine" if view.startswith("user") else "campaign_id, kind, run, machine"
