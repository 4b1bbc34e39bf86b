-- Planned anew each time, with `since` as a constant: the planner then leaves out the chunks before it, where a prepared
-- statement would open and lock every one (800 locks for 200 days).
-- name: count_outcomes
SELECT kind, sum(weight)
  FROM event
 WHERE campaign_id = :campaign_id
   AND run = :run
   AND kind IN ('sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown')
   AND time >= :since
 GROUP BY kind
