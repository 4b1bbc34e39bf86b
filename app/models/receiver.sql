-- name: find_domains
SELECT lead.id, domain.id, domain.name, domain.receiver
  FROM lead
  JOIN domain
    ON domain.id = lead.domain_id
 WHERE lead.id = ANY(CAST(:lead_ids AS bigint[]))

-- name: name_domains
SELECT id, name, receiver
  FROM domain
 WHERE id = ANY(CAST(:ids AS integer[]))

-- Once for each domain: a page that finds them noted writes nothing.
-- name: ask
UPDATE domain
   SET receiver_at = now()
 WHERE id = ANY(CAST(:ids AS integer[]))
   AND receiver_at IS NULL

-- While its receiver is not known, receiver_at says since when it is asked for, or when it was last asked in vain.
-- Two indexes, one for each half: those that are known are a hundred thousand, and were all looked at every ten seconds.
-- name: find_asked
WITH unknown AS (
    SELECT id, name, receiver_at
      FROM domain
     WHERE receiver IS NULL
       AND receiver_at < now() - make_interval(mins => 10 * least(receiver_tries, 144))
     ORDER BY receiver_at
     LIMIT :limit
), stale AS (
    SELECT id, name, receiver_at
      FROM domain
     WHERE receiver IS NOT NULL
       AND receiver_at < now() - interval '30 days'
     ORDER BY receiver_at
     LIMIT :limit
)
SELECT id, name
  FROM (SELECT * FROM unknown UNION ALL SELECT * FROM stale) AS asked
 ORDER BY receiver_at
 LIMIT :limit

-- name: learn
UPDATE domain
   SET receiver = coalesce(learned.receiver, domain.receiver),
       receiver_at = now(),
       receiver_tries = CASE WHEN learned.receiver IS NULL THEN least(domain.receiver_tries + 1, 1000) ELSE 0 END
  FROM unnest(CAST(:ids AS integer[]), CAST(:receivers AS text[])) AS learned (id, receiver)
 WHERE domain.id = learned.id
