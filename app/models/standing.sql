-- The standing of senders: how many of their emails came back or were complained of, and what was done about it.

-- name: find_policy
SELECT days, bounced_after, bounced_share, complained_after, complained_share, quarantine_pool_id, back_after_days,
       better_pool_id, better_after_days, better_after
  FROM standing_policy
 WHERE organisation_id = :organisation_id

-- name: set_policy
INSERT INTO standing_policy (
    organisation_id, days, bounced_after, bounced_share, complained_after, complained_share, quarantine_pool_id,
    back_after_days, better_pool_id, better_after_days, better_after
)
VALUES (
    :organisation_id, :days, :bounced_after, :bounced_share, :complained_after, :complained_share,
    :quarantine_pool_id, :back_after_days, :better_pool_id, :better_after_days, :better_after
)
    ON CONFLICT (organisation_id) DO UPDATE
   SET days = excluded.days,
       bounced_after = excluded.bounced_after,
       bounced_share = excluded.bounced_share,
       complained_after = excluded.complained_after,
       complained_share = excluded.complained_share,
       quarantine_pool_id = excluded.quarantine_pool_id,
       back_after_days = excluded.back_after_days,
       better_pool_id = excluded.better_pool_id,
       better_after_days = excluded.better_after_days,
       better_after = excluded.better_after

-- Every organisation has its thresholds in the database.
-- name: add_policies
INSERT INTO standing_policy (organisation_id)
SELECT id
  FROM organisation
    ON CONFLICT DO NOTHING

-- name: find_longest
SELECT coalesce(max(days), 7)
  FROM standing_policy

-- The sums of all senders over their policy's days, in hours: what was before a sender was last moved counts no more. The
-- bound on :days keeps the planner from everything older. Messages count as campaigns do.
-- name: find_standings
WITH counted AS (
    SELECT campaign.sender_id,
           coalesce(sum(total) FILTER (WHERE brief_hour.kind = 'sent'), 0) AS sent,
           coalesce(sum(total) FILTER (WHERE brief_hour.kind = 'bounced'), 0) AS bounced,
           coalesce(sum(total) FILTER (WHERE brief_hour.kind = 'complained'), 0) AS complained
      FROM brief_hour
      JOIN campaign
        ON campaign.id = brief_hour.campaign_id
      JOIN sender
        ON sender.id = campaign.sender_id
      LEFT JOIN standing_policy AS policy
        ON policy.organisation_id = sender.organisation_id
     WHERE bucket >= now() - make_interval(days => CAST(:days AS integer))
       AND bucket >= now() - make_interval(days => coalesce(policy.days, 7))
       AND (sender.judged_from IS NULL OR bucket >= sender.judged_from)
       AND brief_hour.kind IN ('sent', 'bounced', 'complained')
       AND (CAST(:sender_id AS integer) IS NULL OR sender.id = :sender_id)
     GROUP BY campaign.sender_id
)
SELECT sender.id, sender.organisation_id, sender.name, sender.state, sender.moved_to, sender.moved_at,
       extract(epoch FROM now() - sender.moved_at)::float8 / 86400 AS days_in_state,
       coalesce(counted.sent, 0)::bigint AS sent,
       coalesce(counted.bounced, 0)::bigint AS bounced,
       coalesce(counted.complained, 0)::bigint AS complained
  FROM sender
  LEFT JOIN counted
    ON counted.sender_id = sender.id
 WHERE (CAST(:sender_id AS integer) IS NULL AND (counted.sender_id IS NOT NULL OR sender.state = 'quarantined'))
    OR sender.id = :sender_id
 ORDER BY sender.id

-- Of two that move it at once, one does.
-- name: move
UPDATE sender
   SET state = :went_to,
       moved_to = :pool_id,
       moved_at = now(),
       judged_from = CASE
                         WHEN :went_to = 'trusted' THEN judged_from
                         ELSE now() + make_interval(secs => :grace)
                     END
 WHERE id = :sender_id
   AND state = :came_from
RETURNING id

-- name: add_move
INSERT INTO sender_move (
    sender_id, came_from, went_to, pool_id, moved_by, reason, sent, bounced, complained
)
VALUES (
    :sender_id, :came_from, :went_to, :pool_id, :moved_by, :reason, :sent, :bounced, :complained
)

-- name: find_moves
SELECT sender_move.moved_at, came_from, went_to, pool.name AS pool, mover.name AS moved_by, sender_move.reason, sent, bounced,
       complained
  FROM sender_move
  LEFT JOIN pool
    ON pool.id = sender_move.pool_id
  LEFT JOIN "user" AS mover
    ON mover.id = sender_move.moved_by
 WHERE sender_id = :sender_id
 ORDER BY sender_move.id DESC
 LIMIT :limit
