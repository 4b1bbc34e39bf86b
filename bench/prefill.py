"""What a benchmark's server holds before anything is measured: an organisation, leads, a campaign, a past of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[object, ...]]

DOMAINS = 997
ATTRIBUTES = {
    "first_name": "text",
    "last_name": "text",
    "country": "text",
    "plan": "text",
    "age": "number",
    "signed_up": "date",
}

# Receiving domains as they are: few have most of the leads. One lead in eight has no first name, one in five is "pro".
LEADS = """
WITH word AS MATERIALIZED (
    SELECT ARRAY['Ada', 'Bruno', 'Chiara', 'Daan', 'Emeka', 'Fatima', 'Goran', 'Hana', 'Igor', 'Jun', 'Kofi', 'Lena',
                 'Mateo', 'Nadia', 'Olga', 'Pedro', 'Qiu', 'Rosa', 'Søren', 'Tariq'] AS first,
           ARRAY['Abel', 'Berg', 'Costa', 'Duarte', 'Eriksen', 'Fischer', 'García', 'Haddad', 'Ito', 'Jensen', 'Khan',
                 'Lopez', 'Moreau', 'Novak', 'Okafor', 'Petrov', 'Rossi', 'Silva', 'Tanaka', 'Usman'] AS last,
           ARRAY['DE', 'FR', 'GB', 'IN', 'JP', 'NG', 'BR', 'US'] AS country,
           ARRAY['free', 'free', 'free', 'plus', 'pro'] AS plan,
           (SELECT min(id) FROM domain) AS first_domain
), drawn AS (
    SELECT n * %(stride)s AS id,
           1 + (n * 7919 + n / 20) %% 20 AS given,
           1 + (n * 104729 + n / 400) %% 20 AS family,
           floor(%(domains)s * power(random(), 4))::integer AS domain,
           random() AS dice,
           n
      FROM generate_series(1, %(leads)s::bigint) AS n
)
INSERT INTO lead (id, organisation_id, domain_id, email, time_zone, attributes, created_at, updated_at)
OVERRIDING SYSTEM VALUE
SELECT drawn.id,
       %(organisation_id)s,
       first_domain + drawn.domain,
       translate(lower(first[given] || '.' || last[family]), 'øí', 'oi') || n
           || '@mail' || drawn.domain || '.example.com',
       CASE WHEN dice < 0.5 THEN 'Europe/Berlin' ELSE 'America/New_York' END,
       jsonb_build_object('last_name', last[family], 'country', country[1 + n %% 8], 'plan', plan[1 + n %% 5],
                          'age', 18 + n %% 60, 'signed_up', (date '2026-11-01' - (n %% 1500)::integer)::text)
           || CASE WHEN n %% 8 = 0 THEN '{}' ELSE jsonb_build_object('first_name', first[given]) END,
       now(),
       now()
  FROM drawn
 CROSS JOIN word
"""

# The past of the record, shaped like the old design's: campaigns of 50,000 one after another, each in order of id.
EVENTS = """
INSERT INTO event (time, lead_id, organisation_id, user_id, campaign_id, domain_id, kind, pool_id)
SELECT now() - %(days)s * interval '1 day' * (1 - n::float8 / %(rows)s),
       1 + n %% 50000 * %(spread)s::bigint + (random() * (%(spread)s - 1))::bigint,
       %(organisation_id)s,
       1 + n / 50000 %% 20,
       %(first_campaign)s + n / 50000,
       1 + floor(%(domains)s * power(random(), 4))::integer,
       CASE WHEN random() < 0.01 THEN 'refused' ELSE 'sent' END::event_kind,
       1
  FROM generate_series(0, %(rows)s - 1) AS n
"""
PAST_CAMPAIGNS = 1_000_000  # their numbers begin here: they are in nobody's way


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose everything is."""

    organisation_id: int
    user_id: int


def create_tenant(conn: Connection) -> Tenant:
    """An organisation with one user and the attributes that the leads have. Commits."""
    organisation_id = insert_one(conn, "organisation", {"name": "Bench"})
    person = {"organisation_id": organisation_id, "email": "bench@example.com", "name": "Bench", "password_hash": "!"}
    user_id = insert_one(conn, "user", person)
    for name, kind in ATTRIBUTES.items():
        conn.execute(
            "INSERT INTO attribute (organisation_id, name, type) VALUES (%s, %s, %s)", [organisation_id, name, kind]
        )
    conn.commit()
    return Tenant(organisation_id, user_id)


def create_leads(conn: Connection, tenant: Tenant, leads: int, *, stride: int = 1) -> None:
    """`leads` leads with the ids stride, 2·stride, …; the unique index is built afterwards: quicker. Commits."""
    conn.execute("SELECT setseed(0.42)")
    conn.execute(
        "INSERT INTO domain (name) SELECT 'mail' || n || '.example.com' FROM generate_series(0, %s - 1) AS n", [DOMAINS]
    )
    conn.execute("DROP INDEX lead_email")
    values = {"leads": leads, "stride": stride, "domains": DOMAINS, "organisation_id": tenant.organisation_id}
    conn.execute(LEADS, values)
    conn.execute("CREATE UNIQUE INDEX lead_email ON lead (organisation_id, email)")
    conn.execute("SELECT setval(pg_get_serial_sequence('lead', 'id'), %s)", [leads * stride])
    conn.commit()
    vacuum(conn, "lead")


def create_events(conn: Connection, tenant: Tenant, rows: int, *, leads: int = 5_000_000, days: int = 90) -> None:
    """A past of `rows` outcomes over the last `days`, in as many chunks as they make. Commits."""
    values = {
        "rows": rows,
        "days": days,
        "spread": max(leads // 50_000, 1),
        "domains": DOMAINS,
        "organisation_id": tenant.organisation_id,
        "first_campaign": PAST_CAMPAIGNS,
    }
    conn.execute(EVENTS, values)
    conn.commit()
    vacuum(conn, "event")


def vacuum(conn: Connection, table: str) -> None:
    """As autovacuum would have done in time."""
    conn.commit()
    conn.autocommit = True
    conn.execute(f"VACUUM (ANALYZE, PARALLEL 0) {table}".encode())
    conn.autocommit = False


def insert_one(conn: Connection, table: str, row: Mapping[str, object]) -> int:
    """Inserts one row and gives its id. Does not commit."""
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    found = conn.execute(statement, list(row.values())).fetchone()
    assert found is not None
    return int(str(found[0]))
