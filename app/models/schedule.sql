-- name: find
SELECT id, state, start_at, schedule, parts, now() AS now
  FROM campaign
 WHERE id = :campaign_id

-- name: set_schedule
UPDATE campaign
   SET start_at = :start_at,
       schedule = :schedule,
       updated_at = now()
 WHERE id = :campaign_id

-- name: find_parts
SELECT part, zone, begins_at, deliver_by, tested
  FROM campaign_part
 WHERE campaign_id = :campaign_id
 ORDER BY part

-- name: drop_parts
DELETE FROM campaign_part
 WHERE campaign_id = :campaign_id

-- name: add_parts
INSERT INTO campaign_part (campaign_id, part, zone, begins_at, deliver_by, tested)
SELECT :campaign_id, part, zone, begins_at, deliver_by, tested
  FROM unnest(
           CAST(:parts AS smallint[]), CAST(:zones AS text[]), CAST(:begins AS timestamptz[]),
           CAST(:deliver_by AS timestamptz[]), CAST(:tested AS boolean[])
       ) AS told (part, zone, begins_at, deliver_by, tested)

-- What was never put off, in order of ids, each lead as far from the one before as from the next: a range is due after the
-- leads before it. The last stretch that begins before that holds it. What somebody holds comes back with the time it had.
-- name: spread
WITH open AS MATERIALIZED (
    SELECT part, opens, closes, before, sum(seconds) OVER (PARTITION BY part) AS total
      FROM unnest(
               CAST(:parts AS smallint[]), CAST(:opens AS timestamptz[]), CAST(:closes AS timestamptz[]),
               CAST(:before AS float8[]), CAST(:seconds AS float8[])
           ) AS told (part, opens, closes, before, seconds)
), waiting AS MATERIALIZED (
    SELECT id, part, size - position AS leads
      FROM outbox
     WHERE campaign_id = :campaign_id
       AND state = 'ready'
       AND variant >= 0
       AND attempts = 0
       AND deferred_since IS NULL
       FOR UPDATE SKIP LOCKED
), placed AS (
    SELECT id, part,
           (sum(leads) OVER (PARTITION BY part ORDER BY id) - leads)::float8 / sum(leads) OVER (PARTITION BY part)
               AS share
      FROM waiting
), due AS (
    SELECT placed.id, within.closes,
           within.opens + make_interval(secs => placed.share * within.total - within.before) AS due_at
      FROM placed
     CROSS JOIN LATERAL (
               SELECT opens, closes, before, total
                 FROM open
                WHERE open.part = placed.part
                  AND open.before <= placed.share * open.total
                ORDER BY open.before DESC, open.opens DESC
                LIMIT 1
           ) AS within
)
UPDATE outbox
   SET due_at = due.due_at,
       closes_at = due.closes
  FROM due
 WHERE outbox.id = due.id

-- What was put off and would come before its part, or after its window: when the part next opens.
-- name: push
WITH open AS (
    SELECT DISTINCT ON (part) part, opens, closes
      FROM unnest(
               CAST(:parts AS smallint[]), CAST(:opens AS timestamptz[]), CAST(:closes AS timestamptz[]),
               CAST(:before AS float8[]), CAST(:seconds AS float8[])
           ) AS told (part, opens, closes, before, seconds)
     ORDER BY part, opens
)
UPDATE outbox
   SET due_at = greatest(outbox.due_at, open.opens),
       closes_at = open.closes
  FROM open
 WHERE outbox.campaign_id = :campaign_id
   AND outbox.part = open.part
   AND outbox.state = 'ready'
   AND outbox.variant >= 0
   AND (outbox.attempts > 0 OR outbox.deferred_since IS NOT NULL)
   AND (outbox.due_at < open.opens OR outbox.closes_at IS DISTINCT FROM open.closes)

-- name: push_closed
WITH open AS (
    SELECT DISTINCT ON (part) part, opens, closes
      FROM unnest(
               CAST(:parts AS smallint[]), CAST(:opens AS timestamptz[]), CAST(:closes AS timestamptz[]),
               CAST(:before AS float8[]), CAST(:seconds AS float8[])
           ) AS told (part, opens, closes, before, seconds)
     ORDER BY part, opens
)
UPDATE outbox
   SET due_at = greatest(outbox.due_at, open.opens),
       closes_at = open.closes
  FROM open
 WHERE outbox.campaign_id = :campaign_id
   AND outbox.part = open.part
   AND outbox.state = 'ready'
   AND outbox.closes_at <= now()

