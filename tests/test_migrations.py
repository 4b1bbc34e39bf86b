"""Migrations: up, down and up again on each edition, and nothing of ours is left at the bottom."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from app import schema
from app.runtime import Runtime
from tests import record

pytestmark = pytest.mark.editions

OURS = """
    SELECT format('%s %s', relkind, relname)
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
      AND relname NOT LIKE 'alembic_version%'
    UNION ALL
    SELECT proname
    FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    UNION ALL
    SELECT typname
    FROM pg_type
    WHERE typnamespace = 'public'::regnamespace
      AND typtype = 'e'
    UNION ALL
    SELECT application_name
    FROM timescaledb_information.jobs
    WHERE hypertable_schema = 'public'
    UNION ALL
    SELECT hypertable_name
    FROM timescaledb_information.hypertables
    ORDER BY 1
"""


def ours(database_url: str) -> list[str]:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as conn:
        found = list(conn.execute(text(OURS)).scalars())
    engine.dispose()
    return found


def test_down_leaves_nothing_and_up_again_makes_the_same(database_url: str) -> None:
    def without_numbers(names: list[str]) -> list[str]:
        return [name.partition(" [")[0] for name in names]  # a policy's name holds the number of its job

    first = ours(database_url)
    schema.downgrade(database_url, "base")
    assert ours(database_url) == []
    schema.migrate(database_url)
    assert without_numbers(ours(database_url)) == without_numbers(first)


def test_the_record_can_be_unmade_while_it_holds_events(database_url: str) -> None:
    running = record.runtime(database_url)
    write_and_check(running)
    schema.downgrade(database_url, "0002")
    with running.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM event")).scalar_one() == 5
    schema.migrate(database_url)
    schema.downgrade(database_url, "0001")
    schema.migrate(database_url)
    write_and_check(running)
    running.close()


def write_and_check(running: Runtime) -> None:
    with running.db.begin() as conn:
        time = conn.execute(text("SELECT now() - INTERVAL '3 days'")).scalar_one()
        record.append(conn, time, "sent", 5)
    record.refresh_all(running)
    with running.db.begin() as conn:
        assert conn.execute(text("SELECT sum(total) FROM report_day")).scalar_one() == 5


def test_the_edition_decides_what_reports_are_made_of(database_url: str, edition: str) -> None:
    made = ours(database_url)
    assert ("r rollup_5min" in made) == (edition == "apache")
    assert any("Refresh Continuous Aggregate" in name for name in made) == (edition == "community")
