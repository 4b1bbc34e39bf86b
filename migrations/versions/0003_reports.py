"""What reports read: sums of events by five minutes, hour and day, under the same names on both TimescaleDB editions.

`report_*` have every dimension, `brief_*` all but domain and link: far fewer rows, for most questions.

Community: continuous aggregates, each on top of a finer one, kept by policies.
Apache: views over roll-up tables. A bucket that was touched since it was rolled up is stale: it is summed live, every
other one is read from its table. Which buckets were touched stands in a log that the writer's own transaction adds to,
so one statement's snapshot decides for each bucket, and none is counted twice or missed, whatever commits meanwhile.
"""

from dataclasses import dataclass

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BRIEF = "organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine, message"
EVERY = f"{BRIEF}, domain_id, link_id"


def sums(bucket: str, dimensions: str, value: str, source: str) -> str:
    """The one SELECT of all sums: a continuous aggregate's definition, or the live part of a view."""
    columns = f"{bucket} AS bucket, {dimensions}, sum({value})::bigint AS total"
    return f"SELECT {columns} FROM {source} GROUP BY 1, {dimensions}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Sum:
    """A view of sums: what its buckets are, what it is summed from, and how its policy refreshes (end, every).

    The five minutes end with the last whole bucket: at 8,000 events a second, what is summed live stays small.
    """

    name: str
    level: str
    dimensions: str
    finer: str
    refresh: tuple[str, str]

    @property
    def time_and_value(self) -> tuple[str, str]:
        return ("time", "weight") if self.finer == "event" else ("bucket", "total")

    @property
    def rollup(self) -> str:
        return f"rollup_{self.name.removeprefix('report_')}"


WIDTHS = {"5min": "5 minutes", "hour": "1 hour", "day": "1 day"}
SUMS = (
    Sum("report_5min", "5min", EVERY, "event", ("0 seconds", "30 seconds")),
    Sum("report_hour", "hour", EVERY, "report_5min", ("5 minutes", "2 minutes")),
    Sum("report_day", "day", EVERY, "report_hour", ("1 hour", "10 minutes")),
    Sum("brief_5min", "5min", BRIEF, "report_5min", ("0 seconds", "30 seconds")),
    Sum("brief_hour", "hour", BRIEF, "brief_5min", ("5 minutes", "2 minutes")),
    Sum("brief_day", "day", BRIEF, "brief_hour", ("1 hour", "10 minutes")),
)

# No index per dimension, as would be the default: eleven for each. Two serve every report.
AGGREGATE = """
CREATE MATERIALIZED VIEW {name}
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
{sums}
WITH NO DATA;
CREATE INDEX {name}_campaign ON {name} (campaign_id, bucket);
SELECT add_continuous_aggregate_policy('{name}', start_offset => INTERVAL '390 days',
    end_offset => INTERVAL '{end}', schedule_interval => INTERVAL '{every}');
"""

# A refresh sees what retention dropped as a change: its window (390 days) ends ten days before that.
POLICIES = """
ALTER TABLE event SET (
    timescaledb.enable_columnstore, timescaledb.segmentby = 'campaign_id', timescaledb.orderby = 'lead_id, time'
);
CALL add_columnstore_policy('event', after => INTERVAL '7 days');
SELECT add_retention_policy('event', drop_after => INTERVAL '400 days');
"""

TYPES = {"kind": "event_kind", "machine": "boolean", "message": "boolean"} | dict.fromkeys(
    ("pool_id", "variant", "run"), "smallint"
)
ROLLUP = """
CREATE TABLE {table} (bucket timestamptz NOT NULL, {columns}, total bigint NOT NULL);
CREATE INDEX {table}_bucket ON {table} (bucket, organisation_id);
CREATE INDEX {table}_campaign ON {table} (campaign_id, bucket);
"""
# Many write here at once, so nothing is unique: a bucket stands here as often as it was touched.
TOUCHED = """
CREATE TABLE touched_{level} (
    id      bigint GENERATED ALWAYS AS IDENTITY,
    bucket  timestamptz NOT NULL,
    at      timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
"""
# The sums of these buckets. Each is a query of its own with its time as a constant, so that the planner looks at one
# chunk instead of all (90 ms for 400 of them). With the owner's rights, like the view that calls it: a function in a
# view would run with the reader's.
SUM_UP = """
CREATE FUNCTION sum_{level}(buckets timestamptz[]) RETURNS SETOF rollup_{level} LANGUAGE plpgsql STABLE ROWS 100
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    bucket timestamptz;
BEGIN
    FOREACH bucket IN ARRAY buckets LOOP
        RETURN QUERY EXECUTE format($sums$
            {sums}
        $sums$, bucket, bucket + INTERVAL '{width}');
    END LOOP;
END $$;
"""

