-- name: find_door
SELECT pool.id AS pool_id, pool.provider, pool.webhook_secret AS secret
  FROM pool
 WHERE pool.webhook_token = :token

-- name: keep
INSERT INTO webhook (pool_id, delivery, body)
VALUES (:pool_id, :delivery, :body)
    ON CONFLICT (pool_id, delivery) WHERE delivery <> '' DO NOTHING

-- name: is_silent
SELECT NOT EXISTS (
    SELECT
      FROM pool_webhook
     WHERE pool_id = :pool_id
       AND seen_at > now() - make_interval(secs => :seconds)
) AS silent

-- In no order, so that several workers begin with different ones.
-- name: find_waiting
SELECT pool.id, pool.provider
  FROM pool
 WHERE EXISTS (
           SELECT
             FROM webhook
            WHERE webhook.pool_id = pool.id
              AND read_at IS NULL
              AND tries < 3
              AND retry_at <= now()
       )
 ORDER BY random()

-- The oldest of one pool that nobody else reads, up to so many bytes: a post holds one event or a thousand. Their length
-- is known without reading them.
-- name: claim
WITH waiting AS MATERIALIZED (
    SELECT id, octet_length(body) AS bytes
      FROM webhook
     WHERE pool_id = :pool_id
       AND id > :after
       AND read_at IS NULL
       AND tries < 3
       AND retry_at <= now()
     ORDER BY id
     LIMIT :posts
       FOR UPDATE SKIP LOCKED
), measured AS (
    SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before
      FROM waiting
)
SELECT webhook.id, webhook.received_at, webhook.delivery, webhook.body, webhook.again, webhook.unmatched,
       webhook.unread
  FROM measured
  JOIN webhook
    ON webhook.id = measured.id
 WHERE bytes_before < :bytes
 ORDER BY webhook.id

-- name: claim_one
SELECT id, received_at, delivery, body, again, unmatched, unread
  FROM webhook
 WHERE id = :webhook_id
   AND read_at IS NULL
   FOR UPDATE SKIP LOCKED

-- name: close
UPDATE webhook
   SET read_at = now(),
       error = NULL,
       unmatched = told.unmatched,
       events = webhook.events + told.events,
       unread = CAST(told.unread AS jsonb)
  FROM unnest(
           CAST(:ids AS bigint[]), CAST(:unmatched AS integer[]), CAST(:events AS integer[]), CAST(:unread AS text[])
       ) AS told (id, unmatched, events, unread)
 WHERE webhook.id = told.id

-- name: put_back
UPDATE webhook
   SET tries = tries + 1,
       retry_at = now() + make_interval(secs => 10 * power(6, tries)),
       error = :error
 WHERE id = :webhook_id
   AND read_at IS NULL
RETURNING tries

