-- Down: another try in a row found the provider away, and the next waits twice as long, unless it named a time. Pages that
-- were under way when it went down tell nothing new: only the first of them, and the probes, count.
-- name: break_off
UPDATE pool
   SET state = 'paused',
       reason = :reason,
       failures = least(failures + 1, 100),
       probe_until = NULL,
       resume_at = now() + make_interval(
           secs => coalesce(
               CAST(:seconds AS double precision), least(:first * power(2, least(failures, 20)), :longest)
           )
       )
 WHERE id = :pool_id
   AND (state = 'active' OR (resume_at IS NOT NULL AND :probe))
RETURNING failures, organisation_id

-- A page that was under way may still say "not before": a longer wait than ours is kept.
-- name: wait_longer
UPDATE pool
   SET resume_at = now() + make_interval(secs => :seconds)
 WHERE id = :pool_id
   AND state = 'paused'
   AND resume_at < now() + make_interval(secs => :seconds)

-- name: pause
UPDATE pool
   SET state = 'paused',
       reason = :reason,
       probe_until = NULL,
       resume_at = NULL
 WHERE id = :pool_id

-- name: begin_probe
UPDATE pool
   SET probe_until = now() + make_interval(secs => :lease)
 WHERE id = :pool_id
   AND state = 'paused'
   AND resume_at <= now()
   AND (probe_until IS NULL OR probe_until < now())
RETURNING id

-- name: end_probe
UPDATE pool
   SET probe_until = NULL
 WHERE id = :pool_id
   AND probe_until IS NOT NULL

-- name: revive
UPDATE pool
   SET state = 'active',
       reason = NULL,
       resume_at = NULL,
       probe_until = NULL,
       failures = 0
 WHERE id = :pool_id
   AND state = 'paused'
   AND resume_at <= now()
RETURNING id

-- A person says that it may send again.
-- name: resume
UPDATE pool
   SET state = 'active',
       reason = NULL,
       resume_at = NULL,
       probe_until = NULL,
       failures = 0
 WHERE id = :pool_id
   AND organisation_id = :organisation_id
RETURNING id

-- name: note_check
UPDATE pool
   SET checked_at = now(),
       check_good = :good,
       check_said = :said
 WHERE id = :pool_id
   AND url = :url

-- Reports name a pool by its row for as long as there are hand-offs.
-- name: delete
DELETE FROM pool
 WHERE id = :pool_id
   AND organisation_id = :organisation_id
   AND NOT EXISTS (
           SELECT FROM sender
            WHERE :pool_id IN (sender.pool_id, sender.second_pool_id, sender.transactional_pool_id, sender.moved_to)
       )
   AND NOT EXISTS (SELECT FROM handoff WHERE handoff.pool_id = :pool_id)
RETURNING id

-- name: delete_posts
DELETE FROM webhook
 WHERE pool_id = :pool_id

-- Messages go through the first pool of a sender that names none for them, and all of a sender in quarantine through one
-- pool; who has no stream of messages sends none. Through a second pool go only those that may (campaign.sql: pick).
-- name: find_users
SELECT count(*) FILTER (WHERE :pool_id IN (pool_id, second_pool_id, moved_to)) AS campaigns,
       count(*) FILTER (
           WHERE transactional_pool_id = :pool_id
              OR (CASE WHEN state = 'quarantined' THEN moved_to = :pool_id
                       ELSE transactional_pool_id IS NULL AND pool_id = :pool_id END
                  AND EXISTS (
                          SELECT FROM stream
                            JOIN campaign
                              ON campaign.id = stream.campaign_id
                           WHERE stream.sender_id = sender.id
                             AND campaign.purpose = 'transactional'
                      ))
       ) AS messages,
       count(*) AS senders,
       EXISTS (SELECT FROM standing_policy WHERE quarantine_pool_id = :pool_id) AS quarantines,
       EXISTS (SELECT FROM standing_policy WHERE better_pool_id = :pool_id) AS betters
  FROM sender
 WHERE :pool_id IN (pool_id, second_pool_id, transactional_pool_id, moved_to)
   AND id <> :but

-- name: find_purposes
SELECT id, purpose
  FROM pool
 WHERE organisation_id = :organisation_id
