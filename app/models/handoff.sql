-- One statement for a page: the ids come once and are cut here.
-- name: write
INSERT INTO handoff (range_id, campaign_id, run, pool_id, variant, key, lead_ids, frozen, repeat_until)
SELECT :range_id, :campaign_id, :run, :pool_id, :variant, gen_random_uuid(),
       page.lead_ids[place : place + CAST(:batch AS integer) - 1],
       (CAST(:frozen AS bytea[]))[1 + place / CAST(:batch AS integer)],
       CASE WHEN CAST(:frozen AS bytea[]) IS NOT NULL THEN now() + make_interval(secs => :repeat_for) END
  FROM (SELECT CAST(:lead_ids AS bigint[]) AS lead_ids) AS page
 CROSS JOIN generate_series(1, cardinality(page.lead_ids), CAST(:batch AS integer)) AS place
 ORDER BY place
RETURNING id, key

-- Frozen calls are let go with their last unknown lead. One that was lost as a whole is made again soon. Not one that has
-- outcomes beside the unknown: some of its leads wait in a later range, or it was halved and left under other keys.
-- name: settle
UPDATE handoff
   SET state = CASE WHEN outcome.unknown THEN 'unknown' ELSE 'settled' END,
       outcomes = outcome.letters,
       refs = outcome.refs,
       answer = outcome.answer,
       settled_at = now(),
       frozen = CASE WHEN outcome.again THEN frozen END,
       unknown_since = CASE WHEN outcome.unknown THEN now() END,
       repeat_at = CASE WHEN outcome.again AND frozen IS NOT NULL THEN now() + make_interval(secs => :repeat_in) END,
       look_up_at = CASE WHEN outcome.unknown THEN now() + make_interval(secs => :look_up_in) END
  FROM (
           SELECT id, letters, refs, answer,
                  strpos(letters, 'u') > 0 AS unknown,
                  strpos(letters, 'u') > 0 AND whole AS again
             FROM unnest(
                      CAST(:ids AS bigint[]), CAST(:letters AS text[]), CAST(:refs AS bytea[]), CAST(:answers AS text[]),
                      CAST(:whole AS boolean[])
                  ) AS given (id, letters, refs, answer, whole)
       ) AS outcome
 WHERE handoff.id = outcome.id
   AND handoff.state = 'handed'
   AND (handoff.evidence IS NULL OR NOT :unspoken)

-- Webhooks that came before the answers. Almost always there are none: a partial scan of the page's twenty rows.
-- name: find_evidence
SELECT id, evidence
  FROM handoff
 WHERE range_id = :range_id
   AND state = 'handed'
   AND evidence IS NOT NULL

-- What a webhook has spoken of was taken, or dropped (a negative id); of the rest nothing is known. A frozen call is made
-- again at once.
-- name: stand_unknown
UPDATE handoff
   SET state = CASE WHEN strpos(known.letters, 'u') > 0 THEN 'unknown' ELSE 'settled' END,
       outcomes = known.letters,
       settled_at = now(),
       answer = 'The worker died or lost the range while the call was under way.',
       frozen = CASE WHEN strpos(known.letters, 'u') > 0 THEN frozen END,
       unknown_since = CASE WHEN strpos(known.letters, 'u') > 0 THEN now() END,
       repeat_at = CASE WHEN frozen IS NOT NULL AND strpos(known.letters, 'u') > 0 THEN now() END,
       look_up_at = CASE WHEN strpos(known.letters, 'u') > 0 THEN now() + make_interval(secs => :look_up_in) END
  FROM (
           SELECT id,
                  (
                      SELECT string_agg(
                                 CASE
                                     WHEN -lead_id = ANY(handoff.evidence) THEN 'r'
                                     WHEN lead_id = ANY(handoff.evidence) THEN 's'
                                     ELSE 'u'
                                 END,
                                 '' ORDER BY place
                             )
                        FROM unnest(handoff.lead_ids) WITH ORDINALITY AS asked (lead_id, place)
                  ) AS letters
             FROM handoff
            WHERE range_id = :range_id
              AND state = 'handed'
       ) AS known
 WHERE handoff.id = known.id
RETURNING handoff.id, range_id, campaign_id, run, variant, pool_id, lead_ids, outcomes, repeat_at IS NOT NULL AS repeats,
          handoff.repeats AS tries

-- name: read_handed
SELECT id, key, lead_ids
  FROM handoff
 WHERE range_id = :range_id
   AND state = 'handed'
 ORDER BY id

-- name: find_ranges
SELECT DISTINCT range_id
  FROM handoff
 WHERE id = ANY(CAST(:ids AS bigint[]))

-- Their ranges are locked already (outbox.lock): of two that resolve the same, the second sees what the first wrote.
-- name: lock
SELECT id, range_id, campaign_id, run, variant, pool_id, lead_ids, coalesce(outcomes, ''), repeat_at IS NOT NULL,
       repeats
  FROM handoff
 WHERE id = ANY(CAST(:ids AS bigint[]))
 ORDER BY id
   FOR UPDATE

-- name: resolve
UPDATE handoff
   SET state = CASE WHEN outcome.unknown THEN 'unknown' ELSE 'settled' END,
       outcomes = outcome.letters,
       settled_at = now(),
       unknown_since = CASE WHEN outcome.unknown THEN unknown_since END,
       frozen = CASE WHEN outcome.again THEN frozen END,
       repeat_at = CASE WHEN outcome.again THEN repeat_at END,
       look_up_at = CASE WHEN outcome.unknown THEN look_up_at END
  FROM (
           SELECT id, letters,
                  strpos(letters, 'u') > 0 AS unknown,
                  strpos(letters, 'u') > 0 AND letters !~ '[dal]' AS again
             FROM unnest(CAST(:ids AS bigint[]), CAST(:letters AS text[])) AS given (id, letters)
       ) AS outcome
 WHERE handoff.id = outcome.id

