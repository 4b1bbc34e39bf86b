-- name: find_domains
SELECT lead.id, domain.id, domain.name, domain.receiver
  FROM lead
  JOIN domain
    ON domain.id = lead.domain_id
 WHERE lead.id = ANY(CAST(:lead_ids AS bigint[]))

-- Once for each domain: a page that finds them noted writes nothing.
-- name: ask
UPDATE domain
   SET receiver_at = now()
 WHERE id = ANY(CAST(:ids AS integer[]))
   AND receiver_at IS NULL

-- While its receiver is not known, receiver_at says since when it is asked for, or when it was last asked in vain.
-- name: find_asked
SELECT id, name
  FROM domain
 WHERE receiver_at IS NOT NULL
   AND receiver_at < now() - CASE
                                 WHEN receiver IS NOT NULL THEN interval '30 days'
                                 WHEN receiver_tries > 0 THEN make_interval(mins => 10 * least(receiver_tries, 144))
                                 ELSE interval '0'
                             END
 ORDER BY receiver_at
 LIMIT :limit

-- name: learn
UPDATE domain
   SET receiver = coalesce(learned.receiver, domain.receiver),
       receiver_at = now(),
       receiver_tries = CASE WHEN learned.receiver IS NULL THEN least(domain.receiver_tries + 1, 1000) ELSE 0 END
  FROM unnest(CAST(:ids AS integer[]), CAST(:receivers AS text[])) AS learned (id, receiver)
 WHERE domain.id = learned.id
