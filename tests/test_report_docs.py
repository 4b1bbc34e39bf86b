"""Every query of docs/reports.md runs as it stands there, on each edition."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tests import record
from tests.world import add_range, insert

PAGE = Path(__file__).parent.parent / "docs" / "reports.md"
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
LEADS = ("event", "outbox")


@pytest.mark.editions
def test_every_query_of_the_page_runs(database_url: str) -> None:
    assert len(QUERIES) > 6
    with psycopg.connect(database_url) as conn:
        for query in QUERIES:
            if not any(f"FROM {table}" in query or f"JOIN {table}" in query for table in LEADS):
                conn.execute("SET LOCAL ROLE millrace_reader")
            conn.execute(query.encode())
            conn.execute("RESET ROLE")


@pytest.mark.editions
def test_the_page_names_every_view_that_readers_may_read(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace"
            " AND has_table_privilege('millrace_reader', oid, 'SELECT')"
        ).fetchall()
    readable = {str(name) for (name,) in rows}
    plain = {name for name in readable if not name.endswith("_named")}
    assert {name.removesuffix("_named") for name in readable} <= plain
    assert {name for name in plain if f"`{name}`" not in PAGE.read_text()} == set()
    assert len(readable) == 21


@pytest.mark.editions
def test_the_old_systems_question_has_its_answer(database_url: str) -> None:
    """The leads to whom email was sent with this campaign by this user, and what happened."""
    running = record.runtime(database_url)
    [query] = [query for query in QUERIES if "HAVING sum(told.weight) > 0" in query]
    with running.db.begin() as conn:
        time = conn.exec_driver_sql("SELECT now() - INTERVAL '2 days'").scalar_one()
        organisation_id = insert(conn, "organisation", name="Ours")
        user_id = insert(conn, "user", organisation_id=organisation_id, email="u@x.y", name="U", password_hash="!")
        insert(conn, "campaign", organisation_id=organisation_id, owner_id=user_id, name="News", state="sending")
        add_range(conn, 1, [1, 2, 3, 4, 5])
        record.append(conn, time, "sent", [1, 2, 3])
        record.append(conn, time, "sent", [4], user_id=2)
        record.append(conn, time, "refused", [5])
        record.append(conn, time, "opened", [2, 2])
        found = [(row.lead_id, row.kind, row.times) for row in conn.exec_driver_sql(query.replace("%", "%%"))]
    running.close()
    assert sorted(found) == [(1, "sent", 1), (2, "opened", 2), (2, "sent", 1), (3, "sent", 1)]