-- The rest of a test whose winner was chosen, in a campaign that goes at once.
-- name: free_rest
UPDATE outbox
   SET due_at = now()
 WHERE campaign_id = :campaign_id
   AND state = 'ready'
   AND variant >= 0
   AND due_at = 'infinity'

-- name: shut
UPDATE outbox
   SET closes_at = now()
 WHERE campaign_id = :campaign_id
   AND state = 'leased'

-- name: find_closed
SELECT campaign_part.campaign_id, campaign_part.part
  FROM campaign
  JOIN campaign_part
    ON campaign_part.campaign_id = campaign.id
 WHERE campaign.state = 'sending'
   AND EXISTS (
           SELECT FROM outbox
            WHERE outbox.campaign_id = campaign_part.campaign_id
              AND outbox.part = campaign_part.part
              AND outbox.state = 'ready'
              AND outbox.closes_at <= now()
       )

-- What was due some time ago and may go, but did not: limits, workers that were away, a pause of the provider's.
-- name: find_behind
SELECT campaign.id
  FROM campaign
  JOIN campaign_plan
    ON campaign_plan.campaign_id = campaign.id
 WHERE campaign.state = 'sending'
   AND campaign_plan.spread_at < now() - make_interval(secs => :seconds)
   AND EXISTS (
           SELECT
             FROM outbox
             JOIN campaign_part
               ON campaign_part.campaign_id = outbox.campaign_id
              AND campaign_part.part = outbox.part
            WHERE outbox.campaign_id = campaign.id
              AND outbox.state = 'ready'
              AND outbox.due_at < now() - make_interval(secs => :seconds)
              AND (outbox.closes_at IS NULL OR outbox.closes_at > now())
              AND outbox.attempts = 0
              AND outbox.deferred_since IS NULL
              AND campaign_part.deliver_by > now()
              AND NOT campaign_part.tested
       )

-- name: find_plan
SELECT spread_at, times, why, points
  FROM campaign_plan
 WHERE campaign_id = :campaign_id

-- name: keep_plan
INSERT INTO campaign_plan AS kept (campaign_id, why, points)
VALUES (:campaign_id, :why, :points)
    ON CONFLICT (campaign_id) DO UPDATE
   SET spread_at = now(),
       times = kept.times + 1,
       why = excluded.why,
       points = excluded.points

-- What waits for its time, and (no time) what does not. The rest of a test waits for none.
-- name: find_due
WITH waiting AS (
    SELECT CASE
               WHEN state = 'ready' AND variant >= 0 THEN extract(epoch FROM greatest(due_at, now()))::float8
           END AS at,
           CASE WHEN state IN ('ready', 'leased', 'quarantined') THEN size - position ELSE 0 END AS open,
           size - moved AS leads,
           state, variant
      FROM outbox
     WHERE campaign_id = :campaign_id
), bounds AS (
    SELECT min(at) AS first, greatest((max(at) - min(at)) / :slots, 1.0) AS step
      FROM waiting
), stepped AS (
    SELECT bounds.first + ceil((waiting.at - bounds.first) / bounds.step) * bounds.step AS at,
           waiting.open
      FROM waiting
     CROSS JOIN bounds
     WHERE waiting.at IS NOT NULL
)
SELECT NULL::float8 AS at,
       coalesce(sum(leads) - sum(CASE WHEN state = 'ready' THEN open ELSE 0 END), 0) AS leads
  FROM waiting
 UNION ALL
SELECT at, sum(open)
  FROM stepped
 GROUP BY at
 ORDER BY at

-- When something is due of a campaign that nobody holds anything of.
-- name: find_next_due
SELECT min(due_at)
  FROM outbox
 WHERE campaign_id = :campaign_id
   AND state = 'ready'
   AND due_at < 'infinity'
HAVING min(due_at) > now()
   AND NOT EXISTS (SELECT FROM outbox WHERE campaign_id = :campaign_id AND state = 'leased')

-- name: find_gone
SELECT extract(epoch FROM bucket)::float8 AS at, sum(total) AS leads
  FROM brief_5min
 WHERE campaign_id = :campaign_id
   AND bucket > CAST(:since AS timestamptz) - INTERVAL '5 minutes'
   AND kind IN ('sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown')
 GROUP BY bucket
HAVING sum(total) <> 0
 ORDER BY bucket
