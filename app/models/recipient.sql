-- The leads of a campaign and what happened to each: read from the events, by key, never by OFFSET. Rows of emails that
-- were sent are found by the summaries of their blocks (event_sent), all others by event_lead: so there are two questions.
-- :since and :until are the days in which anything happened, as constants: only their chunks are planned and opened.

-- name: find_leads
-- The next ones of the frozen audience that were handed over, skipped or cancelled. The first ranges of a part hold its
-- leads in order of ids: from the one that may hold `after` on, as many as have the leads asked for.
WITH near AS (
    SELECT held.lead_ids, held.reached
    FROM campaign
    CROSS JOIN LATERAL generate_series(0, campaign.parts - 1) AS each (part)
    CROSS JOIN LATERAL (
        SELECT lead_ids, CASE WHEN state = 'cancelled' THEN size ELSE position END AS reached
        FROM outbox
        WHERE campaign_id = campaign.id
          AND outbox.part = each.part
          AND parent_id IS NULL
          AND first_lead <= :after
        ORDER BY first_lead DESC
        LIMIT 1
    ) AS held
    WHERE campaign.id = :campaign_id
    UNION ALL
    SELECT counted.lead_ids, counted.reached
    FROM campaign
    CROSS JOIN LATERAL generate_series(0, campaign.parts - 1) AS each (part)
    CROSS JOIN LATERAL (
        SELECT lead_ids, reached, sum(reached) OVER (ORDER BY first_lead) - reached AS before
        FROM (
            SELECT lead_ids, first_lead, CASE WHEN state = 'cancelled' THEN size ELSE position END AS reached
            FROM outbox
            WHERE campaign_id = campaign.id
              AND outbox.part = each.part
              AND parent_id IS NULL
              AND first_lead > :after
              AND (position > 0 OR state = 'cancelled')
            ORDER BY first_lead
            LIMIT :limit
        ) AS following
    ) AS counted
    WHERE campaign.id = :campaign_id
      AND counted.before < :limit
)
SELECT lead_id
FROM near
CROSS JOIN LATERAL unnest(near.lead_ids[: near.reached]) AS each (lead_id)
WHERE lead_id > :after
ORDER BY lead_id
LIMIT :limit

-- name: find_leads_of_kind
-- Every kind but "sent" has the index of what comes back (event_lead), and the rare ones one of their own
-- (event_exception).
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
-- Between the first lead and the last one: a summary is asked once for all of them, and not once for each.
WITH told AS (
    SELECT lead_id, run, kind, machine, weight, time, detail
    FROM event
    WHERE campaign_id = :campaign_id
      AND kind <> 'sent'
      AND lead_id = ANY(:lead_ids)
      AND time >= :since
      AND time < :until
    UNION ALL
    SELECT lead_id, run, kind, machine, weight, time, detail
    FROM event
    WHERE campaign_id = :campaign_id
      AND kind = 'sent'
      AND lead_id BETWEEN :first AND :last
      AND lead_id + 0 = ANY(:lead_ids)
      AND time >= :since
      AND time < :until
)
SELECT told.lead_id, lead.email, told.run, told.kind, told.machine, told.weight, told.time,
       told.detail ->> 'reason' AS reason
FROM told
LEFT JOIN lead
    ON lead.id = told.lead_id
    AND lead.organisation_id = :organisation_id
ORDER BY told.lead_id, told.time

-- name: look_back
SELECT min(id) AS first, count(*) AS campaigns
FROM (
    SELECT id
    FROM campaign
    WHERE organisation_id = :organisation_id
      AND kind = 'campaign'
      AND launched_at IS NOT NULL
      AND id < :before
    ORDER BY id DESC
    LIMIT :campaigns
) AS looked

-- name: find_campaigns_of_lead
-- The first ranges of a part of the audience hold its leads in the order of ids, so one descent of an index for each part
-- finds the only one that can hold the lead: 10 µs a campaign, which mostly has one, and some 30 more to look through its
-- ids; several times that where they are not in memory.
SELECT campaign.id, campaign.name
FROM campaign
CROSS JOIN LATERAL generate_series(0, campaign.parts - 1) AS each (part)
CROSS JOIN LATERAL (
    SELECT last_lead, lead_ids
    FROM outbox
    WHERE campaign_id = campaign.id
      AND outbox.part = each.part
      AND first_lead <= :lead_id
      AND run = 1
      AND parent_id IS NULL
    ORDER BY first_lead DESC
    LIMIT 1
) AS nearest
WHERE campaign.organisation_id = :organisation_id
  AND campaign.kind = 'campaign'
  AND campaign.launched_at IS NOT NULL
  AND campaign.id < :before
  AND campaign.id >= :first
  AND nearest.last_lead >= :lead_id
  AND :lead_id = ANY(nearest.lead_ids)
ORDER BY campaign.id DESC
LIMIT :limit

-- name: find_calls
-- The calls that had a lead: of its range in the frozen audience, and of the later ranges that it was put off to or sent
-- to again in. A lead's ranges are found as above, and each has few others behind it.
WITH RECURSIVE family AS (
    SELECT first.campaign_id, first.id
    FROM campaign
    CROSS JOIN LATERAL generate_series(0, campaign.parts - 1) AS each (part)
    CROSS JOIN LATERAL (
        SELECT outbox.campaign_id, id, last_lead
        FROM outbox
        WHERE outbox.campaign_id = campaign.id
          AND outbox.part = each.part
          AND first_lead <= :lead_id
          AND run = 1
          AND parent_id IS NULL
        ORDER BY first_lead DESC
        LIMIT 1
    ) AS first
    WHERE campaign.organisation_id = :organisation_id
      AND campaign.id = ANY(:campaign_ids)
      AND first.last_lead >= :lead_id
    UNION ALL
    SELECT family.campaign_id, later.id
    FROM family
    JOIN outbox AS later
        ON later.parent_id = family.id
        AND later.first_lead <= :lead_id
        AND later.last_lead >= :lead_id
)
SELECT family.campaign_id, pool.name AS pool, pool.provider, handoff.run, handoff.handed_at, found.place, handoff.refs
FROM family
JOIN handoff
    ON handoff.range_id = family.id
JOIN pool
    ON pool.id = handoff.pool_id
CROSS JOIN LATERAL (SELECT array_position(handoff.lead_ids, :lead_id) AS place) AS found
WHERE found.place IS NOT NULL
ORDER BY handoff.id DESC

-- name: find_moments
WITH told AS (
    SELECT time, kind, run, machine, link_id, detail
    FROM event
    WHERE campaign_id = :campaign_id
      AND kind <> 'sent'
      AND lead_id = :lead_id
      AND weight > 0
      AND time >= :since
      AND time < :until
    UNION ALL
    SELECT time, kind, run, machine, link_id, detail
    FROM event
    WHERE campaign_id = :campaign_id
      AND kind = 'sent'
      AND lead_id = :lead_id
      AND weight > 0
      AND time >= :since
      AND time < :until
)
SELECT told.time, told.kind, told.run, told.machine, link.url, told.detail ->> 'reason' AS reason
FROM told
LEFT JOIN link
    ON link.id = told.link_id
ORDER BY told.time DESC, told.kind DESC

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
