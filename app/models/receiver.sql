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

-- Of some of a campaign's ranges some leads, evenly over what is left of each, by domain; each stands for `weight` leads.
-- Which ranges depends on their numbers alone, so that two looks see the same.
-- name: sample
WITH picked AS (
    SELECT lead_ids, position, size - position AS rest, least(size - position, CAST(:leads AS integer)) AS asked
      FROM outbox
     WHERE campaign_id = :campaign_id
       AND state IN ('ready', 'leased')
       AND position < size
     ORDER BY hashint8(id)
     LIMIT :ranges
), drawn AS (
    SELECT picked.lead_ids[picked.position + 1 + number * picked.rest / picked.asked] AS lead_id,
           picked.rest / CAST(picked.asked AS double precision) AS weight
      FROM picked
     CROSS JOIN LATERAL generate_series(0, picked.asked - 1) AS number
)
SELECT domain.name, domain.receiver, sum(drawn.weight) AS weight
  FROM drawn
  JOIN lead
    ON lead.id = drawn.lead_id
  JOIN domain
    ON domain.id = lead.domain_id
 GROUP BY domain.id