-- name: remember_evidence
UPDATE handoff
   SET evidence = handoff.evidence || spoken.lead_ids
  FROM (
           SELECT id, array_agg(lead_id) AS lead_ids
             FROM unnest(CAST(:ids AS bigint[]), CAST(:lead_ids AS bigint[])) AS given (id, lead_id)
            GROUP BY id
       ) AS spoken
 WHERE handoff.id = spoken.id
   AND handoff.state = 'handed'

-- name: find_origins
SELECT handoff.id, handoff.range_id, handoff.campaign_id, campaign.organisation_id, campaign.owner_id, handoff.pool_id,
       handoff.run, handoff.variant, handoff.state, handoff.outcomes, handoff.lead_ids, handoff.handed_at
  FROM handoff
  JOIN campaign
    ON campaign.id = handoff.campaign_id
 WHERE handoff.id = ANY(CAST(:ids AS bigint[]))

-- One frozen call whose time has come, held by moving that time: whoever takes it is alone with it until then. A paused
-- campaign's wait, and those of a pool that a person paused; but one whose key has died is taken in any case, and given up.
-- name: claim_repeat
WITH next AS (
    SELECT handoff.id
      FROM handoff
      JOIN campaign
        ON campaign.id = handoff.campaign_id
      JOIN pool
        ON pool.id = handoff.pool_id
     WHERE handoff.repeat_at <= now()
       AND (
               handoff.repeat_until <= now()
               OR (
                   campaign.state <> 'paused'
                   AND (
                       pool.state = 'active'
                       OR (pool.resume_at <= now() AND (pool.probe_until IS NULL OR pool.probe_until < now()))
                   )
               )
           )
     ORDER BY handoff.repeat_at
     LIMIT 1
       FOR UPDATE OF handoff SKIP LOCKED
)
UPDATE handoff
   SET repeat_at = now() + make_interval(secs => :lease),
       repeats = handoff.repeats + 1,
       made_at = now()
  FROM next,
       pool,
       campaign
 WHERE handoff.id = next.id
   AND pool.id = handoff.pool_id
   AND campaign.id = handoff.campaign_id
RETURNING handoff.id, handoff.range_id, handoff.campaign_id, handoff.run, handoff.variant, handoff.pool_id, handoff.key,
          handoff.lead_ids, handoff.outcomes, handoff.repeats, handoff.frozen,
          extract(epoch FROM now() - handoff.handed_at)::float8 AS age,
          extract(epoch FROM handoff.repeat_until - now())::float8 AS lives,
          pool.state <> 'active' AS probe, campaign.state AS campaign_state

-- name: repeat_later
UPDATE handoff
   SET repeat_at = now() + make_interval(secs => :seconds),
       answer = :answer
 WHERE id = :id
   AND repeats = :tries
   AND repeat_at IS NOT NULL
   AND frozen <> ''

-- Its parts leave under keys of their own: the whole is never made again, whatever becomes of them. Not where somebody else
-- is responsible for the call by now, since they may be making it this moment. A repeat keeps its hold on the call, with
-- nothing to repeat: nobody decides on it while its parts are on their way.
-- name: halve
UPDATE handoff
   SET frozen = CASE WHEN :tries > 0 THEN CAST('' AS bytea) END,
       repeat_until = now()
 WHERE id = :id
   AND repeats = :tries
   AND CASE WHEN :tries = 0 THEN state = 'handed' ELSE repeat_at IS NOT NULL END

-- name: give_up_repeating
UPDATE handoff
   SET repeat_at = NULL,
       frozen = NULL,
       answer = :answer
 WHERE id = :id
   AND repeats = :tries
   AND repeat_at IS NOT NULL

-- One call of which the provider may be asked what became of it, held by moving that time. Not while it is made again.
-- name: claim_look_up
WITH next AS (
    SELECT handoff.id
      FROM handoff
      JOIN pool
        ON pool.id = handoff.pool_id
     WHERE handoff.look_up_at <= now()
       AND handoff.repeat_at IS NULL
       AND (pool.state = 'active' OR pool.resume_at <= now())
     ORDER BY handoff.look_up_at
     LIMIT 1
       FOR UPDATE OF handoff SKIP LOCKED
)
UPDATE handoff
   SET look_up_at = now() + make_interval(secs => :lease)
  FROM next,
       pool
 WHERE handoff.id = next.id
   AND pool.id = handoff.pool_id
RETURNING handoff.id, handoff.campaign_id, handoff.pool_id, pool.url, handoff.key, handoff.lead_ids,
          extract(epoch FROM now() - handoff.handed_at)::float8 AS age

-- name: look_up_later
UPDATE handoff
   SET look_up_at = now() + make_interval(secs => CAST(:seconds AS double precision))
 WHERE id = :id
   AND look_up_at IS NOT NULL

-- Calls of unknown outcome that no repeat will clear up, and that a person or a policy may decide on.
-- Calls of which policies decide: unknown, not repeated, and handed over longer ago than their pool's webhooks take.
-- `arrive`: a webhook has spoken of a call that was handed over later than this one, so that silence means something.
-- Calls with leads that failed: found through the ranges that count them, since no index knows a letter.
-- Found like the calls above; asked for by one question on one page. Of leads that were left, or sent to again after an
-- unknown call and failed then, it was never known whether the first call took them.
