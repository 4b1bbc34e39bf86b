-- The gravest reason stands, of equal ones the earliest: whichever becomes known first. Sorted, so that of two that bring
-- the same addresses one waits for the other instead of each for each.
-- name: insert_suppressions
WITH entered AS (
    INSERT INTO suppression AS known (organisation_id, email, sender_id, reason, source, happened_at, user_id)
    SELECT :organisation_id, new.email, new.sender_id, new.reason, new.source, coalesce(new.happened_at, now()), :user_id
      FROM unnest(CAST(:emails AS text[]), CAST(:sender_ids AS integer[]), CAST(:reasons AS text[]),
                  CAST(:sources AS text[]), CAST(:times AS timestamptz[]))
           AS new (email, sender_id, reason, source, happened_at)
     ORDER BY new.email COLLATE "C", new.sender_id
        ON CONFLICT (organisation_id, email, sender_id) DO UPDATE
       SET reason = excluded.reason,
           source = excluded.source,
           happened_at = excluded.happened_at,
           user_id = excluded.user_id
     WHERE (array_position(CAST(:gravest AS text[]), excluded.reason), excluded.happened_at, excluded.source)
         < (array_position(CAST(:gravest AS text[]), known.reason), known.happened_at, known.source)
    RETURNING xmax = 0 AS is_new
)
SELECT count(*) FILTER (WHERE is_new) AS new
  FROM entered

-- Who has unsubscribed stays that, whatever their address does afterwards.
-- name: close_leads
UPDATE lead
   SET status = closing.status,
       updated_at = now()
  FROM unnest(CAST(:emails AS text[]), CAST(:statuses AS text[])) AS closing (email, status)
 WHERE lead.organisation_id = :organisation_id
   AND lead.email = closing.email
   AND lead.status NOT IN (closing.status, 'unsubscribed')

-- name: find
SELECT suppression.email, suppression.sender_id, suppression.reason, suppression.source, suppression.created_at,
       suppression.happened_at, sender.name AS sender, "user".name AS entered_by
  FROM suppression
  LEFT JOIN sender
    ON sender.id = suppression.sender_id
  LEFT JOIN "user"
    ON "user".id = suppression.user_id
 WHERE suppression.organisation_id = :organisation_id
   AND suppression.email = :email
 ORDER BY suppression.sender_id

-- name: is_suppressed
SELECT EXISTS (
    SELECT
      FROM suppression
     WHERE organisation_id = :organisation_id
       AND email = :email
       AND sender_id IN (0, :sender_id)
) AS suppressed

-- Both bounds and the order come from the primary key: a page costs its own rows.
-- name: find_page
SELECT suppression.email, suppression.sender_id, suppression.reason, suppression.source, suppression.created_at,
       suppression.happened_at, sender.name AS sender, "user".name AS entered_by
  FROM suppression
  LEFT JOIN sender
    ON sender.id = suppression.sender_id
  LEFT JOIN "user"
    ON "user".id = suppression.user_id
 WHERE suppression.organisation_id = :organisation_id
   AND (suppression.email, suppression.sender_id) > (:after, :after_sender)
   AND suppression.email >= :prefix
   AND suppression.email < :high
 ORDER BY suppression.email, suppression.sender_id
 LIMIT :limit

-- name: remove
WITH removed AS (
    DELETE FROM suppression
     WHERE organisation_id = :organisation_id
       AND email = ANY (CAST(:emails AS text[]))
       AND sender_id = :sender_id
       AND (CAST(:reason AS text) IS NULL OR reason = :reason)
    RETURNING organisation_id, email, sender_id, reason, source, created_at
), noted AS (
    INSERT INTO suppression_removed (organisation_id, email, sender_id, reason, source, created_at, removed_by, note)
    SELECT organisation_id, email, sender_id, reason, source, created_at, :user_id, :note
      FROM removed
)
SELECT email
  FROM removed

-- name: reopen_leads
UPDATE lead
   SET status = 'active',
       updated_at = now()
 WHERE organisation_id = :organisation_id
   AND email = ANY (CAST(:emails AS text[]))
   AND status = ANY (CAST(:statuses AS text[]))

-- name: find_removed
SELECT removed.email, removed.sender_id, removed.reason, removed.source, removed.created_at, removed.removed_at,
       removed.note, sender.name AS sender, "user".name AS removed_by
  FROM suppression_removed AS removed
  LEFT JOIN sender
    ON sender.id = removed.sender_id
  LEFT JOIN "user"
    ON "user".id = removed.removed_by
 WHERE removed.organisation_id = :organisation_id
   AND removed.email = :email
 ORDER BY removed.id DESC
 LIMIT :limit
