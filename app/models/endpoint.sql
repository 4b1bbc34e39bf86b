-- Endpoints: where users hear of events. Whoever claims, tries or changes what waits for one locks its row first.

-- name: add
INSERT INTO endpoint (organisation_id, name, url, host, secret, kinds, campaign_id, with_email)
VALUES (:organisation_id, :name, :url, :host, :secret, CAST(:kinds AS text[]), :campaign_id, :with_email)
    ON CONFLICT (organisation_id, name) DO NOTHING
RETURNING id

-- name: change
UPDATE endpoint
   SET name = :name,
       url = :url,
       host = :host,
       kinds = CAST(:kinds AS text[]),
       campaign_id = :campaign_id,
       with_email = :with_email
 WHERE id = :id
   AND NOT EXISTS (
           SELECT
             FROM endpoint AS other
            WHERE other.organisation_id = endpoint.organisation_id
              AND other.name = :name
              AND other.id <> :id
       )
RETURNING id

-- name: lock
SELECT id, organisation_id, name, url, host, secret,
       CASE WHEN old_until > now() THEN old_secret END AS old_secret, kinds, campaign_id, with_email, disabled_at, failures,
       failing_since < now() - interval '1 day' AS hopeless, resume_at > now() AS waits
  FROM endpoint
 WHERE id = :id
   AND (CAST(:organisation_id AS integer) IS NULL OR organisation_id = :organisation_id)
   FOR UPDATE

-- Both secrets sign for a day.
-- name: rotate
UPDATE endpoint
   SET old_secret = secret,
       old_until = now() + interval '1 day',
       secret = :secret
 WHERE id = :id

-- name: disable
UPDATE endpoint
   SET disabled_at = now(),
       disabled_by = :user_id,
       disabled_why = :why
 WHERE id = :id
   AND disabled_at IS NULL

-- name: enable
UPDATE endpoint
   SET disabled_at = NULL,
       disabled_by = NULL,
       disabled_why = NULL,
       failures = 0,
       failing_since = NULL,
       resume_at = NULL
 WHERE id = :id

-- name: remove
DELETE FROM endpoint
 WHERE id = :id

-- name: took
UPDATE endpoint
   SET failures = 0,
       failing_since = NULL,
       resume_at = NULL,
       told = told + :events,
       told_at = now()
 WHERE id = :id

-- Posts that were under way together count as one failure: the first has set a time already.
-- name: failed
UPDATE endpoint
   SET failures = failures + CASE WHEN resume_at > now() THEN 0 ELSE 1 END,
       failing_since = coalesce(failing_since, now()),
       resume_at = greatest(resume_at, now() + make_interval(secs => :pause)),
       given_up = given_up + :given_up
 WHERE id = :id

-- What is given up, or taken up again: a negative number.
-- name: count
UPDATE endpoint
   SET given_up = given_up + :given_up,
       dropped = dropped + :dropped
 WHERE id = :id

-- name: find_hearers
SELECT id, kinds, campaign_id, with_email
  FROM endpoint
 WHERE organisation_id = :organisation_id
   AND (disabled_at IS NULL OR disabled_at > now() - make_interval(days => :days))
 ORDER BY id

-- Those of an organisation, one of it, or (both null) all there are.
-- name: find_lines
SELECT endpoint.id, endpoint.organisation_id, endpoint.name, endpoint.url, endpoint.host, endpoint.kinds,
       endpoint.campaign_id, campaign.name AS campaign, endpoint.with_email, endpoint.created_at,
       CASE WHEN endpoint.old_until > now() THEN endpoint.old_until END AS old_until,
       endpoint.disabled_at, disabler.name AS disabled_by, endpoint.disabled_why,
       endpoint.failures, endpoint.failing_since,
       CASE WHEN endpoint.resume_at > now() THEN endpoint.resume_at END AS resume_at,
       endpoint.told, endpoint.told_at, endpoint.given_up, endpoint.dropped,
       waiting.posts AS waiting_posts, waiting.events AS waiting_events, waiting.oldest
  FROM endpoint
  LEFT JOIN campaign
    ON campaign.id = endpoint.campaign_id
   AND campaign.organisation_id = endpoint.organisation_id
  LEFT JOIN "user" AS disabler
    ON disabler.id = endpoint.disabled_by
 CROSS JOIN LATERAL (
           SELECT count(*) AS posts, coalesce(sum(events), 0) AS events, min(created_at) AS oldest
             FROM endpoint_post
            WHERE endpoint_post.endpoint_id = endpoint.id
              AND due_at IS NOT NULL
       ) AS waiting
 WHERE (CAST(:organisation_id AS integer) IS NULL OR endpoint.organisation_id = :organisation_id)
   AND (CAST(:id AS integer) IS NULL OR endpoint.id = :id)
 ORDER BY endpoint.organisation_id, endpoint.name
