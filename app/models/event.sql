-- name: count_outcomes
SELECT kind, sum(weight) AS leads
  FROM event
 WHERE campaign_id = :campaign_id
   AND run = :run
   AND kind IN ('sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown')
   AND time >= (SELECT launched_at FROM campaign WHERE id = :campaign_id)
 GROUP BY kind
