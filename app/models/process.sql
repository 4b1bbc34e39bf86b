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
