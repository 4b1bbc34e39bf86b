"""Freezing a campaign's audience into ranges, against a job table with a row for every email.

One lead in five matches (`plan = "pro"`), so that 5,000,000 leads make an audience of 1,000,000. Ours is the whole
`launch` flow: the check that counts the audience and its exclusions, and the cut. The rival puts the same leads into a
table of jobs by one INSERT … SELECT, the quickest way there is to a row for every email, with the two indexes that its
workers need.
"""

from __future__ import annotations

from argparse import Namespace
from typing import LiteralString

import psycopg

from app.flows import launch
from bench import prefill, sending
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.prefill import Tenant

SIZES = {"leads": 5_000_000}
NOWHERE = "sink+http://127.0.0.1:9"  # opened, never called
PRO = {"combinator": "and", "rules": [{"field": "attributes.plan", "operator": "=", "value": "pro"}]}

JOBS: tuple[LiteralString, ...] = (
    """
    CREATE TABLE job (
        id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        campaign_id integer NOT NULL,
        lead_id     bigint NOT NULL,
        address     text NOT NULL,
        status      text NOT NULL DEFAULT 'queued',
        created_at  timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX job_campaign ON job (campaign_id)",
    "CREATE INDEX job_status ON job (status)",
)
QUEUE = """
INSERT INTO job (campaign_id, lead_id, address)
SELECT 1, id, email
  FROM lead
 WHERE organisation_id = %s
   AND status = 'active'
   AND attributes ->> 'plan' = 'pro'
   AND NOT EXISTS (
           SELECT FROM suppression
            WHERE suppression.organisation_id = lead.organisation_id
              AND suppression.email = lead.email
       )
 ORDER BY id
"""


def run(args: Namespace) -> Answer:
    """Ours, then the job table, over the same leads."""
    with server(args.edition) as house:
        with psycopg.connect(house.database_url) as conn:
            say(f"{args.leads:,} leads")
            tenant = prefill.create_tenant(conn)
            prefill.create_leads(conn, tenant, args.leads)
        ours = _ours(house, tenant)
        theirs = _theirs(house, tenant)
    return Answer(
        settings=house.settings | {"leads": args.leads},
        ours=ours,
        rivals={"job_table": theirs},
        reach={"seconds": reach(3.0, ours["seconds"])},
    )


def _ours(house: Server, tenant: Tenant) -> Figures:
    say("ours")
    with sending.runtime(house) as runtime:
        campaign_id = sending.create_campaign(runtime, tenant, NOWHERE, PRO)
        with Wal(house.database_url) as wal, Watch() as watch:
            launch.launch(runtime, tenant.organisation_id, campaign_id)
    with psycopg.connect(house.database_url) as conn:
        audience, ranges = _pair(conn, "SELECT sum(size), count(*) FROM outbox")
    return {
        "seconds": watch.seconds,
        "rows_per_s": audience / watch.seconds,
        "wal_bytes_per_email": wal.bytes / audience,
        "audience": audience,
        "rows": ranges,
    }


def _theirs(house: Server, tenant: Tenant) -> Figures:
    say("the job table")
    with psycopg.connect(house.database_url) as conn:
        for statement in JOBS:
            conn.execute(statement)
        conn.commit()
        with Wal(house.database_url) as wal, Watch() as watch:
            conn.execute(QUEUE, [tenant.organisation_id])
            conn.commit()
        audience, rows = _pair(conn, "SELECT count(DISTINCT lead_id), count(*) FROM job")
    return {
        "seconds": watch.seconds,
        "rows_per_s": audience / watch.seconds,
        "wal_bytes_per_email": wal.bytes / audience,
        "audience": audience,
        "rows": rows,
    }


def _pair(conn: prefill.Connection, query: LiteralString) -> tuple[int, int]:
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(str(row[0])), int(str(row[1]))
