-- name: find
SELECT handoff.id, handoff.run, handoff.handed_at, handoff.unknown_since, handoff.repeat_at, handoff.look_up_at,
       outbox.resent, handoff.answer, handoff.pool_id, pool.name AS pool,
       pool.state <> 'active' AND pool.resume_at IS NULL AS pool_stands,
       length(handoff.outcomes) - length(replace(handoff.outcomes, 'u', '')) AS leads,
       extract(epoch FROM now() - handoff.handed_at)::float8 AS age
  FROM handoff
  JOIN outbox
    ON outbox.id = handoff.range_id
  JOIN pool
    ON pool.id = handoff.pool_id
 WHERE handoff.campaign_id = :campaign_id
   AND handoff.unknown_since IS NOT NULL
   AND handoff.id > :after
 ORDER BY handoff.id
 LIMIT :limit

-- name: find_call
SELECT handoff.id, handoff.run, handoff.handed_at, handoff.unknown_since, handoff.repeat_at, handoff.look_up_at,
       outbox.resent, handoff.answer, handoff.pool_id, pool.name AS pool,
       pool.state <> 'active' AND pool.resume_at IS NULL AS pool_stands,
       coalesce(length(handoff.outcomes) - length(replace(handoff.outcomes, 'u', '')), 0) AS leads,
       extract(epoch FROM now() - handoff.handed_at)::float8 AS age
  FROM handoff
  JOIN outbox
    ON outbox.id = handoff.range_id
  JOIN pool
    ON pool.id = handoff.pool_id
 WHERE handoff.campaign_id = :campaign_id
   AND handoff.id = :id

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

-- name: find_pools
SELECT id, name, url
  FROM pool
 WHERE id IN (SELECT pool_id FROM handoff WHERE campaign_id = :campaign_id AND unknown_since IS NOT NULL)
 ORDER BY name, id

-- name: find_undecided
SELECT id
  FROM handoff
 WHERE campaign_id = :campaign_id
   AND unknown_since IS NOT NULL
   AND repeat_at IS NULL
   AND id > :after
 ORDER BY id
 LIMIT :limit

-- Found through the campaigns that are not over: what finished ones have left unknown is never looked at again, however
-- much it is. A post that was not read yet, or cannot be, may hold the evidence: its webhook has come, so it is not silent.
-- name: find_held
WITH deciding AS (
    SELECT id, CASE WHEN state = 'cancelled' AND unknown_policy = 'resend' THEN 'hold' ELSE unknown_policy END AS policy
      FROM campaign
     WHERE id BETWEEN :campaign_id AND :last
       AND (state IN ('sending', 'settling', 'paused')
            OR (state = 'cancelled' AND coalesce(finished_at > now() - interval '1 day', true)))
)
SELECT handoff.id, handoff.campaign_id, handoff.pool_id, deciding.policy, outbox.resent,
       coalesce(pool_webhook.handed_at >= made.made_at, false)
       AND NOT EXISTS (
               SELECT
                 FROM webhook
                WHERE webhook.pool_id = handoff.pool_id
                  AND webhook.read_at IS NULL
                  AND webhook.tries < 3
                  AND webhook.received_at >= made.made_at
           )
       AND NOT EXISTS (
               SELECT
                 FROM webhook
                WHERE webhook.pool_id = handoff.pool_id
                  AND webhook.read_at IS NULL
                  AND webhook.tries >= 3
                  AND webhook.received_at >= made.made_at
           ) AS arrive,
       extract(epoch FROM now() - made.made_at)::float8 AS age,
       extract(epoch FROM now() - alert.seen_at)::float8 AS told
  FROM deciding
  JOIN handoff
    ON handoff.campaign_id = deciding.id
   AND handoff.unknown_since IS NOT NULL
 CROSS JOIN LATERAL (SELECT coalesce(handoff.made_at, handoff.handed_at) AS made_at) AS made
  JOIN outbox
    ON outbox.id = handoff.range_id
  LEFT JOIN pool_webhook
    ON pool_webhook.pool_id = handoff.pool_id
  LEFT JOIN alert
    ON alert.kind = 'unknown'
   AND alert.subject = handoff.campaign_id
   AND alert.cleared_at IS NULL
   AND coalesce(alert.dismissed_at > now() - interval '1 day', true)
 WHERE handoff.repeat_at IS NULL
   AND made.made_at < now() - make_interval(secs => :least)
   AND (handoff.campaign_id, handoff.id) > (:campaign_id, :after)
 ORDER BY handoff.campaign_id, handoff.id
 LIMIT :limit

-- Posts of the pool came in every slot from the call on, for so long: then its own would have come, too, had it been taken.
-- name: find_heard
SELECT handoff.id
  FROM unnest(CAST(:ids AS bigint[]), CAST(:seconds AS float8[])) AS asked (id, seconds)
  JOIN handoff
    ON handoff.id = asked.id
 CROSS JOIN LATERAL (SELECT coalesce(handoff.made_at, handoff.handed_at) AS made_at) AS made
 WHERE NOT EXISTS (
           SELECT
             FROM generate_series(
                      floor(extract(epoch FROM made.made_at) / :slot)::integer,
                      floor((extract(epoch FROM made.made_at)::float8 + asked.seconds) / :slot)::integer
                  ) AS each (slot)
            WHERE NOT EXISTS (
                      SELECT FROM pool_heard WHERE pool_heard.pool_id = handoff.pool_id AND pool_heard.slot = each.slot
                  )
       )

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
