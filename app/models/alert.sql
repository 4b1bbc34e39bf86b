-- Alerts and what is told about them. `alert_standing` allows one uncleared alert per kind and subject.

-- A standing one is found again: counted, not told anew. One that a person dismissed comes back after a day, as new.
-- Notices go to the campaign's owner; to the organisation's admins about pools, endpoints and senders, and where the owner
-- has left; about a sender to the owners of its open campaigns, too; and one (user_id null) to the operator's webhook.
-- name: raise_alert
WITH subject AS (
    SELECT organisation_id, owner_id, id AS campaign_id, CAST(NULL AS smallint) AS pool_id,
           CAST(NULL AS integer) AS endpoint_id, CAST(NULL AS integer) AS sender_id
      FROM campaign
     WHERE :about = 'campaign'
       AND id = :subject
     UNION ALL
    SELECT organisation_id, NULL, NULL, id, NULL, NULL
      FROM pool
     WHERE :about = 'pool'
       AND id = :subject
     UNION ALL
    SELECT organisation_id, NULL, NULL, NULL, id, NULL
      FROM endpoint
     WHERE :about = 'endpoint'
       AND id = :subject
     UNION ALL
    SELECT organisation_id, NULL, NULL, NULL, NULL, id
      FROM sender
     WHERE :about = 'sender'
       AND id = :subject
), raised AS (
    INSERT INTO alert AS standing (
        organisation_id, kind, subject, campaign_id, pool_id, endpoint_id, sender_id, message
    )
    SELECT organisation_id, :kind, :subject, campaign_id, pool_id, endpoint_id, sender_id, :message
      FROM subject
        ON CONFLICT (kind, subject) WHERE cleared_at IS NULL DO UPDATE
       SET message = excluded.message,
           seen_at = greatest(standing.seen_at, now()),
           times = CASE WHEN standing.dismissed_at < now() - interval '1 day' THEN 1 ELSE standing.times + 1 END,
           raised_at = CASE WHEN standing.dismissed_at < now() - interval '1 day' THEN now() ELSE standing.raised_at END,
           dismissed_by = CASE WHEN standing.dismissed_at >= now() - interval '1 day' THEN standing.dismissed_by END,
           dismissed_at = CASE WHEN standing.dismissed_at >= now() - interval '1 day' THEN standing.dismissed_at END
    RETURNING id, times = 1 AS is_new
)
INSERT INTO alert_notice (alert_id, about, user_id)
SELECT raised.id, 'raised', reader.id
  FROM raised
 CROSS JOIN subject
  JOIN "user" AS reader
    ON reader.organisation_id = subject.organisation_id
   AND reader.disabled_at IS NULL
 WHERE raised.is_new
   AND (reader.id = subject.owner_id
        OR EXISTS (
               SELECT FROM campaign
                WHERE campaign.sender_id = subject.sender_id
                  AND campaign.owner_id = reader.id
                  AND campaign.state IN ('scheduled', 'sending', 'paused', 'settling')
           )
        OR (reader.role = 'admin'
            AND NOT EXISTS (SELECT FROM "user" AS owner WHERE owner.id = subject.owner_id AND owner.disabled_at IS NULL)))
 UNION ALL
SELECT raised.id, 'raised', NULL
  FROM raised
 WHERE raised.is_new

-- Whoever was to be told that it began is told that it is over; the notices' `drop_moot` spares those who never heard of it.
-- name: clear
WITH cleared AS (
    UPDATE alert
       SET cleared_at = now()
     WHERE kind = :kind
       AND subject = :subject
       AND cleared_at IS NULL
    RETURNING id
)
INSERT INTO alert_notice (alert_id, about, user_id)
SELECT DISTINCT cleared.id, 'cleared', told.user_id
  FROM cleared
  JOIN alert_notice AS told
    ON told.alert_id = cleared.id
   AND told.about = 'raised'

-- name: find_subjects
SELECT subject
  FROM alert
 WHERE kind = :kind
   AND cleared_at IS NULL
 ORDER BY subject

