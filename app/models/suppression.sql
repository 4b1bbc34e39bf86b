-- name: insert_suppressions
INSERT INTO suppression (organisation_id, email, reason, source)
SELECT :organisation_id, new.email, :reason, :source
FROM unnest(CAST(:emails AS text[])) AS new (email)
ON CONFLICT DO NOTHING

-- Who has unsubscribed stays that, whatever their address does afterwards.
-- name: close_leads
UPDATE lead
SET status = :status,
    updated_at = now()
WHERE organisation_id = :organisation_id
  AND email = ANY (CAST(:emails AS text[]))
  AND status NOT IN (:status, 'unsubscribed')

-- name: find
SELECT email, reason, source, created_at
FROM suppression
WHERE organisation_id = :organisation_id
  AND email = :email

-- name: find_page
SELECT email, reason, source, created_at
FROM suppression
WHERE organisation_id = :organisation_id
  AND email > :after
  AND email >= :prefix
  AND email < :high
ORDER BY email
LIMIT :limit
