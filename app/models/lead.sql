-- Both bounds and the order come from the index lead_email: a page costs its own rows.
-- name: find_page
SELECT id, email, status, time_zone, attributes, created_at
FROM lead
WHERE organisation_id = :organisation_id
  AND email >= :low
  AND email < :high
  AND id <> :after_id
ORDER BY email
LIMIT :limit

-- name: find_email
SELECT email
FROM lead
WHERE id = :lead_id
  AND organisation_id = :organisation_id

-- name: find_id
SELECT id
FROM lead
WHERE organisation_id = :organisation_id
  AND email = :email

-- name: find_status
SELECT status
FROM lead
WHERE organisation_id = :organisation_id
  AND email = :email

-- Two descents of the index lead_email.
-- name: find_neighbours
SELECT (
           SELECT id
           FROM lead
           WHERE organisation_id = :organisation_id
             AND email < this.email
           ORDER BY email DESC
           LIMIT 1
       ) AS previous,
       (
           SELECT id
           FROM lead
           WHERE organisation_id = :organisation_id
             AND email > this.email
           ORDER BY email
           LIMIT 1
       ) AS next
FROM lead AS this
WHERE this.id = :lead_id
  AND this.organisation_id = :organisation_id

-- name: find_ids
SELECT id
FROM lead
WHERE organisation_id = :organisation_id
  AND email = ANY (CAST(:emails AS text[]))

-- name: find_ids_of
SELECT email, id
FROM lead
WHERE organisation_id = :organisation_id
  AND email = ANY (CAST(:emails AS text[]))

-- name: erase
DELETE FROM lead
WHERE id = :lead_id
  AND organisation_id = :organisation_id

-- name: load_attributes
SELECT name, type
FROM attribute
WHERE organisation_id = :organisation_id
ORDER BY name

-- name: register_attributes
INSERT INTO attribute (organisation_id, name, type)
SELECT :organisation_id, new.name, new.type
FROM unnest(CAST(:names AS text[]), CAST(:types AS text[])) AS new (name, type)
ON CONFLICT DO NOTHING

-- name: insert_domains
INSERT INTO domain (name)
SELECT new.name
FROM unnest(CAST(:names AS text[])) AS new (name)
WHERE NOT EXISTS (SELECT FROM domain WHERE domain.name = new.name)
ON CONFLICT DO NOTHING

-- name: find_domains
SELECT id, name
FROM domain
WHERE name = ANY (CAST(:names AS text[]))

-- name: load_time_zones
SELECT name
FROM pg_timezone_names
WHERE name !~ '^(posix/|right/|posixrules$|localtime$|Factory$)'

-- Every incoming row is looked up by itself, in lead_email. Left alone the planner reads all of a large `lead` for each
-- batch. And where it believes that an organisation has no leads yet (its statistics are minutes old), it reads all of
-- that organisation's for each row: hence LATERAL and OFFSET 0 below, which leave it no choice.
-- name: plan_by_index
SELECT set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true),
       set_config('jit', 'off', true),
       set_config('work_mem', '64MB', true)

-- name: create_incoming
CREATE TEMPORARY TABLE incoming (
    email       text COLLATE "C" NOT NULL,
    domain_id   integer NOT NULL,
    time_zone   text,
    attributes  jsonb NOT NULL
) ON COMMIT DROP

-- A plain INSERT: ON CONFLICT would cost each new row 2 of 6 microseconds for a race that a retry settles.
-- name: merge_incoming
WITH known AS MATERIALIZED (
    SELECT incoming.email, incoming.domain_id, incoming.time_zone, incoming.attributes,
           old.id AS lead_id,
           old.attributes @> incoming.attributes
           AND (incoming.time_zone IS NULL OR incoming.time_zone IS NOT DISTINCT FROM old.time_zone) AS same
    FROM incoming
    LEFT JOIN LATERAL (
        SELECT lead.id, lead.attributes, lead.time_zone
        FROM lead
        WHERE lead.organisation_id = :organisation_id AND lead.email = incoming.email
        OFFSET 0
    ) AS old ON true
), changed AS (
    UPDATE lead
    SET attributes = lead.attributes || known.attributes,
        time_zone = coalesce(known.time_zone, lead.time_zone),
        updated_at = now()
    FROM known
    WHERE lead.id = known.lead_id AND NOT known.same
    RETURNING lead.id
), added AS (
    INSERT INTO lead (organisation_id, domain_id, email, status, time_zone, attributes)
    SELECT :organisation_id, known.domain_id, known.email,
           CASE suppressed.reason
               WHEN 'unsubscribed' THEN 'unsubscribed'
               WHEN 'complained' THEN 'unsubscribed'
               WHEN 'bounced' THEN 'invalid'
               WHEN 'soft_bounced' THEN 'invalid'
               ELSE 'active'
           END,
           known.time_zone, known.attributes
    FROM known
    LEFT JOIN LATERAL (
        SELECT suppression.reason
        FROM suppression
        WHERE suppression.organisation_id = :organisation_id AND suppression.email = known.email
          AND suppression.sender_id = 0
          AND (SELECT EXISTS (SELECT FROM suppression WHERE organisation_id = :organisation_id))  -- asked once
        OFFSET 0
    ) AS suppressed ON true
    WHERE known.lead_id IS NULL
    RETURNING id
)
SELECT (SELECT array_agg(id) FROM added) AS added,
       (SELECT array_agg(id) FROM changed) AS changed,
       (SELECT array_agg(lead_id) FROM known WHERE same) AS same
