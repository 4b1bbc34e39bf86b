-- Which of the emails that reports name were handed over through SMTP, and by which pool. What names a lead that is not in
-- the call is left out.
-- name: find_pools
SELECT named.handoff_id, named.lead_id, handoff.pool_id
  FROM unnest(CAST(:handoff_ids AS bigint[]), CAST(:lead_ids AS bigint[])) AS named (handoff_id, lead_id)
  JOIN handoff
    ON handoff.id = named.handoff_id
   AND named.lead_id = ANY (handoff.lead_ids)
  JOIN pool
    ON pool.id = handoff.pool_id
   AND pool.provider = 'smtp'

-- name: set
INSERT INTO pool_mailbox (pool_id, url, shown_url)
VALUES (:pool_id, :url, :shown_url)
    ON CONFLICT (pool_id) DO UPDATE
   SET url = excluded.url,
       shown_url = excluded.shown_url,
       look_at = now(),
       failures = 0,
       error = NULL

-- name: remove
DELETE FROM pool_mailbox
 WHERE pool_id = :pool_id

-- One that is due, held by moving its time: whoever reads it and dies leaves it to the next.
-- name: claim
WITH due AS (
    SELECT pool_id
      FROM pool_mailbox
     WHERE look_at <= now()
     ORDER BY look_at
     LIMIT 1
       FOR UPDATE SKIP LOCKED
)
UPDATE pool_mailbox
   SET look_at = now() + make_interval(secs => :lease)
  FROM due
 WHERE pool_mailbox.pool_id = due.pool_id
RETURNING pool_mailbox.pool_id, url

-- name: claim_one
UPDATE pool_mailbox
   SET look_at = now() + make_interval(secs => :lease)
 WHERE pool_id = :pool_id
RETURNING pool_id, url

-- name: note_read
UPDATE pool_mailbox
   SET look_at = now() + make_interval(secs => :every),
       read_at = now(),
       failures = 0,
       error = NULL
 WHERE pool_id = :pool_id
   AND url = :url

-- name: note_taken
UPDATE pool_mailbox
   SET reports = reports + :reports,
       unmatched = unmatched + :unmatched,
       answers = answers + :answers,
       others = others + :others
 WHERE pool_id = :pool_id

-- Twice as long each time, an hour at most.
-- name: note_failed
UPDATE pool_mailbox
   SET look_at = now() + make_interval(secs => least(:every * power(2, least(failures, 20)), 3600)),
       failures = failures + 1,
       error = :error
 WHERE pool_id = :pool_id
   AND url = :url
RETURNING failures

-- name: list
SELECT pool.organisation_id, box.pool_id, pool.name AS pool, box.shown_url, box.read_at, box.failures, box.error,
       box.reports, box.unmatched, box.answers, box.others
  FROM pool_mailbox AS box
  JOIN pool
    ON pool.id = box.pool_id
 WHERE (CAST(:pool_id AS integer) IS NULL OR box.pool_id = :pool_id)
 ORDER BY pool.organisation_id, box.pool_id

-- name: find
SELECT pool_id, url
  FROM pool_mailbox
 WHERE pool_id = :pool_id

-- name: hurry
UPDATE pool_mailbox
   SET look_at = least(look_at, now())
 WHERE pool_id = :pool_id
   AND (read_at IS NULL OR look_at <= now() + make_interval(secs => :every) OR failures > 0)

-- name: find_named
SELECT id
  FROM pool
 WHERE provider = 'smtp'
   AND (id = :pool_id OR lower(name) = lower(:name))
