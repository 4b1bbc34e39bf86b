"""What reports read: sums of events by five minutes, hour and day, under the same names on both TimescaleDB editions.

Community: continuous aggregates, each on top of the finer one, kept by policies.
Apache: views over roll-up tables. A bucket that was touched since it was rolled up is stale: it is summed live, every
other one is read from its table. Which buckets were touched stands in a log that the writer's own transaction adds to,
so one statement's snapshot decides for each bucket, and none is counted twice or missed, whatever commits meanwhile.
"""

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DIMENSIONS = "organisation_id, user_id, campaign_id, domain_id, link_id, kind, pool_id, variant, run, machine, message"


def sums(bucket: str, value: str, source: str) -> str:
    """The one SELECT of all levels: a continuous aggregate's definition, or the live part of a view."""
    columns = f"{bucket} AS bucket, {DIMENSIONS}, sum({value})::bigint AS total"
    return f"SELECT {columns} FROM {source} GROUP BY 1, {DIMENSIONS}"  # noqa: S608


# Events older than report_horizon() are counted apart (late_event) and not appended: the sums of their time are final.
# The horizon stays ten days younger than what was ever dropped, even when `keep` is made longer afterwards.
RETENTION = """
CREATE TABLE retention (
    single          boolean PRIMARY KEY DEFAULT true CHECK (single),
    keep            interval NOT NULL DEFAULT '400 days' CHECK (keep >= '30 days'),
    dropped_before  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO retention DEFAULT VALUES;
CREATE FUNCTION report_horizon() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT greatest(now() - keep, dropped_before) + INTERVAL ''10 days'' FROM retention';
CREATE TABLE late_event (
    seen_at         timestamptz NOT NULL DEFAULT now(),
    time            timestamptz NOT NULL,
    organisation_id integer NOT NULL,
    campaign_id     integer NOT NULL,
    kind            event_kind NOT NULL,
    total           integer NOT NULL
);
"""

# level: the bucket's width, the finer level with its time and value, and how its policy refreshes (end, every).
# The five minutes end with the last whole bucket, so that what is summed live at 8,000 events a second stays small.
LEVELS = {
    "5min": ("5 minutes", "event", "time", "weight", ("0 seconds", "30 seconds")),
    "hour": ("1 hour", "report_5min", "bucket", "total", ("5 minutes", "2 minutes")),
    "day": ("1 day", "report_hour", "bucket", "total", ("1 hour", "10 minutes")),
}
# What a level is rolled up from, on Apache.
FINER = {"5min": "event", "hour": "rollup_5min", "day": "rollup_hour"}

