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

-- How long one may wait for another that tends to the same chunk, as autovacuum does, which would be sent away after 1 s.
-- name: wait_little
SET LOCAL lock_timeout = '100ms'

-- The newest blocks of sent emails, a summary for each 64 that are full. What is summarised already costs 20 µs. Not the
-- last ones, which still fill: their summary would be written anew for nearly every email.
-- name: summarise_sent
SELECT coalesce(sum(brin_summarize_range(pg_class.oid, full_group * 64)), 0)
  FROM show_chunks('event', newer_than => now() - INTERVAL '1 day') AS chunk
  JOIN pg_index
    ON pg_index.indrelid = chunk
  JOIN pg_class
    ON pg_class.oid = pg_index.indexrelid
 CROSS JOIN LATERAL (SELECT pg_relation_size(chunk) / (64 * current_setting('block_size')::integer) AS groups) AS has
 CROSS JOIN LATERAL generate_series(greatest(has.groups - 500, 0), has.groups - 1) AS full_group
 WHERE pg_class.relname LIKE '%event\_sent'
