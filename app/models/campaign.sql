-- Rows that refer to the campaign, as new ranges do, may be added meanwhile: their check wants its key alone.
-- name: lock
SELECT id, organisation_id, owner_id, sender_id, segment_id, name, state, start_at, run, audience, exclusions,
       schedule, origin_id
  FROM campaign
 WHERE id = :campaign_id
   AND organisation_id = :organisation_id
   AND (kind = 'campaign' OR :streams)
   FOR NO KEY UPDATE

-- name: state
SELECT state
  FROM campaign
 WHERE id = :campaign_id

-- The old state is read under the row's lock: of two moves at once, the second sees the first.
-- name: move
WITH before AS (
    SELECT id, state
      FROM campaign
     WHERE id = :campaign_id
       FOR UPDATE
)
UPDATE campaign
   SET state = :to,
       notice = :notice,
       updated_at = now(),
       launched_at = CASE WHEN :to = 'sending' THEN coalesce(campaign.launched_at, now()) ELSE campaign.launched_at END,
       finished_at = CASE WHEN :to = 'finished' THEN now() END
  FROM before
 WHERE campaign.id = before.id
   AND before.state = ANY(CAST(:sources AS text[]))
RETURNING before.state AS came_from

-- Messages before campaigns (of streams those alone that have something to do: among 2,000 idle ones 1.7 ms instead of
-- 18): by a few leases. A stream that has these and more to do shares with campaigns, or one that is slow would stop them
-- all. Fair between campaigns: fewest leases held for its weight. Only open campaigns are looked at (a partial index), so the
-- cost does not grow with how many were ever sent. Chance decides between equals, or all workers would meet at one.
-- A campaign goes through its sender's first pool while that sends, else through the second. A paused pool whose time has
-- come is offered too, before the other: one batch may try whether its provider is back. One whose limit is used up is not,
-- nor is one whose warm-up or account, or the warm-up of the sender's domain; nor a campaign whose own rate is, nor that of a
-- paused sender.
-- A second pool that is for campaigns alone carries no messages, nor one for messages alone a campaign.
-- name: pick
WITH waiting AS MATERIALIZED (
    SELECT campaign.id, campaign.kind, campaign.weight,
           first_pool(sender, campaign.purpose = 'transactional') AS pool_id, second_pool(sender) AS second_pool_id,
           campaign.purpose = 'transactional' AS transactional, first.state AS first_state, rate.burst AS rate_burst,
           warm_up.id IS NOT NULL AS warms, random() AS lot
      FROM campaign
      JOIN sender
        ON sender.id = campaign.sender_id
      JOIN pool AS first
        ON first.id = first_pool(sender, campaign.purpose = 'transactional')
      LEFT JOIN campaign_rate AS rate
        ON rate.campaign_id = campaign.id
      LEFT JOIN warm_up
        ON warm_up.organisation_id = campaign.organisation_id
       AND warm_up.domain = lower(split_part(sender.address, '@', 2))
       AND (now() AT TIME ZONE 'UTC')::date < warm_up.starts_on + cardinality(warm_up.curve)
     WHERE campaign.state = 'sending'
       AND (campaign.kind = 'campaign'
            OR campaign.id = ANY(ARRAY(
                   SELECT DISTINCT campaign_id FROM outbox WHERE message AND state = 'ready' AND due_at <= now()
               )))
       AND sender.state <> 'paused'
       AND (rate.paced_until IS NULL OR rate.paced_until <= now())
       AND (warm_up.paced_until IS NULL OR warm_up.paced_until <= now())
)
SELECT waiting.id, pool.id AS pool_id, pool.batch, pool.state <> 'active' AS probe,
       EXISTS (SELECT FROM pool_limit WHERE pool_limit.pool_id = pool.id) AS limited,
       least(
           CASE WHEN whole.per_second IS NOT NULL THEN whole.burst END,
           CASE WHEN account.per_second IS NOT NULL THEN account.burst END,
           waiting.rate_burst
       ) AS burst,
       waiting.warms OR warm_up.id IS NOT NULL AS warms,
       waiting.rate_burst IS NOT NULL AS rated,
       waiting.kind = 'messages' AS is_stream
  FROM waiting
 CROSS JOIN LATERAL (VALUES (1, waiting.pool_id), (2, waiting.second_pool_id)) AS way (place, pool_id)
  JOIN pool
    ON pool.id = way.pool_id
  LEFT JOIN pool_pace AS whole
    ON whole.pool_id = pool.id
   AND whole.receiver = ''
  LEFT JOIN pool_account AS account
    ON account.id = pool.account_id
  LEFT JOIN warm_up
    ON warm_up.pool_id = pool.id
   AND (now() AT TIME ZONE 'UTC')::date < warm_up.starts_on + cardinality(warm_up.curve)
 WHERE (way.place = 1 OR waiting.first_state <> 'active')
   AND (way.place = 1 OR pool.purpose <> CASE WHEN waiting.transactional THEN 'marketing' ELSE 'transactional' END)
   AND (pool.state = 'active'
        OR (pool.resume_at <= now() AND (pool.probe_until IS NULL OR pool.probe_until < now())))
   AND pool.id <> ALL (CAST(:not_through AS smallint[]))
   AND (whole.paced_until IS NULL OR whole.paced_until <= now())
   AND (account.paced_until IS NULL OR account.paced_until <= now())
   AND (warm_up.paced_until IS NULL OR warm_up.paced_until <= now())
   AND EXISTS (
           SELECT FROM outbox
            WHERE outbox.campaign_id = waiting.id
              AND outbox.state = 'ready'
              AND outbox.due_at <= now()
              AND (outbox.closes_at IS NULL OR outbox.closes_at > now())
              AND (outbox.waits_for IS NULL
                   OR NOT EXISTS (
                          SELECT FROM pool_pace
                           WHERE pool_pace.pool_id = pool.id
                             AND pool_pace.receiver = outbox.waits_for
                             AND pool_pace.paced_until > now()
                      ))
       )
 ORDER BY ((SELECT count(*) FROM outbox WHERE outbox.campaign_id = waiting.id AND outbox.state = 'leased')
           - CASE WHEN waiting.kind = 'messages' THEN 2 ELSE 0 END)
          / waiting.weight,
          waiting.kind = 'messages' DESC,
          waiting.lot,
          way.place
 LIMIT :most

