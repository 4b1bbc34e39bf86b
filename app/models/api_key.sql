-- Keys of programs. A key is found by the hash of its secret: whoever reads the table can call nothing.

-- name: add
INSERT INTO api_key (organisation_id, name, hash, shown, scopes, per_minute, created_by)
VALUES (:organisation_id, :name, :hash, :shown, CAST(:scopes AS text[]), :per_minute, :user_id)
RETURNING id

-- name: find
SELECT id, organisation_id, created_by AS user_id, name, scopes, per_minute,
       last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS is_stale
  FROM api_key
 WHERE hash = :hash
   AND revoked_at IS NULL

-- Of many that call with one key, one writes it down, and none waits.
-- name: touch
UPDATE api_key
   SET last_used_at = now()
 WHERE id = (
           SELECT id
             FROM api_key
            WHERE id = :id
              FOR NO KEY UPDATE SKIP LOCKED
       )

-- Those of an organisation, or (null) all there are.
-- name: find_lines
SELECT api_key.id, api_key.organisation_id, api_key.name, api_key.shown, api_key.scopes, api_key.per_minute,
       maker.name AS made_by, api_key.created_at, api_key.last_used_at, api_key.revoked_at, revoker.name AS revoked_by
  FROM api_key
  JOIN "user" AS maker
    ON maker.id = api_key.created_by
  LEFT JOIN "user" AS revoker
    ON revoker.id = api_key.revoked_by
 WHERE CAST(:organisation_id AS integer) IS NULL
    OR api_key.organisation_id = :organisation_id
 ORDER BY api_key.organisation_id, api_key.revoked_at IS NOT NULL, api_key.id DESC

-- name: revoke
UPDATE api_key
   SET revoked_at = coalesce(revoked_at, now()),
       revoked_by = CASE WHEN revoked_at IS NULL THEN CAST(:user_id AS integer) ELSE revoked_by END
 WHERE id = :id
   AND (CAST(:organisation_id AS integer) IS NULL OR organisation_id = :organisation_id)
RETURNING name
