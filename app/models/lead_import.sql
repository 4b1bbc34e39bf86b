-- name: create_import
INSERT INTO import (organisation_id, user_id, file_name, columns)
VALUES (:organisation_id, :user_id, :file_name, CAST(:columns AS jsonb))
RETURNING id

-- name: append_piece
INSERT INTO import_piece (import_id, position, bytes)
VALUES (:import_id, :position, :bytes)

-- name: read_piece
SELECT bytes
FROM import_piece
WHERE import_id = :import_id
  AND position = :position

-- name: end_upload
UPDATE import
SET state = 'waiting',
    file_bytes = :file_bytes
WHERE id = :import_id
  AND state = 'uploading'

-- name: delete_import
DELETE FROM import
WHERE id = :import_id

-- The worker of a lapsed lease may only be slow: its fence is behind from now on, and it can commit nothing more.
-- name: claim
WITH next AS (
    SELECT id
    FROM import
    WHERE (state = 'waiting' OR (state = 'running' AND lease_until < now()))
      AND (CAST(:import_id AS integer) IS NULL OR id = :import_id)
      AND fence < :most_claims
      AND EXISTS (SELECT FROM import_piece WHERE import_piece.import_id = import.id)
    ORDER BY id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE import
SET state = 'running',
    fence = fence + 1,
    lease_until = now() + make_interval(secs => :lease),
    started_at = coalesce(started_at, now())
FROM next
WHERE import.id = next.id
RETURNING import.id, organisation_id, fence, file_bytes, columns,
          bytes_read, lines_read, rows_read, added, updated, unchanged, repeated, rejected

-- name: claim_unstored
UPDATE import
SET state = 'running',
    fence = fence + 1,
    file_bytes = :file_bytes,
    lease_until = now() + make_interval(secs => :lease),
    started_at = now()
WHERE id = :import_id
  AND state = 'uploading'
RETURNING id, organisation_id, fence, file_bytes, columns,
          bytes_read, lines_read, rows_read, added, updated, unchanged, repeated, rejected

-- name: hold
SELECT id
FROM import
WHERE id = :import_id
  AND fence = :fence
  AND state = 'running'
  AND (CAST(:bytes_read AS bigint) IS NULL OR bytes_read = :bytes_read)
FOR UPDATE

-- The end of the import waits, and with it everything before is on the disk.
-- name: do_not_wait
SELECT set_config('synchronous_commit', 'off', true)

-- name: keep_columns
UPDATE import
SET columns = CAST(:columns AS jsonb)
WHERE id = :import_id

-- name: keep_progress
UPDATE import
SET bytes_read = :bytes_read,
    lines_read = :lines_read,
    rows_read = :rows_read,
    added = :added,
    updated = :updated,
    unchanged = :unchanged,
    repeated = :repeated,
    rejected = :rejected,
    lease_until = now() + make_interval(secs => :lease)
WHERE id = :import_id

-- name: add_rejects
INSERT INTO import_reject (import_id, line, reason, row)
SELECT :import_id, reject.line, reject.reason, reject.row
FROM unnest(CAST(:lines AS bigint[]), CAST(:reasons AS text[]), CAST(:rows AS text[])) AS reject (line, reason, row)

-- name: finish
UPDATE import
SET state = 'finished',
    finished_at = now(),
    lease_until = NULL
WHERE id = :import_id

-- name: fail
UPDATE import
SET state = 'failed',
    error = :error,
    finished_at = now(),
    lease_until = NULL
WHERE id = :import_id

-- name: delete_pieces
DELETE FROM import_piece
WHERE import_id = :import_id


-- name: put_back
UPDATE import
SET state = 'waiting',
    lease_until = NULL
WHERE id = :import_id

-- name: close_abandoned
WITH abandoned AS (
    SELECT id,
           CASE
               WHEN state = 'uploading' THEN 'The upload was interrupted: upload the file again.'
               WHEN fence >= :most_claims THEN 'The workers that read this file died again and again: it was given up.'
               ELSE 'The command that read the file was interrupted: run it again, nothing is taken twice.'
           END AS error
    FROM import
    WHERE (state = 'uploading' AND created_at < now() - interval '1 day')
       OR (state = 'running' AND lease_until < now()
           AND (fence >= :most_claims
                OR NOT EXISTS (SELECT FROM import_piece WHERE import_piece.import_id = import.id)))
    FOR UPDATE SKIP LOCKED
), freed AS (
    DELETE FROM import_piece
    USING abandoned
    WHERE import_piece.import_id = abandoned.id
)
UPDATE import
SET state = 'failed',
    error = abandoned.error,
    finished_at = now(),
    lease_until = NULL
FROM abandoned
WHERE import.id = abandoned.id

-- name: find_rejects
SELECT line, reason, row
FROM import_reject
WHERE import_id = :import_id
  AND line > :after_line
ORDER BY line
LIMIT :limit

-- name: is_waiting
SELECT EXISTS (
    SELECT FROM import
    WHERE state = 'waiting'
       OR (state = 'running' AND lease_until < now())
)