# No index per dimension, as would be the default: eleven for each level. Two serve every report.
AGGREGATE = """
CREATE MATERIALIZED VIEW report_{level}
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
{sums}
WITH NO DATA;
CREATE INDEX report_{level}_campaign ON report_{level} (campaign_id, bucket);
SELECT add_continuous_aggregate_policy('report_{level}', start_offset => INTERVAL '390 days',
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

ROLLUP = """
CREATE TABLE rollup_{level} (
    bucket          timestamptz NOT NULL,
    organisation_id integer NOT NULL,
    user_id         integer NOT NULL,
    campaign_id     integer NOT NULL,
    domain_id       integer NOT NULL,
    link_id         integer NOT NULL,
    kind            event_kind NOT NULL,
    pool_id         smallint NOT NULL,
    variant         smallint NOT NULL,
    run             smallint NOT NULL,
    machine         boolean NOT NULL,
    message         boolean NOT NULL,
    total           bigint NOT NULL
);
CREATE INDEX rollup_{level}_bucket ON rollup_{level} (bucket, organisation_id);
CREATE INDEX rollup_{level}_campaign ON rollup_{level} (campaign_id, bucket);
-- Many write here at once, so nothing is unique: a bucket stands here as often as it was touched.
CREATE TABLE touched_{level} (
    id      bigint GENERATED ALWAYS AS IDENTITY,
    bucket  timestamptz NOT NULL,
    at      timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- The sums of these buckets. Each is a query of its own with its time as a constant, so that the planner looks at one
-- chunk instead of all (90 ms for 400 of them). With the owner's rights, like the view that calls it: a function in a
-- view would run with the reader's.
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

# Stale buckets of the last day are summed in the view itself, so that a report's conditions reach the events; the bound
# on now() keeps the planner from all older chunks. Older stale buckets, late and few, are summed one by one.
RECENT = "stale.bucket >= now() - INTERVAL '1 day' AND event.time >= now() - INTERVAL '1 day'"
OLDER = "sum_5min(ARRAY(SELECT bucket FROM stale_5min WHERE bucket < now() - INTERVAL '1 day'))"
VIEW = """
CREATE VIEW report_{level} AS
SELECT bucket, {dimensions}, total
FROM rollup_{level} WHERE NOT EXISTS (SELECT FROM stale_{level} stale WHERE stale.bucket = rollup_{level}.bucket)
UNION ALL
{live}
"""


# A role that may read the reports and nothing else. Roles belong to the whole server: another database of it may have
# made this one, or be making it just now. The grant stands in the transaction that makes the views, because from its
# end on TimescaleDB's workers write to what is below them ("tuple concurrently updated").
READER = """
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
        GRANT SELECT ON report_5min, report_hour, report_day TO millrace_reader;
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


def upgrade() -> None:
    op.execute(RETENTION)
    make = _make_aggregates if _community() else _make_rollups
    make()
    op.execute(READER)


def _community() -> bool:
    return bool(op.get_bind().execute(text("SELECT current_setting('timescaledb.license') = 'timescale'")).scalar())


def _make_aggregates() -> None:
    for level, (width, finer, time, value, (end, every)) in LEVELS.items():
        definition = sums(f"time_bucket('{width}', {time})", value, finer)
        op.execute(AGGREGATE.format(level=level, sums=definition, end=end, every=every))
    op.execute(POLICIES)


def _make_rollups() -> None:
    for level, (width, _, time, value, _) in LEVELS.items():
        within = f"{FINER[level]} WHERE {time} >= %1$L AND {time} < %2$L"
        op.execute(ROLLUP.format(level=level, width=width, sums=sums("%1$L::timestamptz", value, within)))
    op.execute(TOUCH)
    for level in LEVELS:
        op.execute(VIEW.format(level=level, dimensions=DIMENSIONS, live=_live(level)))


def _live(level: str) -> str:
    width, finer, time, value, _ = LEVELS[level]
    source = (
        f"stale_{level} stale JOIN {finer} ON {finer}.{time} >= stale.bucket"
        f" AND {finer}.{time} < stale.bucket + INTERVAL '{width}'"
    )
    if level != "5min":
        return sums("stale.bucket", value, source)
    recent = sums("stale.bucket", value, f"{source} WHERE {RECENT}")
    return f"{recent} UNION ALL SELECT bucket, {DIMENSIONS}, total FROM {OLDER}"  # noqa: S608


def downgrade() -> None:
    rolled_up = op.get_bind().execute(text("SELECT to_regclass('rollup_5min') IS NOT NULL")).scalar()
    unmake = _unmake_rollups if rolled_up else _unmake_aggregates
    unmake()
    op.execute("DROP TABLE late_event")
    op.execute("DROP FUNCTION report_horizon()")
    op.execute("DROP TABLE retention")
    op.execute(NO_READER)


def _unmake_aggregates() -> None:
    # The policies first: this ends a refresh under way, which would be in the way of dropping what it refreshes.
    for level in LEVELS:
        op.execute(f"SELECT remove_continuous_aggregate_policy('report_{level}')")
    op.execute("SELECT remove_retention_policy('event')")
    op.execute("CALL remove_columnstore_policy('event')")
    for level in reversed(LEVELS):
        op.execute(f"DROP MATERIALIZED VIEW report_{level}")


def _unmake_rollups() -> None:
    for level in reversed(LEVELS):
        op.execute(f"DROP VIEW report_{level}")
    op.execute("DROP TRIGGER event_touches ON event")
    op.execute("DROP TRIGGER event_touches_now ON event")
    op.execute("DROP FUNCTION note_time()")
    op.execute("DROP FUNCTION note_now()")
    for level in reversed(LEVELS):
        op.execute(f"DROP VIEW stale_{level}")
    for level in LEVELS:
        op.execute(f"DROP FUNCTION sum_{level}(timestamptz[])")
        op.execute(f"DROP TABLE rollup_{level}, touched_{level}")
