-- Notices: what is told about alerts, one row a reader. A claimed one is due again by its next try's time, whatever
-- becomes of its sender.

-- Nobody needs to be told of what was over, or seen, before they heard of it; nor that it is over; and nobody who has
-- left. While a first notice is still due it may be under way: the second waits for it.
-- name: drop_moot
UPDATE alert_notice AS notice
   SET due_at = NULL
  FROM alert
 WHERE alert.id = notice.alert_id
   AND notice.due_at <= now()
   AND (EXISTS (SELECT FROM "user" WHERE "user".id = notice.user_id AND "user".disabled_at IS NOT NULL)
        OR CASE notice.about
           WHEN 'raised' THEN alert.cleared_at IS NOT NULL OR alert.dismissed_at IS NOT NULL
           ELSE NOT EXISTS (
                    SELECT FROM alert_notice AS first
                     WHERE first.alert_id = notice.alert_id
                       AND first.user_id IS NOT DISTINCT FROM notice.user_id
                       AND first.about = 'raised'
                       AND (first.done_at IS NOT NULL OR first.due_at IS NOT NULL))
           END)

-- What no channel is set up for is only shown.
-- name: forgo
UPDATE alert_notice
   SET due_at = NULL
 WHERE due_at <= now()
   AND (user_id IS NOT NULL) = :by_mail

-- Tried after 1, 5 and 15 minutes, then hourly, for a day; then never again.
-- name: claim
WITH due AS (
    SELECT notice.id,
           coalesce(
               (ARRAY[interval '1 minute', interval '5 minutes', interval '15 minutes'])[notice.tries + 1],
               interval '1 hour') AS pause
      FROM alert_notice AS notice
     WHERE notice.due_at <= now()
       AND (notice.user_id IS NOT NULL) = :by_mail
       AND (notice.about = 'raised'
            OR EXISTS (
                SELECT FROM alert_notice AS first
                 WHERE first.alert_id = notice.alert_id
                   AND first.user_id IS NOT DISTINCT FROM notice.user_id
                   AND first.about = 'raised'
                   AND first.done_at IS NOT NULL))
     ORDER BY notice.due_at, notice.id
     LIMIT 1
       FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE alert_notice AS notice
       SET tries = notice.tries + 1,
           due_at = CASE WHEN now() + due.pause <= notice.created_at + interval '1 day' THEN now() + due.pause END
      FROM due
     WHERE notice.id = due.id
    RETURNING notice.id, notice.alert_id, notice.about, notice.user_id, notice.key, notice.created_at, notice.tries
)
SELECT claimed.id, claimed.alert_id, claimed.about, claimed.key, claimed.created_at, claimed.tries,
       alert.kind, alert.message, alert.raised_at, alert.seen_at, alert.times, alert.cleared_at,
       dismisser.name AS dismissed_by,
       alert.organisation_id, organisation.name AS organisation,
       alert.campaign_id, campaign.name AS campaign, alert.pool_id, pool.name AS pool,
       alert.endpoint_id, endpoint.name AS endpoint, alert.sender_id, sender.name AS sender,
       reader.email AS address
  FROM claimed
  JOIN alert
    ON alert.id = claimed.alert_id
  JOIN organisation
    ON organisation.id = alert.organisation_id
  LEFT JOIN campaign
    ON campaign.id = alert.campaign_id
  LEFT JOIN pool
    ON pool.id = alert.pool_id
  LEFT JOIN endpoint
    ON endpoint.id = alert.endpoint_id
  LEFT JOIN sender
    ON sender.id = alert.sender_id
  LEFT JOIN "user" AS reader
    ON reader.id = claimed.user_id
  LEFT JOIN "user" AS dismisser
    ON dismisser.id = alert.dismissed_by

-- name: done
UPDATE alert_notice
   SET done_at = now(),
       due_at = NULL,
       error = NULL
 WHERE id = :id

-- name: failed
UPDATE alert_notice
   SET error = :error
 WHERE id = :id
   AND done_at IS NULL
RETURNING due_at
