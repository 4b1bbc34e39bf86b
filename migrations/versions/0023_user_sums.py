"""Sums by user, without the campaign: what a month's report reads. By campaign it read thousands of rows a day.

They stand on the brief sums as these stand on the others (0003 says how both editions make theirs), and follow them:
what they are made from was made by then (0020).
"""

from dataclasses import dataclass

from alembic import op
from sqlalchemy import text

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

DIMENSIONS = "organisation_id, user_id, kind, machine"


@dataclass(frozen=True, slots=True)
class Sum:
    """A view: its buckets, what it is summed from, and how its policy refreshes (end, every)."""

    level: str
    width: str
    finer: str
    refresh: tuple[str, str]

    @property
    def name(self) -> str:
        return f"user_{self.level}"


SUMS = (
    Sum("5min", "5 minutes", "brief_5min", ("10 minutes", "1 minute")),
    Sum("hour", "1 hour", "user_5min", ("15 minutes", "2 minutes")),
    Sum("day", "1 day", "user_hour", ("1 hour", "10 minutes")),
)

AGGREGATE = """
CREATE MATERIALIZED VIEW {name}
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT time_bucket('{width}', bucket) AS bucket, {dimensions}, sum(total)::bigint AS total
FROM {finer}
GROUP BY 1, {dimensions}
WITH NO DATA;
SELECT add_continuous_aggregate_policy('{name}', start_offset => INTERVAL '390 days',
    end_offset => INTERVAL '{end}', schedule_interval => INTERVAL '{every}');
"""

ROLLUP = """
CREATE TABLE rollup_{name} (
    bucket timestamptz NOT NULL, organisation_id integer NOT NULL, user_id integer NOT NULL, kind event_kind NOT NULL,
    machine boolean NOT NULL, total bigint NOT NULL
);
INSERT INTO rollup_{name}
SELECT bucket, {dimensions}, sum(total) FROM rollup_brief_{level} GROUP BY bucket, {dimensions};
CREATE INDEX rollup_{name}_bucket ON rollup_{name} (bucket, organisation_id);
"""
# A bucket that was touched since it was rolled up is summed live, from the brief sums of the same width.
VIEW = """
CREATE VIEW {name} AS
SELECT bucket, {dimensions}, total
FROM rollup_{name} AS rolled_up
WHERE NOT EXISTS (SELECT FROM stale_{level} AS stale WHERE stale.bucket = rolled_up.bucket)
UNION ALL
SELECT live.*
FROM stale_{level} AS stale
CROSS JOIN LATERAL (
    SELECT stale.bucket, {dimensions}, sum(total)::bigint AS total
    FROM brief_{level} AS brief
    WHERE brief.bucket = stale.bucket
    GROUP BY {dimensions}
) AS live
"""

READER = f"""
DO $$
BEGIN
    IF to_regrole('millrace_reader') IS NOT NULL THEN
        GRANT SELECT ON {", ".join(each.name for each in SUMS)} TO millrace_reader;
    END IF;
END $$;
"""

# As in 0003: TimescaleDB's own workers may be refreshing what is to be dropped.
UNMAKE = """
DO $$
BEGIN
    FOR attempt IN 1 .. 50 LOOP
        PERFORM pg_stat_clear_snapshot();
        PERFORM pg_terminate_backend(pid)
        FROM pg_stat_activity
        WHERE datname = current_database() AND application_name ~ '^(Refresh Continuous Aggregate|Retention) Policy';
        BEGIN
            DROP MATERIALIZED VIEW {name};
            RETURN;
        EXCEPTION WHEN internal_error OR deadlock_detected OR lock_not_available THEN
            IF attempt = 50 THEN RAISE; END IF;
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END $$;
"""


def _is_rolled_up() -> bool:
    return bool(op.get_bind().execute(text("SELECT to_regclass('rollup_5min') IS NOT NULL")).scalar())


def upgrade() -> None:
    for each in SUMS:
        words = {"name": each.name, "level": each.level, "width": each.width, "finer": each.finer}
        words |= {"dimensions": DIMENSIONS, "end": each.refresh[0], "every": each.refresh[1]}
        if _is_rolled_up():
            op.execute(ROLLUP.format(**words))
            op.execute(VIEW.format(**words))
        else:
            op.execute(AGGREGATE.format(**words))
    op.execute(READER)


def downgrade() -> None:
    if _is_rolled_up():
        for each in SUMS:
            op.execute(f"DROP VIEW {each.name}")
            op.execute(f"DROP TABLE rollup_{each.name}")
        return
    for each in SUMS:
        op.execute(f"SELECT remove_continuous_aggregate_policy('{each.name}')")
    for each in reversed(SUMS):
        op.execute(UNMAKE.format(name=each.name))
