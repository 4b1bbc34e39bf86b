-- What keeps the reports' sums: on the Apache edition the roll-up tables, on Community the policies' windows.
-- One statement rolls up one level, so one snapshot shows both the log of touched buckets and the rows that are summed:
-- what commits later stands in the log still, and its bucket stays stale.

-- name: take_turn
SELECT pg_try_advisory_xact_lock(7203192) AS mine

-- name: find_edition
SELECT CASE WHEN to_regclass('rollup_5min') IS NULL THEN 'community' ELSE 'apache' END AS edition

-- name: find_lag_of_rollups
SELECT max(now() - bucket - INTERVAL '5 minutes') AS lag
FROM touched_5min
WHERE bucket <= now() - INTERVAL '5 minutes'

-- name: find_lag_of_policies
SELECT now() - last_successful_finish AS lag
FROM timescaledb_information.jobs
JOIN timescaledb_information.job_stats USING (job_id)
WHERE jobs.proc_name = 'policy_refresh_continuous_aggregate'
  AND jobs.hypertable_schema = current_schema()
  AND jobs.hypertable_name = 'report_5min'
  AND last_successful_finish > '-infinity'

-- name: note_late
INSERT INTO late_event (time, organisation_id, campaign_id, kind, total)
VALUES (:time, :organisation_id, :campaign_id, :kind, :total)

-- name: find_horizon
SELECT report_horizon() AS horizon

-- name: keep_for
UPDATE retention
SET keep = make_interval(days => :days)

-- name: retire
-- True once an hour: then what is older than `keep` may go. The horizon moves with it, before anything is dropped.
UPDATE retention
SET dropped_before = now() - keep
WHERE dropped_before < now() - keep - INTERVAL '1 hour'
RETURNING true

-- name: is_rolled_up
SELECT NOT EXISTS (
    SELECT
    FROM touched_5min, retention
    WHERE bucket < now() - keep + INTERVAL '1 day'
) AS rolled_up

-- name: drop_chunks
SELECT count(*)
FROM retention, drop_chunks('event', older_than => now() - keep) AS dropped

-- name: move_windows
-- The refreshes' windows first: one that reached into what was dropped would erase its sums.
SELECT alter_job(job_id, config_merge => jsonb_build_object('start_offset', (now() - report_horizon())::text))
FROM timescaledb_information.jobs
WHERE proc_name = 'policy_refresh_continuous_aggregate'
  AND hypertable_schema = current_schema()
  AND hypertable_name ~ '^(report|brief|user)_(5min|hour|day)$'

-- name: move_retention
SELECT alter_job(job_id, config_merge => jsonb_build_object('drop_after', keep::text))
FROM timescaledb_information.jobs, retention
WHERE proc_name = 'policy_retention'
  AND hypertable_schema = current_schema()
  AND hypertable_name = 'event'

-- name: touch_unequal
-- Buckets whose sums by user are not those by campaign are rolled up again, and their hours and days after them.
WITH brief AS (
    SELECT bucket, organisation_id, user_id, kind, machine, sum(total)
    FROM rollup_brief_5min
    WHERE bucket > now() - make_interval(days => :days)
    GROUP BY bucket, organisation_id, user_id, kind, machine
), by_user AS (
    SELECT bucket, organisation_id, user_id, kind, machine, total
    FROM rollup_user_5min
    WHERE bucket > now() - make_interval(days => :days)
)
INSERT INTO touched_5min (bucket)
SELECT bucket
FROM ((TABLE brief EXCEPT TABLE by_user) UNION ALL (TABLE by_user EXCEPT TABLE brief)) AS unequal
GROUP BY bucket

-- name: roll_up_5min
WITH chosen AS (
    SELECT DISTINCT bucket
    FROM touched_5min
    WHERE bucket <= now() - INTERVAL '5 minutes'
    ORDER BY bucket DESC
    LIMIT :buckets
), closed AS MATERIALIZED (
    SELECT id, bucket
    FROM touched_5min
    WHERE bucket IN (SELECT bucket FROM chosen)
), forgotten AS (
    DELETE FROM touched_5min
    WHERE id IN (SELECT id FROM closed)
), cleared AS (
    DELETE FROM rollup_5min
    WHERE bucket IN (SELECT bucket FROM closed)
), coarser AS (
    INSERT INTO touched_hour (bucket)
    SELECT DISTINCT time_bucket('1 hour', bucket)
    FROM closed
), brief_cleared AS (
    DELETE FROM rollup_brief_5min
    WHERE bucket IN (SELECT bucket FROM closed)
), user_cleared AS (
    DELETE FROM rollup_user_5min
    WHERE bucket IN (SELECT bucket FROM closed)
), rolled_up AS (
    INSERT INTO rollup_5min
    SELECT *
    FROM sum_5min(ARRAY(SELECT DISTINCT bucket FROM closed))
    RETURNING *
), by_user AS (
    INSERT INTO rollup_user_5min (bucket, organisation_id, user_id, kind, machine, total)
    SELECT bucket, organisation_id, user_id, kind, machine, sum(total)
    FROM rolled_up
    GROUP BY bucket, organisation_id, user_id, kind, machine
), brief AS (
    INSERT INTO rollup_brief_5min (bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine,
        message, total)
    SELECT bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine, message, sum(total)
    FROM rolled_up
    GROUP BY bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine, message
)
SELECT count(DISTINCT bucket) AS buckets
FROM closed