# Whoever inserts events logs their buckets in the same transaction. Almost all events are timed with their transaction:
# one log row a statement is enough for them. The few that bring a time of their own are logged one by one. (Measured
# with pages of 1,000: 0.1 ms a page; one trigger over a transition table cost 0.6 ms and a third more WAL, since COPY
# then writes row by row.)
TOUCH = """
CREATE FUNCTION note_now() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO touched_5min (bucket) VALUES (time_bucket('5 minutes', now()));
    RETURN NULL;
END $$;
CREATE FUNCTION note_time() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched timestamptz := time_bucket('5 minutes', NEW.time);
BEGIN
    -- The bucket that this transaction noted last; a rollback takes the setting and the log row back together.
    IF touched::text = current_setting('millrace.touched', true) THEN
        RETURN NULL;
    END IF;
    IF touched <> time_bucket('5 minutes', now()) AND touched >= report_horizon() THEN
        INSERT INTO touched_5min (bucket) VALUES (touched);
    END IF;
    PERFORM set_config('millrace.touched', touched::text, true);
    RETURN NULL;
END $$;
CREATE TRIGGER event_touches_now AFTER INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION note_now();
CREATE TRIGGER event_touches AFTER INSERT ON event FOR EACH ROW WHEN (NEW.time <> now()) EXECUTE FUNCTION note_time();
CREATE VIEW stale_5min AS SELECT DISTINCT bucket FROM touched_5min;
CREATE VIEW stale_hour AS
    SELECT time_bucket('1 hour', bucket) AS bucket FROM stale_5min UNION SELECT bucket FROM touched_hour;
CREATE VIEW stale_day AS
    SELECT time_bucket('1 day', bucket) AS bucket FROM stale_hour UNION SELECT bucket FROM touched_day;
"""

# Each stale bucket is summed by a query beside it (LATERAL), which a report's conditions reach: through a plain join
# with a range, all of a campaign's finer rows were read (50 ms instead of 2). Events older than a day come from
# sum_5min: the bound on now() keeps the planner from the chunks of all other days.
VIEW = """
CREATE VIEW {name} AS
SELECT bucket, {dimensions}, total
FROM {rollup} AS rolled_up
WHERE NOT EXISTS (SELECT FROM stale_{level} AS stale WHERE stale.bucket = rolled_up.bucket)
UNION ALL
SELECT live.* FROM {stale} AS stale CROSS JOIN LATERAL ({live}) AS live
"""
RECENT = "(SELECT bucket FROM stale_5min WHERE bucket >= now() - INTERVAL '1 day')"
OLDER = "sum_5min(ARRAY(SELECT bucket FROM stale_5min WHERE bucket < now() - INTERVAL '1 day'))"

# A role that may read the reports and nothing else. Roles belong to the whole server: another database of it may have
# made this one, or be making it just now. The grant stands in the transaction that makes the views, because from its
# end on TimescaleDB's workers write to what is below them ("tuple concurrently updated").
READER = f"""
DO $$
BEGIN
    CREATE ROLE millrace_reader NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'No role millrace_reader was made: % may not create roles (docs/reports.md).', current_user;
END $$;
DO $$
BEGIN
    IF to_regrole('millrace_reader') IS NOT NULL THEN
        GRANT SELECT ON {", ".join(each.name for each in SUMS)} TO millrace_reader;
    END IF;
END $$;
"""
# Dropped with the last database that knows it; what still depends on it is somebody else's.
NO_READER = """
DO $$
BEGIN
    DROP ROLE IF EXISTS millrace_reader;
EXCEPTION
    WHEN dependent_objects_still_exist OR insufficient_privilege OR object_in_use THEN NULL;
END $$;
"""


