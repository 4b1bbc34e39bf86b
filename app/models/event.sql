-- Planned anew each time, with `since` as a constant: the planner then leaves out the chunks before it, where a prepared
-- statement would open and lock every one (800 locks for 200 days). The two sums over ids tell one set of leads from
-- another: of a lead that is there twice for one that is missing, a count alone knows nothing.
-- name: count_outcomes
SELECT kind, sum(weight), sum(weight * lead_id), sum(weight * (lead_id % 2147483647 * 2654435761 % 4294967291))
  FROM event
 WHERE campaign_id = :campaign_id
   AND kind IN ('sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown')
   AND time >= :since
 GROUP BY kind