-- name: roll_up_hours
-- An hour that is touched again and again (webhooks come late) is rolled up every five minutes, not at every turn.
WITH chosen AS (
    SELECT bucket
    FROM touched_hour
    WHERE bucket <= now() - INTERVAL '1 hour'
      AND bucket NOT IN (SELECT time_bucket('1 hour', bucket) FROM touched_5min)
    GROUP BY bucket
    HAVING min(at) <= now() - make_interval(secs => :wait)
    ORDER BY bucket DESC
    LIMIT :buckets
), closed AS MATERIALIZED (
    SELECT id, bucket
    FROM touched_hour
    WHERE bucket IN (SELECT bucket FROM chosen)
), forgotten AS (
    DELETE FROM touched_hour
    WHERE id IN (SELECT id FROM closed)
), cleared AS (
    DELETE FROM rollup_hour
    WHERE bucket IN (SELECT bucket FROM closed)
), coarser AS (
    INSERT INTO touched_day (bucket)
    SELECT DISTINCT time_bucket('1 day', bucket)
    FROM closed
), brief_cleared AS (
    DELETE FROM rollup_brief_hour
    WHERE bucket IN (SELECT bucket FROM closed)
), user_cleared AS (
    DELETE FROM rollup_user_hour
    WHERE bucket IN (SELECT bucket FROM closed)
), rolled_up AS (
    INSERT INTO rollup_hour
    SELECT *
    FROM sum_hour(ARRAY(SELECT DISTINCT bucket FROM closed))
    RETURNING *
), by_user AS (
    INSERT INTO rollup_user_hour (bucket, organisation_id, user_id, kind, machine, total)
    SELECT bucket, organisation_id, user_id, kind, machine, sum(total)
    FROM rolled_up
    GROUP BY bucket, organisation_id, user_id, kind, machine
), brief AS (
    INSERT INTO rollup_brief_hour (bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine,
        message, total)
    SELECT bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine, message, sum(total)
    FROM rolled_up
    GROUP BY bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine, message
)
SELECT count(DISTINCT bucket) AS buckets
FROM closed

-- name: roll_up_days
WITH chosen AS (
    SELECT bucket
    FROM touched_day
    WHERE bucket <= now() - INTERVAL '1 day'
      AND bucket NOT IN (SELECT time_bucket('1 day', bucket) FROM stale_hour)
    GROUP BY bucket
    HAVING min(at) <= now() - make_interval(secs => :wait)
    ORDER BY bucket DESC
    LIMIT :buckets
), closed AS MATERIALIZED (
    SELECT id, bucket
    FROM touched_day
    WHERE bucket IN (SELECT bucket FROM chosen)
), forgotten AS (
    DELETE FROM touched_day
    WHERE id IN (SELECT id FROM closed)
), cleared AS (
    DELETE FROM rollup_day
    WHERE bucket IN (SELECT bucket FROM closed)
), brief_cleared AS (
    DELETE FROM rollup_brief_day
    WHERE bucket IN (SELECT bucket FROM closed)
), user_cleared AS (
    DELETE FROM rollup_user_day
    WHERE bucket IN (SELECT bucket FROM closed)
), rolled_up AS (
    INSERT INTO rollup_day
    SELECT *
    FROM sum_day(ARRAY(SELECT DISTINCT bucket FROM closed))
    RETURNING *
), by_user AS (
    INSERT INTO rollup_user_day (bucket, organisation_id, user_id, kind, machine, total)
    SELECT bucket, organisation_id, user_id, kind, machine, sum(total)
    FROM rolled_up
    GROUP BY bucket, organisation_id, user_id, kind, machine
), brief AS (
    INSERT INTO rollup_brief_day (bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine,
        message, total)
    SELECT bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine, message, sum(total)
    FROM rolled_up
    GROUP BY bucket, organisation_id, user_id, campaign_id, kind, pool_id, variant, run, machine, message
)
SELECT count(DISTINCT bucket) AS buckets
FROM closed