-- name: load_sending
SELECT campaign.id, campaign.organisation_id, campaign.owner_id, campaign.name,
       content.version, content.variant,
       sender.name, sender.address, sender.reply_to,
       pool.id, pool.url, pool.batch, pool.provider,
       campaign.track_opens, campaign.track_clicks,
       campaign.kind, campaign.purpose, sender.id
  FROM campaign
  JOIN content
    ON content.campaign_id = campaign.id
   AND content.variant = CAST(:variant AS smallint)
  JOIN sender
    ON sender.id = campaign.sender_id
  JOIN pool
    ON pool.id = coalesce(CAST(:pool_id AS smallint), first_pool(sender, campaign.purpose = 'transactional'))
 WHERE campaign.id = :campaign_id

-- name: load_compiled
SELECT compiled
  FROM content
 WHERE campaign_id = :campaign_id
   AND variant = :variant

-- Those that failed to start for a while come last: however many they are, they keep no other waiting.
-- name: due_to_start
SELECT organisation_id, id
  FROM campaign
 WHERE state = 'scheduled'
   AND start_at <= now()
 ORDER BY EXISTS (
              SELECT
                FROM alert
               WHERE alert.kind = 'not_started'
                 AND alert.subject = campaign.id
                 AND alert.cleared_at IS NULL
          ),
          start_at
 LIMIT :most

-- name: freeze
UPDATE campaign
   SET run = :run,
       condition = :condition,
       audience = :audience,
       exclusions = :exclusions,
       parts = :parts
 WHERE id = :campaign_id

-- Those that send, and those that settle once their last unknown is resolved, or after a day.
-- name: handed_over
SELECT campaign.id
  FROM campaign
 WHERE campaign.kind = 'campaign'
   AND (campaign.state = 'sending'
        OR (campaign.state = 'settling'
            AND (campaign.updated_at < now() - interval '1 day'
                 OR NOT EXISTS (
                        SELECT FROM handoff
                         WHERE handoff.campaign_id = campaign.id
                           AND handoff.unknown_since IS NOT NULL
                    ))))
   AND (campaign.look_at IS NULL OR campaign.look_at <= now())
   AND NOT EXISTS (
           SELECT FROM outbox
            WHERE outbox.campaign_id = campaign.id
              AND outbox.state = 'ready'
       )
   AND NOT EXISTS (
           SELECT FROM outbox
            WHERE outbox.campaign_id = campaign.id
              AND outbox.state = 'leased'
       )

-- A campaign whose unknowns nobody resolved stays `settling` for a day, and is finished then, still saying how many.
-- name: lock_state
SELECT state, run, launched_at, updated_at < now() - interval '1 day' AS waited_enough, kind = 'messages' AS is_stream
  FROM campaign
 WHERE id = :campaign_id
   FOR NO KEY UPDATE

-- Leads stand in a new range, so the campaign has work again; a paused one gets on with it when it is resumed.
-- name: reopen
UPDATE campaign
   SET state = CASE WHEN state IN ('settling', 'finished') THEN 'sending' ELSE state END,
       run = greatest(run, :run),
       updated_at = now(),
       finished_at = NULL
 WHERE id = :campaign_id

-- name: look_later
UPDATE campaign
   SET look_at = now() + interval '10 minutes'
 WHERE id = :campaign_id

-- name: now
SELECT now()

-- A cancelled campaign is finished when the last of its leads has its outcome; until then a partial index holds it.
-- name: closing
SELECT id
  FROM campaign
 WHERE state = 'cancelled'
   AND finished_at IS NULL

-- Its row is locked already: a statement that waits for a row looks at others, in its subquery, as they were before.
-- name: close_cancelled
UPDATE campaign
   SET finished_at = now()
 WHERE id = :campaign_id
   AND state = 'cancelled'
   AND NOT EXISTS (
           SELECT FROM outbox
            WHERE outbox.campaign_id = campaign.id
              AND outbox.state IN ('ready', 'leased', 'quarantined')
       )
