-- The leads of a campaign and what happened to each: read from the events, by key, never by OFFSET.
-- :since and :until are the days in which anything happened, as constants: only their chunks are planned and opened.

-- name: find_leads
-- Along the index (campaign_id, lead_id) of each chunk, merged: a page is as fast at the end as at the beginning.
SELECT lead_id
FROM event
WHERE campaign_id = :campaign_id
  AND lead_id > :after
  AND time >= :since
  AND time < :until
GROUP BY lead_id
ORDER BY lead_id
LIMIT :limit

-- name: find_leads_of_kind
-- The rare kinds have an index of their own (event_exception); the others are found quickly because they are many.
SELECT lead_id
FROM event
WHERE campaign_id = :campaign_id
  AND kind = :kind
  AND lead_id > :after
  AND time >= :since
  AND time < :until
GROUP BY lead_id
HAVING sum(weight) > 0
ORDER BY lead_id
LIMIT :limit

-- name: find_facts
SELECT event.lead_id, lead.email, event.run, event.kind, event.machine, event.weight, event.time,
       event.detail ->> 'reason' AS reason
FROM event
LEFT JOIN lead
    ON lead.id = event.lead_id
    AND lead.organisation_id = :organisation_id
WHERE event.campaign_id = :campaign_id
  AND event.lead_id = ANY(:lead_ids)
  AND event.time >= :since
  AND event.time < :until
ORDER BY event.lead_id, event.time

-- name: find_campaigns_of_lead
-- Run 1's ranges hold the whole audience in the order of ids, so one descent of an index finds the only one that can
-- hold the lead: 10 µs a campaign.
SELECT campaign.id, campaign.name
FROM campaign
CROSS JOIN LATERAL (
    SELECT last_lead, lead_ids
    FROM outbox
    WHERE campaign_id = campaign.id
      AND first_lead <= :lead_id
      AND run = 1
      AND parent_id IS NULL
    ORDER BY first_lead DESC
    LIMIT 1
) AS nearest
WHERE campaign.organisation_id = :organisation_id
  AND campaign.launched_at IS NOT NULL
  AND campaign.id < :before
  AND nearest.last_lead >= :lead_id
  AND :lead_id = ANY(nearest.lead_ids)
ORDER BY campaign.id DESC
LIMIT :limit

-- name: find_moments
SELECT event.time, event.kind, event.run, event.machine, link.url, event.detail ->> 'reason' AS reason
FROM event
LEFT JOIN link
    ON link.id = event.link_id
WHERE event.campaign_id = :campaign_id
  AND event.lead_id = :lead_id
  AND event.weight > 0
  AND event.time >= :since
  AND event.time < :until
ORDER BY event.time DESC, event.kind DESC

-- name: find_span
-- The days (of UTC) in which anything happened: what reads the events themselves opens these chunks only. For a young
-- campaign all days since its launch: while it sends, its sums are the expensive way to know (1 s a million events).
SELECT id AS campaign_id, launched_at - INTERVAL '1 day' AS since, now() + INTERVAL '1 day' AS until
FROM campaign
WHERE organisation_id = :organisation_id
  AND id = ANY(:campaign_ids)
  AND launched_at >= now() - INTERVAL '5 days'
UNION ALL
SELECT campaign_id, min(bucket), max(bucket) + INTERVAL '1 day'
FROM brief_day
WHERE organisation_id = :organisation_id
  AND campaign_id = ANY(ARRAY(
      SELECT id
      FROM campaign
      WHERE organisation_id = :organisation_id
        AND id = ANY(:campaign_ids)
        AND launched_at < now() - INTERVAL '5 days'
  ))
GROUP BY campaign_id