# TimescaleDB's own workers may be refreshing what is to be dropped, and then each waits for the other. They are ended,
# for they have nothing to do any more; and since another one may be about to begin, this is tried for ten seconds.
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


def upgrade() -> None:
    community = op.get_bind().execute(text("SELECT current_setting('timescaledb.license') = 'timescale'")).scalar()
    make = _make_aggregates if community else _make_rollups
    make()
    op.execute(READER)


def _make_aggregates() -> None:
    for each in SUMS:
        time, value = each.time_and_value
        definition = sums(f"time_bucket('{WIDTHS[each.level]}', {time})", each.dimensions, value, each.finer)
        end, every = each.refresh
        op.execute(AGGREGATE.format(name=each.name, sums=definition, end=end, every=every))
    op.execute(POLICIES)


def _make_rollups() -> None:
    for each in SUMS:
        columns = ", ".join(f"{name} {TYPES.get(name, 'integer')} NOT NULL" for name in each.dimensions.split(", "))
        op.execute(ROLLUP.format(table=each.rollup, columns=columns))
    for each in SUMS[: len(WIDTHS)]:
        time, value = each.time_and_value
        source = f"{each.finer.replace('report', 'rollup')} WHERE {time} >= %1$L AND {time} < %2$L"
        definition = sums("%1$L::timestamptz", each.dimensions, value, source)
        op.execute(TOUCHED.format(level=each.level))
        op.execute(SUM_UP.format(level=each.level, width=WIDTHS[each.level], sums=definition))
    op.execute(TOUCH)
    for each in SUMS:
        op.execute(_view(each))


def _view(each: Sum) -> str:
    lowest = each.level == "5min"
    finer, time, value = ("event", "time", "weight") if lowest else (each.finer, *each.time_and_value)
    bounds = f"{time} >= stale.bucket AND {time} < stale.bucket + INTERVAL '{WIDTHS[each.level]}'"
    recent = " AND time >= now() - INTERVAL '1 day'" if lowest else ""
    view = VIEW.format(
        name=each.name,
        level=each.level,
        dimensions=each.dimensions,
        rollup=each.rollup,
        stale=RECENT if lowest else f"stale_{each.level}",
        live=sums("stale.bucket", each.dimensions, value, f"{finer} WHERE {bounds}{recent}"),
    )
    return f"{view} UNION ALL {sums('bucket', each.dimensions, 'total', OLDER)}" if lowest else view


def downgrade() -> None:
    rolled_up = op.get_bind().execute(text("SELECT to_regclass('rollup_5min') IS NOT NULL")).scalar()
    unmake = _unmake_rollups if rolled_up else _unmake_aggregates
    unmake()
    op.execute(NO_READER)


def _unmake_aggregates() -> None:
    # The policies first, so that no refresh begins while there is less and less to refresh.
    for each in SUMS:
        op.execute(f"SELECT remove_continuous_aggregate_policy('{each.name}')")
    op.execute("SELECT remove_retention_policy('event')")
    op.execute("CALL remove_columnstore_policy('event')")
    for each in reversed(SUMS):
        op.execute(UNMAKE.format(name=each.name))


def _unmake_rollups() -> None:
    for each in reversed(SUMS):
        op.execute(f"DROP VIEW {each.name}")
    op.execute("DROP TRIGGER event_touches ON event")
    op.execute("DROP TRIGGER event_touches_now ON event")
    op.execute("DROP FUNCTION note_time()")
    op.execute("DROP FUNCTION note_now()")
    for level in reversed(WIDTHS):
        op.execute(f"DROP VIEW stale_{level}")
        op.execute(f"DROP FUNCTION sum_{level}(timestamptz[])")
        op.execute(f"DROP TABLE touched_{level}")
    for each in SUMS:
        op.execute(f"DROP TABLE {each.rollup}")