-- An occurrence is over when somebody has seen it; a lasting condition stands until it clears.
-- name: dismiss
WITH dismissed AS (
    UPDATE alert
       SET dismissed_at = now(),
           dismissed_by = :user_id,
           cleared_at = CASE WHEN kind = ANY(:lasting) THEN NULL ELSE now() END
     WHERE id = :id
       AND organisation_id = :organisation_id
       AND cleared_at IS NULL
       AND dismissed_at IS NULL
    RETURNING id, cleared_at
), closing AS (
    INSERT INTO alert_notice (alert_id, about, user_id)
    SELECT DISTINCT dismissed.id, 'cleared', told.user_id
      FROM dismissed
      JOIN alert_notice AS told
        ON told.alert_id = dismissed.id
       AND told.about = 'raised'
     WHERE dismissed.cleared_at IS NOT NULL
)
SELECT EXISTS (SELECT FROM alert WHERE id = :id AND organisation_id = :organisation_id)

-- name: find_open
SELECT alert.id, alert.kind, alert.message, alert.campaign_id, alert.pool_id, alert.endpoint_id, alert.sender_id, alert.raised_at,
       alert.seen_at, alert.times, alert.dismissed_at, alert.cleared_at,
       campaign.name AS campaign, pool.name AS pool, endpoint.name AS endpoint, sender.name AS sender,
       CAST(NULL AS text) AS dismissed_by,
       (SELECT max(error) FROM alert_notice WHERE alert_id = alert.id AND about = 'raised' AND done_at IS NULL) AS untold
  FROM alert
  LEFT JOIN campaign
    ON campaign.id = alert.campaign_id
  LEFT JOIN pool
    ON pool.id = alert.pool_id
  LEFT JOIN endpoint
    ON endpoint.id = alert.endpoint_id
  LEFT JOIN sender
    ON sender.id = alert.sender_id
 WHERE alert.organisation_id = :organisation_id
   AND alert.cleared_at IS NULL
   AND alert.dismissed_at IS NULL
   AND (CAST(:campaign_id AS integer) IS NULL OR alert.campaign_id = :campaign_id)
   AND (CAST(:pool_id AS integer) IS NULL OR alert.pool_id = :pool_id)
 ORDER BY alert.id DESC
 LIMIT :limit

-- name: find_page
SELECT alert.id, alert.kind, alert.message, alert.campaign_id, alert.pool_id, alert.endpoint_id, alert.sender_id, alert.raised_at,
       alert.seen_at, alert.times, alert.dismissed_at, alert.cleared_at,
       campaign.name AS campaign, pool.name AS pool, endpoint.name AS endpoint, sender.name AS sender,
       dismisser.name AS dismissed_by,
       CAST(NULL AS text) AS untold
  FROM alert
  LEFT JOIN campaign
    ON campaign.id = alert.campaign_id
  LEFT JOIN pool
    ON pool.id = alert.pool_id
  LEFT JOIN endpoint
    ON endpoint.id = alert.endpoint_id
  LEFT JOIN sender
    ON sender.id = alert.sender_id
  LEFT JOIN "user" AS dismisser
    ON dismisser.id = alert.dismissed_by
 WHERE alert.organisation_id = :organisation_id
   AND (alert.cleared_at IS NOT NULL OR alert.dismissed_at IS NOT NULL)
   AND alert.id < :before
 ORDER BY alert.id DESC
 LIMIT :limit

-- name: count_open
SELECT count(*)
  FROM alert
 WHERE organisation_id = :organisation_id
   AND cleared_at IS NULL
   AND dismissed_at IS NULL

-- name: find_standing
SELECT alert.id, alert.kind, alert.message, alert.campaign_id, alert.pool_id, alert.endpoint_id, alert.sender_id, alert.raised_at,
       alert.seen_at, alert.times, alert.dismissed_at, alert.cleared_at,
       campaign.name AS campaign, pool.name AS pool, endpoint.name AS endpoint, sender.name AS sender,
       CAST(NULL AS text) AS dismissed_by,
       (SELECT max(error) FROM alert_notice WHERE alert_id = alert.id AND about = 'raised' AND done_at IS NULL) AS untold
  FROM alert
  LEFT JOIN campaign
    ON campaign.id = alert.campaign_id
  LEFT JOIN pool
    ON pool.id = alert.pool_id
  LEFT JOIN endpoint
    ON endpoint.id = alert.endpoint_id
  LEFT JOIN sender
    ON sender.id = alert.sender_id
 WHERE alert.cleared_at IS NULL
   AND alert.dismissed_at IS NULL
 ORDER BY alert.id DESC
 LIMIT :limit