-- The days whose events are told apart, by the database's clock, and whether their tables are there.
-- name: find_window
SELECT today - date '1970-01-01' AS today,
       timed - date '1970-01-01' AS timed,
       (SELECT count(to_regclass('webhook_event_' || to_char(today - back, 'YYYYMMDD')))
          FROM generate_series(-1, CAST(:kept AS integer)) AS back) = :kept + 2 AS complete
  FROM webhook_layout,
       (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock

-- name: keep_days
SELECT keep_webhook_days(:kept) AS made

-- Where some are known. The new ones come back as one text: made into objects they took as long as the insert.
-- name: insert_events
WITH new AS (
    INSERT INTO webhook_event (day, key)
    SELECT date '1970-01-01' + day, key
      FROM unnest(CAST(:days AS integer[]), CAST(:keys AS uuid[])) AS told (day, key)
     ORDER BY day, key
        ON CONFLICT DO NOTHING
    RETURNING key
)
SELECT string_agg(translate(CAST(key AS text), '-', ''), ',') AS keys
  FROM new

-- Events that speak of a lead of a hand-off of this pool, as one row, a value a column: read as a row for each they cost
-- several times as much. What names a lead that is not in the call is left out.
-- name: match
WITH found AS (
    SELECT told.place,
           handoff.campaign_id,
           handoff.run,
           handoff.variant,
           date_part('epoch', handoff.handed_at) AS handed,
           coalesce(lead.domain_id, 0) AS domain_id,
           coalesce(substr(handoff.outcomes, inside.position, 1), '?') AS letter
      FROM unnest(CAST(:handoff_ids AS bigint[]), CAST(:lead_ids AS bigint[]))
           WITH ORDINALITY AS told (handoff_id, lead_id, place)
      JOIN handoff
        ON handoff.id = told.handoff_id
       AND handoff.pool_id = :pool_id
     CROSS JOIN LATERAL (SELECT array_position(handoff.lead_ids, told.lead_id) AS position) AS inside
      LEFT JOIN lead
        ON lead.id = told.lead_id
     WHERE inside.position IS NOT NULL
)
SELECT '[' || string_agg(CAST(place AS text), ',') || ']' AS places,
       '[' || string_agg(CAST(campaign_id AS text), ',') || ']' AS campaign_ids,
       '[' || string_agg(CAST(run AS text), ',') || ']' AS runs,
       '[' || string_agg(CAST(variant AS text), ',') || ']' AS variants,
       '[' || string_agg(CAST(handed AS text), ',') || ']' AS handed,
       '[' || string_agg(CAST(domain_id AS text), ',') || ']' AS domain_ids,
       string_agg(letter, '') AS letters,
       (SELECT json_object_agg(id, json_build_array(organisation_id, owner_id))
          FROM campaign
         WHERE id IN (SELECT campaign_id FROM found)) AS owners
  FROM found

-- name: find_addresses
SELECT id, email
  FROM lead
 WHERE id = ANY (CAST(:lead_ids AS bigint[]))
   AND organisation_id = :organisation_id

-- name: find_mended
SELECT id, address_since
  FROM lead
 WHERE id = ANY (CAST(:lead_ids AS bigint[]))
   AND organisation_id = :organisation_id
   AND address_since IS NOT NULL

-- name: find_links
SELECT link.campaign_id, link.url, min(link.id) AS id
  FROM unnest(CAST(:campaign_ids AS integer[]), CAST(:urls AS text[])) AS clicked (campaign_id, url)
  JOIN link
    ON link.campaign_id = clicked.campaign_id
   AND link.url = clicked.url
 GROUP BY link.campaign_id, link.url

-- Halved when a million is reached, so that what was long ago counts less and less.
-- name: note_arrivals
WITH heard AS (
    INSERT INTO pool_heard (pool_id, slot)
    SELECT :pool_id, slot
      FROM unnest(CAST(:heard AS integer[])) AS slot
        ON CONFLICT DO NOTHING
)
INSERT INTO pool_webhook AS known (pool_id, seen_at, handed_at, lags, events, repeated, late, unmatched)
VALUES (:pool_id, :seen_at, :handed_at, CAST(:lags AS bigint[]), :events, :repeated, :late, :unmatched)
    ON CONFLICT (pool_id) DO UPDATE
   SET seen_at = greatest(known.seen_at, excluded.seen_at),
       handed_at = greatest(known.handed_at, excluded.handed_at),
       lags = (
           SELECT array_agg(
                      (coalesce(before, 0) + coalesce(added, 0))
                      / CASE WHEN (SELECT sum(each) FROM unnest(known.lags) AS each) > 1000000 THEN 2 ELSE 1 END
                      ORDER BY place
                  )
             FROM unnest(known.lags, excluded.lags) WITH ORDINALITY AS pair (before, added, place)
       ),
       events = known.events + excluded.events,
       repeated = known.repeated + excluded.repeated,
       late = known.late + excluded.late,
       unmatched = known.unmatched + excluded.unmatched

-- name: forget_heard
DELETE FROM pool_heard
 WHERE slot < extract(epoch FROM now()) / :slot - :slots

-- name: find_arrivals
SELECT seen_at, lags
  FROM pool_webhook
 WHERE pool_id = :pool_id

-- name: list_doors
SELECT pool.id AS pool_id,
       pool.webhook_token AS token,
       pool.webhook_secret IS NOT NULL AS has_secret,
       arrivals.seen_at,
       arrivals.lags,
       coalesce(arrivals.unmatched, 0) AS unmatched,
       coalesce(arrivals.late, 0) AS late,
       (SELECT count(*)
          FROM webhook
         WHERE webhook.pool_id = pool.id
           AND read_at IS NULL
           AND tries >= 3) AS set_aside
  FROM pool
  LEFT JOIN pool_webhook AS arrivals
    ON arrivals.pool_id = pool.id
 WHERE pool.organisation_id = :organisation_id

-- name: set_secret
UPDATE pool
   SET webhook_secret = :secret
 WHERE id = :pool_id
