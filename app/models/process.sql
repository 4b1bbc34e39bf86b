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
