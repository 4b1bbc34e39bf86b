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
