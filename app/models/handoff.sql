-- One statement for a page: the ids come once and are cut here.
-- name: write
INSERT INTO handoff (range_id, campaign_id, run, pool_id, variant, key, lead_ids)
SELECT :range_id, :campaign_id, :run, :pool_id, :variant, gen_random_uuid(),
       page.lead_ids[place : place + CAST(:batch AS integer) - 1]
  FROM (SELECT CAST(:lead_ids AS bigint[]) AS lead_ids) AS page
 CROSS JOIN generate_series(1, cardinality(page.lead_ids), CAST(:batch AS integer)) AS place
 ORDER BY place
RETURNING id, key

-- name: settle
UPDATE handoff
   SET state = CASE WHEN strpos(outcome.letters, 'u') > 0 THEN 'unknown' ELSE 'settled' END,
       outcomes = outcome.letters,
       refs = string_to_array(nullif(outcome.refs, ''), chr(10)),
       answer = outcome.answer,
       settled_at = now()
  FROM unnest(
           CAST(:ids AS bigint[]), CAST(:letters AS text[]), CAST(:refs AS text[]), CAST(:answers AS text[])
       ) AS outcome (id, letters, refs, answer)
 WHERE handoff.id = outcome.id
   AND handoff.state = 'handed'

-- name: stand_unknown
UPDATE handoff
   SET state = 'unknown',
       outcomes = repeat('u', cardinality(lead_ids)),
       settled_at = now(),
       answer = 'The worker died or lost the range while the call was under way.'
 WHERE range_id = :range_id
   AND state = 'handed'
RETURNING id, campaign_id, run, variant, pool_id, lead_ids

-- name: read_handed
SELECT id, key, lead_ids
  FROM handoff
 WHERE range_id = :range_id
   AND state = 'handed'
 ORDER BY id

-- Only what stands wholly unknown: what a person or a webhook has resolved meanwhile is left as it is.
-- name: resolve
UPDATE handoff
   SET state = CASE WHEN strpos(outcome.letters, 'u') > 0 THEN 'unknown' ELSE 'settled' END,
       outcomes = outcome.letters,
       refs = string_to_array(nullif(outcome.refs, ''), chr(10)),
       answer = 'The answer came after the range had been taken away.',
       settled_at = now()
  FROM unnest(CAST(:ids AS bigint[]), CAST(:letters AS text[]), CAST(:refs AS text[])) AS outcome (id, letters, refs)
 WHERE handoff.id = outcome.id
   AND handoff.state = 'unknown'
   AND length(translate(handoff.outcomes, 'u', '')) = 0
RETURNING handoff.id
