-- name: list_limits
SELECT receiver, per_second, burst, per_day, connections, messages
  FROM pool_limit
 WHERE pool_id = :pool_id
   AND (per_second IS NOT NULL OR per_day IS NOT NULL OR connections IS NOT NULL OR messages IS NOT NULL)
 ORDER BY receiver

-- name: drop_limits
DELETE FROM pool_limit
 WHERE pool_id = :pool_id
   AND shaped_until IS NULL
   AND stopped_until IS NULL

-- What a receiver's reply has brought about stays until its time is over, or a person lifts it.
-- name: empty_limits
UPDATE pool_limit
   SET per_second = NULL,
       per_day = NULL,
       burst = 1,
       connections = NULL,
       messages = NULL,
       changed_at = now(),
       paced_until = NULL
 WHERE pool_id = :pool_id

-- name: add_limits
INSERT INTO pool_limit (pool_id, receiver, per_second, burst, per_day, connections, messages)
SELECT :pool_id, given.receiver, given.per_second, given.burst, given.per_day, given.connections, given.messages
  FROM unnest(
           CAST(:receivers AS text[]), CAST(:per_second AS double precision[]), CAST(:bursts AS integer[]),
           CAST(:per_day AS integer[]), CAST(:connections AS smallint[]), CAST(:messages AS integer[])
       ) AS given (receiver, per_second, burst, per_day, connections, messages)
    ON CONFLICT (pool_id, receiver) DO UPDATE
   SET per_second = excluded.per_second,
       burst = excluded.burst,
       per_day = excluded.per_day,
       connections = excluded.connections,
       messages = excluded.messages,
       changed_at = now(),
       paced_until = NULL

-- A slot of ten minutes counts until all of it is a day old: never more than the limit in any 24 hours. What holds for all
-- pools at the same account is one limit more; its day counts what all of them have sent.
-- name: find_left
SELECT pool_pace.receiver, per_second, burst,
       CASE
           WHEN stopped_until > now() THEN 0
           WHEN per_day IS NOT NULL THEN greatest(per_day - coalesce(day.spent, 0), 0)
       END AS left,
       coalesce(
           extract(
               epoch FROM CASE
                              WHEN stopped_until > now() THEN stopped_until
                              ELSE day.first + interval '24 hours 10 minutes'
                          END - now()
           ),
           0
       )::float8 AS frees_in,
       changed_at, CAST(NULL AS integer) AS account_id
  FROM pool_pace
  LEFT JOIN LATERAL (
           SELECT CAST(sum(spent) AS integer) AS spent, min(slot) FILTER (WHERE spent > 0) AS first
             FROM pool_spent
            WHERE pool_spent.pool_id = pool_pace.pool_id
              AND pool_spent.receiver = pool_pace.receiver
              AND slot > now() - interval '24 hours 10 minutes'
       ) AS day
    ON pool_pace.per_day IS NOT NULL
 WHERE pool_pace.pool_id = :pool_id
 UNION ALL
SELECT '', account.per_second, account.burst,
       CASE WHEN account.per_day IS NOT NULL THEN greatest(account.per_day - coalesce(day.spent, 0), 0) END,
       coalesce(extract(epoch FROM day.first + interval '24 hours 10 minutes' - now()), 0)::float8,
       account.changed_at, account.id
  FROM pool
  JOIN pool_account AS account
    ON account.id = pool.account_id
  LEFT JOIN LATERAL (
           SELECT CAST(sum(spent) AS integer) AS spent, min(slot) FILTER (WHERE spent > 0) AS first
             FROM pool AS sharing
             JOIN pool_spent
               ON pool_spent.pool_id = sharing.id
              AND pool_spent.receiver = ''
              AND slot > now() - interval '24 hours 10 minutes'
            WHERE sharing.account_id = account.id
       ) AS day
    ON account.per_day IS NOT NULL
 WHERE pool.id = :pool_id

-- Of a pool's emails to a receiver, or ('') of all of them; steps in seconds since 1970, of the last day.
-- name: find_slots
SELECT extract(epoch FROM slot)::float8 AS slot, spent
  FROM pool_spent
 WHERE pool_id = :pool_id
   AND receiver = :receiver
   AND slot > now() - interval '24 hours 10 minutes'
   AND spent > 0
 ORDER BY slot

-- name: lock
SELECT receiver
  FROM pool_limit
 WHERE pool_id = :pool_id
   AND receiver = ANY(CAST(:receivers AS text[]))
 ORDER BY receiver
   FOR NO KEY UPDATE

-- name: lock_account
SELECT pool_account.id
  FROM pool
  JOIN pool_account
    ON pool_account.id = pool.account_id
 WHERE pool.id = :pool_id
   FOR NO KEY UPDATE OF pool_account

-- name: spend
WITH given AS (
    SELECT receiver, emails
      FROM unnest(CAST(:receivers AS text[]), CAST(:emails AS integer[])) AS given (receiver, emails)
), over AS (
    SELECT given.receiver
      FROM given
      JOIN pool_limit
        ON pool_limit.pool_id = :pool_id
       AND pool_limit.receiver = given.receiver
     WHERE given.emails + (
               SELECT coalesce(sum(spent), 0)
                 FROM pool_spent
                WHERE pool_spent.pool_id = :pool_id
                  AND pool_spent.receiver = given.receiver
                  AND slot > now() - interval '24 hours 10 minutes'
           ) > pool_limit.per_day
     UNION ALL
    SELECT given.receiver
      FROM given
      JOIN pool
        ON pool.id = :pool_id
      JOIN pool_account
        ON pool_account.id = pool.account_id
     WHERE given.receiver = ''
       AND given.emails + (
               SELECT coalesce(sum(spent), 0)
                 FROM pool AS sharing
                 JOIN pool_spent
                   ON pool_spent.pool_id = sharing.id
                  AND pool_spent.receiver = ''
                  AND slot > now() - interval '24 hours 10 minutes'
                WHERE sharing.account_id = pool_account.id
           ) > pool_account.per_day
)
INSERT INTO pool_spent (pool_id, receiver, slot, spent)
SELECT :pool_id, receiver, date_bin('10 minutes', now(), timestamptz '2000-01-01'), emails
  FROM given
 WHERE NOT EXISTS (SELECT FROM over)
    ON CONFLICT (pool_id, receiver, slot) DO UPDATE
   SET spent = pool_spent.spent + excluded.spent

-- From the newest slot that holds as many: usually the one that they were counted in.
-- name: give_back
UPDATE pool_spent
   SET spent = spent - given.emails
  FROM unnest(CAST(:receivers AS text[]), CAST(:emails AS integer[])) AS given (receiver, emails)
 WHERE pool_spent.pool_id = :pool_id
   AND pool_spent.receiver = given.receiver
   AND pool_spent.slot = (
           SELECT max(held.slot)
             FROM pool_spent AS held
            WHERE held.pool_id = :pool_id
              AND held.receiver = given.receiver
              AND held.spent >= given.emails
       )

-- name: wait
UPDATE pool_limit
   SET paced_until = now() + make_interval(secs => :seconds)
 WHERE pool_id = :pool_id
   AND receiver = :receiver
   AND changed_at = :changed_at

-- name: wait_for_account
UPDATE pool_account
   SET paced_until = now() + make_interval(secs => :seconds)
 WHERE id = :account_id
   AND changed_at = :changed_at

-- name: forget_spent
DELETE FROM pool_spent
 WHERE slot < now() - interval '2 days'
