-- Answers given under an Idempotency-Key. Whoever holds the lock of a key may look, work and keep.

-- Taken until the transaction ends, which holds behind a transaction pooler, too.
-- name: try_lock
SELECT pg_try_advisory_xact_lock(:place)

-- name: find
SELECT request, status, location, body, sealed
  FROM api_answer
 WHERE api_key_id = :api_key_id
   AND key = :key
   AND created_at > now() - interval '1 day'

-- One that is older than a day and not yet dropped is replaced.
-- name: keep
INSERT INTO api_answer (api_key_id, key, request, status, location, body, sealed)
VALUES (:api_key_id, :key, :request, :status, :location, :body, :sealed)
    ON CONFLICT (api_key_id, key) DO UPDATE
   SET request = excluded.request,
       status = excluded.status,
       location = excluded.location,
       body = excluded.body,
       sealed = excluded.sealed,
       created_at = excluded.created_at

-- name: drop_old
DELETE FROM api_answer
 WHERE ctid = ANY (ARRAY(
           SELECT ctid
             FROM api_answer
            WHERE created_at <= now() - interval '1 day'
            ORDER BY created_at
            LIMIT :limit
              FOR UPDATE SKIP LOCKED
       ))
