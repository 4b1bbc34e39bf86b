-- Warm-ups: ceilings that grow day by day, of a pool or of a domain that an organisation sends from. What was spent is
-- counted as limits by day count it: in steps of ten minutes, until all of a step is a day old.

-- name: set_of_pool
INSERT INTO warm_up (organisation_id, pool_id, starts_on, curve)
VALUES (:organisation_id, :pool_id, :starts_on, CAST(:curve AS integer[]))
    ON CONFLICT (pool_id) WHERE pool_id IS NOT NULL DO UPDATE
   SET starts_on = excluded.starts_on,
       curve = excluded.curve,
       changed_at = now(),
       paced_until = NULL

-- name: set_of_domain
INSERT INTO warm_up (organisation_id, domain, starts_on, curve)
VALUES (:organisation_id, :domain, :starts_on, CAST(:curve AS integer[]))
    ON CONFLICT (organisation_id, domain) WHERE domain IS NOT NULL DO UPDATE
   SET starts_on = excluded.starts_on,
       curve = excluded.curve,
       changed_at = now(),
       paced_until = NULL

-- name: drop_of_pool
DELETE FROM warm_up
 WHERE organisation_id = :organisation_id
   AND pool_id = :pool_id

-- name: drop_of_domain
DELETE FROM warm_up
 WHERE organisation_id = :organisation_id
   AND domain = :domain

-- A pool's, and a domain's where one is given, with what was sent within the last day.
-- name: find
SELECT warm_up.id, warm_up.pool_id, warm_up.domain, warm_up.starts_on, warm_up.curve, warm_up.paced_until,
       (now() AT TIME ZONE 'UTC')::date AS today,
       (SELECT coalesce(sum(spent), 0)
          FROM warm_up_spent
         WHERE warm_up_spent.warm_up_id = warm_up.id
           AND slot > now() - interval '24 hours 10 minutes') AS spent
  FROM warm_up
 WHERE warm_up.organisation_id = :organisation_id
   AND (warm_up.pool_id = :pool_id OR warm_up.domain = :domain)
 ORDER BY warm_up.pool_id IS NULL

-- name: find_curve
SELECT starts_on, curve
  FROM warm_up
 WHERE pool_id = :pool_id

-- What is left of those that a campaign's page through a pool counts for; one that has run its course holds nobody.
-- name: find_left
SELECT warm_up.id,
       greatest(
           warm_up.curve[greatest(1, (now() AT TIME ZONE 'UTC')::date - warm_up.starts_on + 1)] - coalesce(day.spent, 0),
           0
       ) AS left,
       least(
           coalesce(extract(epoch FROM day.first + interval '24 hours 10 minutes' - now()), 86400),
           extract(epoch FROM date_trunc('day', now(), 'UTC') + interval '1 day' - now())
       )::float8 AS frees_in,
       warm_up.changed_at
  FROM campaign
  JOIN sender
    ON sender.id = campaign.sender_id
  JOIN warm_up
    ON warm_up.pool_id = :pool_id
    OR (warm_up.organisation_id = campaign.organisation_id
        AND warm_up.domain = lower(split_part(sender.address, '@', 2)))
  LEFT JOIN LATERAL (
           SELECT CAST(sum(spent) AS integer) AS spent, min(slot) FILTER (WHERE spent > 0) AS first
             FROM warm_up_spent
            WHERE warm_up_spent.warm_up_id = warm_up.id
              AND slot > now() - interval '24 hours 10 minutes'
       ) AS day
    ON true
 WHERE campaign.id = :campaign_id
   AND (now() AT TIME ZONE 'UTC')::date < warm_up.starts_on + cardinality(warm_up.curve)
 ORDER BY warm_up.id

-- name: find_slots
SELECT warm_up_id, extract(epoch FROM slot)::float8 AS slot, spent
  FROM warm_up_spent
 WHERE warm_up_id = ANY(CAST(:ids AS integer[]))
   AND slot > now() - interval '24 hours 10 minutes'
   AND spent > 0
 ORDER BY slot

-- name: lock
SELECT id
  FROM warm_up
 WHERE id = ANY(CAST(:ids AS integer[]))
 ORDER BY id
   FOR NO KEY UPDATE

-- Counted for all of them or, where one has less left, for none. One that was taken away meanwhile counts nothing, and
-- one whose last day was over by midnight has no ceiling any more.
-- name: spend
WITH over AS (
    SELECT
      FROM warm_up
     WHERE id = ANY(CAST(:ids AS integer[]))
       AND :emails + (
               SELECT coalesce(sum(spent), 0)
                 FROM warm_up_spent
                WHERE warm_up_spent.warm_up_id = warm_up.id
                  AND slot > now() - interval '24 hours 10 minutes'
           ) > warm_up.curve[greatest(1, (now() AT TIME ZONE 'UTC')::date - warm_up.starts_on + 1)]
), spent AS (
    INSERT INTO warm_up_spent (warm_up_id, slot, spent)
    SELECT id, date_bin('10 minutes', now(), timestamptz '2000-01-01'), :emails
      FROM warm_up
     WHERE id = ANY(CAST(:ids AS integer[]))
       AND NOT EXISTS (SELECT FROM over)
        ON CONFLICT (warm_up_id, slot) DO UPDATE
       SET spent = warm_up_spent.spent + excluded.spent
)
SELECT NOT EXISTS (SELECT FROM over) AS enough

-- From the newest step that holds as many: usually the one that they were counted in.
-- name: give_back
UPDATE warm_up_spent
   SET spent = spent - :emails
 WHERE warm_up_id = ANY(CAST(:ids AS integer[]))
   AND slot = (
           SELECT max(held.slot)
             FROM warm_up_spent AS held
            WHERE held.warm_up_id = warm_up_spent.warm_up_id
              AND held.spent >= :emails
       )

-- name: wait
UPDATE warm_up
   SET paced_until = now() + make_interval(secs => :seconds)
 WHERE id = :id
   AND changed_at = :changed_at

-- name: forget_spent
DELETE FROM warm_up_spent
 WHERE slot < now() - interval '2 days'

-- name: today
SELECT (now() AT TIME ZONE 'UTC')::date
