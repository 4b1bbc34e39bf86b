-- Posts are few to look for: the newest of them by id, or by the partial indexes of those that are odd.
-- name: find_posts
SELECT webhook.id, webhook.pool_id, pool.name AS pool, pool.provider, webhook.received_at, webhook.read_at, webhook.tries,
       webhook.events, webhook.unmatched, webhook.error, octet_length(webhook.body) AS bytes
  FROM webhook
  LEFT JOIN pool
    ON pool.id = webhook.pool_id
 WHERE webhook.id < :before
   AND (CAST(:pool_id AS smallint) IS NULL OR webhook.pool_id = :pool_id)
   AND (CAST(:since AS timestamptz) IS NULL OR webhook.received_at >= :since)
   AND (NOT (:failed OR :unmatched OR :unread)
        OR (:failed AND webhook.read_at IS NULL AND webhook.tries > 0)
        OR (:unmatched AND webhook.unmatched > 0)
        OR (:unread AND webhook.unread IS NOT NULL))
 ORDER BY webhook.id DESC
 LIMIT :limit

-- name: find_body
SELECT body
  FROM webhook
 WHERE id = :post_id

-- name: find_last
SELECT coalesce(max(id), 0) AS last
  FROM webhook

-- As if they had just come; what waits is read in any case, and what is being read is left alone.
-- name: read_anew
UPDATE webhook
   SET read_at = NULL,
       tries = 0,
       retry_at = now(),
       error = NULL,
       again = again OR read_at IS NOT NULL
 WHERE id IN (
           SELECT id
             FROM webhook
            WHERE id > :after
              AND id <= :last
              AND (read_at IS NOT NULL OR tries > 0)
              AND (CAST(:pool_id AS smallint) IS NULL OR pool_id = :pool_id)
              AND (CAST(:since AS timestamptz) IS NULL OR received_at >= :since)
              AND (NOT (:failed OR :unmatched OR :unread)
                   OR (:failed AND read_at IS NULL)
                   OR (:unmatched AND webhook.unmatched > 0)
                   OR (:unread AND webhook.unread IS NOT NULL))
            ORDER BY id
            LIMIT :most
              FOR UPDATE SKIP LOCKED
       )
RETURNING id, events, unmatched

-- name: find_progress
SELECT count(*) FILTER (WHERE read_at IS NULL AND tries = 0) AS waiting,
       count(*) FILTER (WHERE read_at IS NULL AND tries > 0) AS failed,
       coalesce(sum(events), 0) AS events,
       coalesce(sum(unmatched), 0) AS unmatched
  FROM webhook
 WHERE id = ANY (CAST(:ids AS bigint[]))

-- name: find_retention
SELECT coalesce(days, :default) AS days
  FROM webhook_retention

-- name: keep_for
UPDATE webhook_retention
   SET days = :days

-- What was read is kept for some days; what was not understood, or not found, for longer. Events of a type that nobody
-- knows are kept as long as they can be told from their repeats: later an upgrade that knows them could not take them.
-- name: drop_read
DELETE FROM webhook
 WHERE id IN (
           SELECT id
             FROM webhook
            WHERE received_at < now() - make_interval(days => :days)
              AND ((read_at IS NOT NULL
                    AND unmatched = 0
                    AND (unread IS NULL OR received_at < now() - make_interval(days => :unread_days)))
                   OR received_at < now() - make_interval(days => :odd_days))
            ORDER BY received_at
            LIMIT :most
       )
