-- Accounts at providers that several pools speak with, and what holds for these pools together.

-- Of two that change pools of an organisation, or who uses them for what, the second waits here, and then sees what the
-- first has done.
-- name: hold
SELECT pg_advisory_xact_lock(hashtext('pool_account'), :organisation_id)

-- name: drop
DELETE FROM pool_account
 WHERE organisation_id = :organisation_id
   AND NOT EXISTS (
           SELECT FROM pool
             LEFT JOIN pool_limit
               ON pool_limit.pool_id = pool.id
              AND pool_limit.receiver = ''
            WHERE pool.organisation_id = pool_account.organisation_id
              AND pool.account = pool_account.digest
           HAVING count(*) > 1
              AND (count(pool_limit.per_second) = count(*) OR count(pool_limit.per_day) = count(*))
       )

-- The highest rate with its burst, and the highest number for a day, of those that hold for all of a pool's emails;
-- each only where every pool has one. Where one has none, a low limit of another is that pool's own.
-- name: put
INSERT INTO pool_account (organisation_id, digest, per_second, burst, per_day)
SELECT :organisation_id, pool.account,
       CASE WHEN count(per_second) = count(*) THEN max(per_second) END,
       CASE WHEN count(per_second) = count(*)
            THEN (array_agg(burst ORDER BY per_second DESC, burst DESC))[1] ELSE 1 END,
       CASE WHEN count(per_day) = count(*) THEN max(per_day) END
  FROM pool
  LEFT JOIN pool_limit
    ON pool_limit.pool_id = pool.id
   AND pool_limit.receiver = ''
 WHERE pool.organisation_id = :organisation_id
   AND pool.account <> ''
 GROUP BY pool.account
HAVING count(*) > 1
   AND (count(per_second) = count(*) OR count(per_day) = count(*))
    ON CONFLICT (organisation_id, digest) DO UPDATE
   SET per_second = excluded.per_second,
       burst = excluded.burst,
       per_day = excluded.per_day,
       changed_at = now(),
       paced_until = NULL
 WHERE (pool_account.per_second, pool_account.burst, pool_account.per_day)
       IS DISTINCT FROM (excluded.per_second, excluded.burst, excluded.per_day)

-- name: assign
UPDATE pool
   SET account_id = (
           SELECT pool_account.id
             FROM pool_account
            WHERE pool_account.organisation_id = pool.organisation_id
              AND pool_account.digest = pool.account
       )
 WHERE organisation_id = :organisation_id
   AND account_id IS DISTINCT FROM (
           SELECT pool_account.id
             FROM pool_account
            WHERE pool_account.organisation_id = pool.organisation_id
              AND pool_account.digest = pool.account
       )

-- name: find_untold
SELECT id, organisation_id, url
  FROM pool
 WHERE account IS NULL

-- A URL that was changed meanwhile has told its account itself.
-- name: tell
UPDATE pool
   SET account = :account
 WHERE id = :pool_id
   AND url = :url
   AND account IS NULL

-- What all pools at a pool's account have sent in the last day, in steps; in seconds since 1970.
-- name: find_slots
SELECT extract(epoch FROM slot)::float8 AS slot, sum(spent) AS spent
  FROM pool
  JOIN pool AS sharing
    ON sharing.account_id = pool.account_id
  JOIN pool_spent
    ON pool_spent.pool_id = sharing.id
   AND pool_spent.receiver = ''
 WHERE pool.id = :pool_id
   AND slot > now() - interval '24 hours 10 minutes'
   AND spent > 0
 GROUP BY slot
 ORDER BY slot

-- Who else speaks with a pool's account, and what holds for all of them.
-- name: find_sharing
SELECT other.name, pool_account.per_second, pool_account.per_day
  FROM pool
  JOIN pool AS other
    ON other.organisation_id = pool.organisation_id
   AND other.account = pool.account
   AND other.id <> pool.id
  LEFT JOIN pool_account
    ON pool_account.id = pool.account_id
 WHERE pool.id = :pool_id
   AND pool.account <> ''
 ORDER BY lower(other.name)
