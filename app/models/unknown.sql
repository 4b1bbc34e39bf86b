-- name: find
SELECT handoff.id, handoff.run, handoff.handed_at, handoff.unknown_since, handoff.repeat_at, handoff.answer,
       length(handoff.outcomes) - length(replace(handoff.outcomes, 'u', '')) AS leads,
       extract(epoch FROM now() - handoff.handed_at)::float8 AS age
  FROM handoff
 WHERE campaign_id = :campaign_id
   AND unknown_since IS NOT NULL
   AND id > :after
 ORDER BY id
 LIMIT :limit

-- name: find_call
SELECT id, run, handed_at, unknown_since, repeat_at, answer,
       coalesce(length(outcomes) - length(replace(outcomes, 'u', '')), 0) AS leads,
       extract(epoch FROM now() - handed_at)::float8 AS age
  FROM handoff
 WHERE campaign_id = :campaign_id
   AND id = :id

-- name: count
SELECT count(*) AS calls,
       coalesce(sum(length(outcomes) - length(replace(outcomes, 'u', ''))), 0) AS leads,
       count(*) FILTER (WHERE repeat_at IS NOT NULL) AS repeating,
       coalesce(
           sum(length(outcomes) - length(replace(outcomes, 'u', ''))) FILTER (WHERE repeat_at IS NULL), 0
       ) AS undecided
  FROM handoff
 WHERE campaign_id = :campaign_id
   AND unknown_since IS NOT NULL

-- name: find_undecided
SELECT id
  FROM handoff
 WHERE campaign_id = :campaign_id
   AND unknown_since IS NOT NULL
   AND repeat_at IS NULL
   AND id > :after
 ORDER BY id
 LIMIT :limit

-- name: find_held
SELECT handoff.id, handoff.campaign_id, handoff.pool_id, campaign.unknown_policy AS policy, outbox.resent,
       coalesce(pool_webhook.handed_at >= handoff.handed_at, false) AS arrive,
       extract(epoch FROM now() - handoff.handed_at)::float8 AS age
  FROM handoff
  JOIN campaign
    ON campaign.id = handoff.campaign_id
  JOIN outbox
    ON outbox.id = handoff.range_id
  LEFT JOIN pool_webhook
    ON pool_webhook.pool_id = handoff.pool_id
 WHERE handoff.unknown_since IS NOT NULL
   AND handoff.repeat_at IS NULL
   AND handoff.handed_at < now() - make_interval(secs => :least)
   AND campaign.state IN ('sending', 'settling', 'paused', 'cancelled')
   AND handoff.id > :after
 ORDER BY handoff.id
 LIMIT :limit

-- name: find_failed
SELECT handoff.id
  FROM outbox
  JOIN handoff
    ON handoff.range_id = outbox.id
 WHERE outbox.campaign_id = :campaign_id
   AND outbox.failed > 0
   AND handoff.outcomes ~ '[fl]'
   AND handoff.id > :after
 ORDER BY handoff.id
 LIMIT :limit

-- name: count_failed
WITH RECURSIVE origin AS (
    SELECT id AS range_id, parent_id, resent
      FROM outbox
     WHERE campaign_id = :campaign_id
       AND failed > 0
     UNION ALL
    SELECT origin.range_id, parent.parent_id, parent.resent
      FROM origin
      JOIN outbox AS parent
        ON parent.id = origin.parent_id
     WHERE NOT origin.resent
), failing AS (
    SELECT range_id, bool_or(resent) AS resent
      FROM origin
     GROUP BY range_id
)
SELECT coalesce(sum(length(handoff.outcomes) - length(translate(handoff.outcomes, 'fl', ''))), 0) AS leads,
       coalesce(
           sum(
               length(handoff.outcomes)
               - length(translate(handoff.outcomes, CASE WHEN failing.resent THEN 'fl' ELSE 'l' END, ''))
           ), 0
       ) AS left
  FROM failing
  JOIN handoff
    ON handoff.range_id = failing.range_id
 WHERE handoff.outcomes ~ '[fl]'
