-- name: find_types
SELECT type
  FROM webhook_unread
 WHERE pool_id = :pool_id

-- name: count
INSERT INTO webhook_unread AS known (pool_id, type, events, first_at, last_at)
SELECT :pool_id, type, events, :came_at, :came_at
  FROM unnest(CAST(:types AS text[]), CAST(:events AS bigint[])) AS told (type, events)
 ORDER BY type
    ON CONFLICT (pool_id, type) DO UPDATE
   SET events = known.events + excluded.events,
       first_at = least(known.first_at, excluded.first_at),
       last_at = greatest(known.last_at, excluded.last_at)

-- name: show
INSERT INTO webhook_unread_raw (pool_id, type, post_id, came_at, raw)
SELECT :pool_id, type, post_id, came_at, raw
  FROM unnest(
           CAST(:types AS text[]), CAST(:posts AS bigint[]), CAST(:came AS timestamptz[]), CAST(:raw AS text[])
       ) AS told (type, post_id, came_at, raw)

-- name: drop_older
DELETE FROM webhook_unread_raw AS older
 WHERE pool_id = :pool_id
   AND type = ANY(CAST(:types AS text[]))
   AND id <= (
           SELECT newer.id
             FROM webhook_unread_raw AS newer
            WHERE newer.pool_id = older.pool_id
              AND newer.type = older.type
            ORDER BY newer.id DESC
           OFFSET :kept
            LIMIT 1
       )

-- What was counted as unread and has been read by now; one of which nothing is left goes.
-- name: take_back
WITH told AS (
    SELECT type, events
      FROM unnest(CAST(:types AS text[]), CAST(:events AS bigint[])) AS told (type, events)
), gone AS (
    DELETE FROM webhook_unread AS known
     USING told
     WHERE known.pool_id = :pool_id
       AND known.type = told.type
       AND known.events <= told.events
)
UPDATE webhook_unread AS known
   SET events = known.events - told.events
  FROM told
 WHERE known.pool_id = :pool_id
   AND known.type = told.type
   AND known.events > told.events

-- name: find_unread
SELECT known.pool_id, pool.name AS pool, pool.provider, known.type, known.events, known.first_at, known.last_at,
       ARRAY(SELECT ARRAY[CAST(post_id AS text), CAST(CAST(extract(epoch FROM came_at) AS bigint) AS text), raw]
               FROM webhook_unread_raw AS shown
              WHERE shown.pool_id = known.pool_id
                AND shown.type = known.type
              ORDER BY shown.id DESC) AS shown
  FROM webhook_unread AS known
  JOIN pool
    ON pool.id = known.pool_id
 WHERE (CAST(:pool_id AS smallint) IS NULL OR known.pool_id = :pool_id)
 ORDER BY known.pool_id, known.last_at DESC, known.type

-- name: forget
DELETE FROM webhook_unread
 WHERE pool_id = :pool_id
   AND type = :type

-- Raw events hold addresses: they go with the posts that they came in.
-- name: drop_old
DELETE FROM webhook_unread_raw
 WHERE came_at < now() - make_interval(days => :days)
