"""segment: counting who a condition means, against an index over all attributes and what it costs an import.

Ours reads every lead of the organisation, in parallel, and keeps no index for it. The rival is what is usually advised
for JSONB: a GIN index (jsonb_path_ops), asked by containment. It answers equality only, and each import pays for it.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg

from app.db import Database
from app.models import segment
from app.models.field import load_fields
from bench import prefill
from bench.harness import Answer, Figures, Server, Watch, reach, say, server
from bench.prefill import Tenant

SIZES = {"leads": 5_000_000}
IMPORTED = 100_000
EQUAL = {"field": "attributes.plan", "operator": "=", "value": "pro"}
CONDITIONS: Mapping[str, list[dict[str, Any]]] = {
    "everyone": [],
    "equal": [EQUAL],
    "in_list": [{"field": "attributes.country", "operator": "in", "value": ["DE", "FR"]}],
    "contains": [{"field": "attributes.last_name", "operator": "contains", "value": "sen"}],
    "number": [{"field": "attributes.age", "operator": "between", "value": [30, 39]}],
    "day": [{"field": "attributes.signed_up", "operator": ">=", "value": "30 days ago"}],
    "domain": [{"field": "domain", "operator": "beginsWith", "value": "mail1"}],
    "three_rules": [
        EQUAL,
        {"field": "attributes.age", "operator": ">=", "value": 30},
        {"field": "attributes.signed_up", "operator": ">=", "value": "2 years ago"},
    ],
}
INDEX: LiteralString = "CREATE INDEX lead_attributes ON lead USING gin (attributes jsonb_path_ops)"
CONTAINING: LiteralString = "SELECT count(*) FROM lead WHERE organisation_id = %s AND attributes @> %s::jsonb"
IMPORT: LiteralString = """
INSERT INTO lead (organisation_id, domain_id, email, attributes)
SELECT organisation_id, domain_id, %s || email, attributes FROM lead ORDER BY id LIMIT %s
"""


def run(args: Namespace) -> Answer:
    """Every condition once to warm up and once measured; then the rival's index, its count, and its price."""
    with server(args.edition) as house:
        with psycopg.connect(house.database_url) as conn:
            say(f"{args.leads:,} leads")
            tenant = prefill.create_tenant(conn)
            prefill.create_leads(conn, tenant, args.leads)
        ours = _ours(house, tenant) | {"import_rows_per_s": _import(house, "a.")}
        theirs = _theirs(house, tenant) | {"import_rows_per_s": _import(house, "b.")}
    return Answer(
        settings=house.settings | {"leads": args.leads},
        ours=ours,
        rivals={"gin_index": theirs},
        reach={f"{name}_seconds": reach(2.0, ours[f"{name}_seconds"]) for name in CONDITIONS},
    )


def _ours(house: Server, tenant: Tenant) -> Figures:
    database = Database(house.database_url, size=1)
    figures: Figures = {}
    for name, rules in CONDITIONS.items():
        say(name)
        for _ in range(2):  # the first fills the caches
            with database.begin() as conn, Watch() as watch:
                fields = load_fields(conn, tenant.organisation_id)
                condition = segment.parse({"combinator": "and", "rules": rules}, fields)
                leads = segment.count(conn, tenant.organisation_id, segment.compile(condition, fields))
        figures |= {f"{name}_seconds": watch.seconds, f"{name}_leads": leads}
    database.close()
    return figures


def _theirs(house: Server, tenant: Tenant) -> Figures:
    say("the index")
    with psycopg.connect(house.database_url) as conn:
        with Watch() as building:
            conn.execute(INDEX)
            conn.commit()
        prefill.vacuum(conn, "lead")
        for _ in range(2):
            with Watch() as watch:
                row = conn.execute(CONTAINING, [tenant.organisation_id, '{"plan": "pro"}']).fetchone()
        size = conn.execute("SELECT pg_relation_size('lead_attributes') / 1e6").fetchone()
    assert row is not None
    assert size is not None
    return {
        "equal_seconds": watch.seconds,
        "equal_leads": float(str(row[0])),
        "build_seconds": building.seconds,
        "index_mb": float(str(size[0])),
    }


def _import(house: Server, prefix: str) -> float:
    """Rows a second of one INSERT of leads that are new."""
    say("an import")
    with psycopg.connect(house.database_url) as conn, Watch() as watch:
        conn.execute(IMPORT, [prefix, IMPORTED])
        conn.rollback()  # both count the same leads
    return IMPORTED / watch.seconds
