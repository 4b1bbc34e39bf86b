-- name: beat
INSERT INTO process (id, kind, host, pid)
VALUES (:id, :kind, :host, :pid)
ON CONFLICT (id) DO UPDATE
   SET seen_at = now()

-- name: forget_dead
DELETE FROM process
 WHERE seen_at < now() - interval '1 day'

-- name: alive
SELECT id, kind, host, pid, started_at, seen_at
  FROM process
 WHERE kind = :kind
   AND seen_at > now() - interval '30 seconds'
 ORDER BY seen_at DESC

-- name: ping
SELECT 1

-- name: server_version
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num') AS number

-- name: timescaledb
SELECT (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS version,
       current_setting('timescaledb.license', true) AS licence

-- What workers read, and tell: seconds since the oldest of each that waits for nothing but them.
-- name: find_unread
SELECT coalesce(extract(epoch FROM now() - (SELECT min(received_at)
                                              FROM webhook
                                             WHERE read_at IS NULL
                                               AND tries < 3
                                               AND retry_at <= now()))::float8, 0) AS webhooks,
       coalesce(extract(epoch FROM now() - (SELECT min(at) FROM hit))::float8, 0) AS hits,
       coalesce(extract(epoch FROM now() - (SELECT min(time) FROM news))::float8, 0) AS news

-- Everything that was encrypted under SECRET_KEY, of all organisations.
-- name: find_sealed
SELECT url FROM pool
 UNION ALL
SELECT webhook_secret FROM pool WHERE webhook_secret IS NOT NULL
 UNION ALL
SELECT url FROM pool_mailbox
 UNION ALL
SELECT secret FROM endpoint
