-- Reports: sums over the report views, never over events; the brief ones wherever domain and link are not asked for.
-- In what spans days, brief_hour and report_hour stand for the view that fits. report.py puts _5min in the place of
-- _hour where days begin at odd minutes, _day where they are UTC's; or, for one domain, its part of report_hour; or, where
-- neither campaigns nor domains are told apart, user_hour.

-- A stream of messages is shown as what it is, wherever campaigns are named.
-- name: find_campaign
SELECT id, CASE WHEN kind = 'messages' THEN name || ' (messages)' ELSE name END AS name, owner_id, state, audience, created_at, launched_at, finished_at
FROM campaign
WHERE id = :campaign_id
  AND organisation_id = :organisation_id

-- name: find_campaigns
-- The newest first, by key: the page goes on below the last id seen.
SELECT id, CASE WHEN kind = 'messages' THEN name || ' (messages)' ELSE name END AS name, owner_id, state, audience, created_at, launched_at, finished_at
FROM campaign
WHERE organisation_id = :organisation_id
  AND launched_at IS NOT NULL
  AND id < :before
  AND (CAST(:user_id AS integer) IS NULL OR owner_id = :user_id)
ORDER BY id DESC
LIMIT :limit

-- name: sum_campaigns
SELECT campaign_id, kind, machine, sum(total) AS total
FROM brief_day
WHERE organisation_id = :organisation_id
  AND campaign_id = ANY(:campaign_ids)
GROUP BY campaign_id, kind, machine

-- name: sum_runs
SELECT run, kind, machine, sum(total) AS total
FROM brief_day
WHERE organisation_id = :organisation_id
  AND campaign_id = :campaign_id
GROUP BY run, kind, machine

-- name: sum_campaign_hours
SELECT bucket, kind, machine, sum(total) AS total
FROM brief_hour
WHERE organisation_id = :organisation_id
  AND campaign_id = :campaign_id
  AND bucket >= :since
  AND bucket < :until
GROUP BY bucket, kind, machine
ORDER BY bucket

-- name: sum_days
SELECT CAST(bucket AT TIME ZONE :zone AS date) AS day, user_id, kind, machine, sum(total) AS total
FROM brief_hour
WHERE organisation_id = :organisation_id
  AND bucket >= :since
  AND bucket < :until
  AND (CAST(:user_id AS integer) IS NULL OR user_id = :user_id)
  AND (CAST(:campaign_id AS integer) IS NULL OR campaign_id = :campaign_id)
GROUP BY day, user_id, kind, machine
ORDER BY day, user_id

-- name: sum_users
SELECT user_id, kind, machine, sum(total) AS total
FROM brief_hour
WHERE organisation_id = :organisation_id
  AND bucket >= :since
  AND bucket < :until
  AND (CAST(:campaign_id AS integer) IS NULL OR campaign_id = :campaign_id)
GROUP BY user_id, kind, machine

-- name: sum_campaigns_of_days
SELECT campaign_id, kind, machine, sum(total) AS total
FROM brief_hour
WHERE organisation_id = :organisation_id
  AND bucket >= :since
  AND bucket < :until
  AND (CAST(:user_id AS integer) IS NULL OR user_id = :user_id)
  AND (CAST(:campaign_id AS integer) IS NULL OR campaign_id = :campaign_id)
GROUP BY campaign_id, kind, machine

-- name: sum_domains_of_days
-- The domains that most emails went to. The six outcomes are the first kinds, `unknown` is the last of them.
WITH sums AS (
    SELECT domain_id, kind, machine, sum(total) AS total
    FROM report_hour
    WHERE organisation_id = :organisation_id
      AND bucket >= :since
      AND bucket < :until
      AND (CAST(:user_id AS integer) IS NULL OR user_id = :user_id)
      AND (CAST(:campaign_id AS integer) IS NULL OR campaign_id = :campaign_id)
    GROUP BY domain_id, kind, machine
), most AS (
    SELECT domain_id
    FROM sums
    GROUP BY domain_id
    ORDER BY sum(total) FILTER (WHERE kind <= 'unknown') DESC NULLS LAST, domain_id
    LIMIT :limit
)
SELECT domain_id, kind, machine, total
FROM most
JOIN sums USING (domain_id)

-- name: sum_domains_of_campaign
WITH sums AS (
    SELECT domain_id, kind, machine, sum(total) AS total
    FROM report_day
    WHERE organisation_id = :organisation_id
      AND campaign_id = :campaign_id
    GROUP BY domain_id, kind, machine
), most AS (
    SELECT domain_id
    FROM sums
    GROUP BY domain_id
    ORDER BY sum(total) FILTER (WHERE kind <= 'unknown') DESC NULLS LAST, domain_id
    LIMIT :limit
)
SELECT domain_id, kind, machine, total
FROM most
JOIN sums USING (domain_id)

-- name: sum_pools_of_campaign
SELECT pool_id, kind, machine, sum(total) AS total
FROM brief_day
WHERE organisation_id = :organisation_id
  AND campaign_id = :campaign_id
GROUP BY pool_id, kind, machine

-- name: sum_variants_of_campaign
SELECT variant, kind, machine, sum(total) AS total
FROM brief_day
WHERE organisation_id = :organisation_id
  AND campaign_id = :campaign_id
GROUP BY variant, kind, machine

-- name: sum_links
-- Clicks by people and by machines, by the link's place in the email.
SELECT link_id, kind, machine, sum(total) AS total
FROM report_day
WHERE organisation_id = :organisation_id
  AND campaign_id = :campaign_id
  AND kind = 'clicked'
GROUP BY link_id, kind, machine

-- name: name_users
SELECT id, name
FROM "user"
WHERE organisation_id = :organisation_id
  AND id = ANY(:ids)

-- name: name_campaigns
SELECT id, CASE WHEN kind = 'messages' THEN name || ' (messages)' ELSE name END AS name
FROM campaign
WHERE organisation_id = :organisation_id
  AND id = ANY(:ids)

-- name: name_pools
SELECT id, name
FROM pool
WHERE organisation_id = :organisation_id
  AND id = ANY(:ids)

-- name: name_domains
SELECT id, name
FROM domain
WHERE id = ANY(:ids)

-- name: name_links
SELECT id, url AS name
FROM link
WHERE campaign_id = :campaign_id
  AND id = ANY(:ids)
