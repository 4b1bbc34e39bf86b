-- Rules, and what is in effect because of a reply. What is in effect stands in `shaping`, one row for each rule and
-- receiver; pool_limit holds the sum of it for the claim.

-- name: list_rules
SELECT id, shipped, receiver, pattern, per_second, seconds, enabled
  FROM shaping_rule
 WHERE organisation_id = :organisation_id
 ORDER BY id

-- name: add_rule
INSERT INTO shaping_rule (organisation_id, shipped, receiver, pattern, per_second, seconds, enabled)
VALUES (:organisation_id, CAST(:shipped AS text), :receiver, :pattern, :per_second, :seconds, :enabled)
    ON CONFLICT (organisation_id, shipped) WHERE shipped IS NOT NULL DO UPDATE
   SET receiver = excluded.receiver,
       pattern = excluded.pattern,
       per_second = excluded.per_second,
       seconds = excluded.seconds,
       enabled = excluded.enabled
RETURNING id

-- name: change_rule
UPDATE shaping_rule
   SET receiver = :receiver,
       pattern = :pattern,
       per_second = :per_second,
       seconds = :seconds,
       enabled = :enabled
 WHERE organisation_id = :organisation_id
   AND id = :id
RETURNING id

-- name: drop_rule
DELETE FROM shaping_rule
 WHERE organisation_id = :organisation_id
   AND (id = :id OR shipped = CAST(:shipped AS text))
RETURNING id

-- name: find_domains
SELECT id, name, receiver
  FROM domain
 WHERE id = ANY(CAST(:ids AS integer[]))

-- One that is in effect goes on for as long again. A pool has no more than `most` for receivers that nobody knows: every
-- small domain that is out of order for an hour would add a range to each that it is in.
-- name: begin
INSERT INTO shaping (pool_id, receiver, rule, pattern, reply, per_second, until, replies)
SELECT :pool_id, :receiver, :rule, :pattern, :reply, :per_second, now() + make_interval(secs => :seconds), :replies
 WHERE :receiver = ANY(CAST(:known AS text[]))
    OR EXISTS (
           SELECT FROM shaping
            WHERE pool_id = :pool_id
              AND receiver = :receiver
              AND ended_at IS NULL
       )
    OR :most > (
           SELECT count(DISTINCT receiver)
             FROM shaping
            WHERE pool_id = :pool_id
              AND ended_at IS NULL
              AND receiver <> ALL(CAST(:known AS text[]))
       )
    ON CONFLICT (pool_id, receiver, rule) WHERE ended_at IS NULL DO UPDATE
   SET reply = excluded.reply,
       seen_at = now(),
       until = greatest(shaping.until, excluded.until),
       per_second = excluded.per_second,
       pattern = excluded.pattern,
       replies = shaping.replies + excluded.replies

-- name: apply
WITH effect AS (
    SELECT min(per_second) AS per_second,
           max(until) FILTER (WHERE per_second IS NOT NULL) AS shaped_until,
           max(until) FILTER (WHERE per_second IS NULL) AS stopped_until
      FROM shaping
     WHERE pool_id = :pool_id
       AND receiver = :receiver
       AND ended_at IS NULL
       AND until > now()
    HAVING count(*) > 0
)
INSERT INTO pool_limit (pool_id, receiver, shaped_per_second, shaped_until, stopped_until)
SELECT :pool_id, :receiver, per_second, shaped_until, stopped_until
  FROM effect
    ON CONFLICT (pool_id, receiver) DO UPDATE
   SET shaped_per_second = excluded.shaped_per_second,
       shaped_until = excluded.shaped_until,
       stopped_until = excluded.stopped_until,
       changed_at = CASE
                        WHEN pool_limit.shaped_per_second IS DISTINCT FROM excluded.shaped_per_second THEN now()
                        ELSE pool_limit.changed_at
                    END,
       paced_until = CASE
                         WHEN pool_limit.shaped_per_second IS NOT DISTINCT FROM excluded.shaped_per_second
                         THEN pool_limit.paced_until
                     END

-- Nothing is in effect for it any more.
-- name: relax
UPDATE pool_limit
   SET shaped_per_second = NULL,
       shaped_until = NULL,
       stopped_until = NULL,
       changed_at = now(),
       paced_until = NULL
 WHERE pool_id = :pool_id
   AND receiver = :receiver
   AND NOT EXISTS (
           SELECT FROM shaping
            WHERE shaping.pool_id = pool_limit.pool_id
              AND shaping.receiver = pool_limit.receiver
              AND ended_at IS NULL
       )

-- A row that was there for that alone: what a person has set, connections too, stays.
-- name: clear
DELETE FROM pool_limit
 WHERE pool_id = :pool_id
   AND receiver = :receiver
   AND num_nonnulls(per_second, per_day, connections, messages) = 0
   AND shaped_until IS NULL
   AND stopped_until IS NULL

-- name: end_due
UPDATE shaping
   SET ended_at = until
 WHERE ended_at IS NULL
   AND until <= now()
RETURNING pool_id, receiver

-- name: lift
UPDATE shaping
   SET ended_at = now(),
       lifted_by = :user_id
  FROM pool
 WHERE shaping.id = :id
   AND shaping.ended_at IS NULL
   AND pool.id = shaping.pool_id
   AND pool.organisation_id = :organisation_id
   AND pool.id = :pool_id
RETURNING shaping.receiver

-- name: find_lines
SELECT shaping.id, shaping.receiver, shaping.rule, shaping.pattern, shaping.reply, shaping.per_second,
       shaping.began_at, shaping.seen_at, shaping.until, shaping.replies, shaping.ended_at, lifter.name AS lifted_by
  FROM shaping
  LEFT JOIN "user" AS lifter
    ON lifter.id = shaping.lifted_by
 WHERE shaping.pool_id = :pool_id
 ORDER BY shaping.ended_at IS NULL DESC, shaping.id DESC
 LIMIT :limit

-- name: forget
DELETE FROM shaping
 WHERE ended_at < now() - interval '90 days'
