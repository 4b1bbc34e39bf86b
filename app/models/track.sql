-- A draft's links as they are now. Nothing refers to a draft's.
-- name: drop_links
DELETE FROM link
 WHERE campaign_id = :campaign_id

-- name: insert_links
INSERT INTO link (campaign_id, position, url, variants)
SELECT :campaign_id, position, url, variants
  FROM unnest(CAST(:urls AS text[]), CAST(:variants AS smallint[])) WITH ORDINALITY AS told (url, variants, position)

-- name: find_links
SELECT position, url
  FROM link
 WHERE campaign_id = :campaign_id
 ORDER BY position

-- Of campaigns launched lately: what a process that serves clicks keeps ready before the first one comes.
-- name: find_recent_links
WITH recent AS (
    SELECT id
      FROM campaign
     WHERE launched_at > now() - make_interval(secs => :seconds)
       AND track_clicks <> 'off'
     ORDER BY launched_at DESC
     LIMIT :campaigns
)
SELECT recent.id AS campaign_id, array_agg(link.url ORDER BY link.position) AS urls
  FROM recent
  JOIN link
    ON link.campaign_id = recent.id
 GROUP BY recent.id

-- One reader at a time: what belongs together must be seen together.
-- name: take_turn
SELECT pg_try_advisory_xact_lock(7203209)

-- The oldest that are due, and of the same emails everything up to so many seconds after each one's first: a burst is
-- read whole, however its parts arrived.
-- name: claim
WITH seed AS MATERIALIZED (
    SELECT campaign_id, lead_id, at
      FROM hit
     WHERE at < now() - make_interval(secs => :wait)
     ORDER BY at
     LIMIT :most
), email AS (
    SELECT campaign_id, lead_id, min(at) AS began
      FROM seed
     GROUP BY campaign_id, lead_id
), taken AS (
    DELETE FROM hit
     USING email
     WHERE hit.campaign_id = email.campaign_id
       AND hit.lead_id = email.lead_id
       AND hit.at <= email.began + make_interval(secs => :burst)
       AND hit.at <= (SELECT max(began) FROM email) + make_interval(secs => :burst)
    RETURNING hit.campaign_id, hit.lead_id, hit.position, hit.at, hit.machine
)
SELECT campaign_id, lead_id, position, at, machine
  FROM taken
 ORDER BY campaign_id, lead_id, at, position

-- Where a lead stands in the frozen audience: the range of its first run that holds it, and the place in it, from 0.
-- The first ranges of a part hold its leads in order of ids, so one descent of an index for each part of the audience
-- (one, but for tests and leads' own time zones) finds the only one of it that can have the lead.
-- Each range's array is read from where it lies out of line once, not for each of its leads: half of the time.
-- name: find_places
WITH found AS MATERIALIZED (
    SELECT asked.campaign_id, asked.lead_id, nearest.id AS range_id
      FROM unnest(CAST(:campaign_ids AS integer[]), CAST(:lead_ids AS bigint[])) AS asked (campaign_id, lead_id)
      JOIN campaign
        ON campaign.id = asked.campaign_id
     CROSS JOIN LATERAL generate_series(0, campaign.parts - 1) AS each (part)
     CROSS JOIN LATERAL (
               SELECT id, last_lead
                 FROM outbox
                WHERE outbox.campaign_id = asked.campaign_id
                  AND outbox.part = each.part
                  AND outbox.first_lead <= asked.lead_id
                  AND outbox.parent_id IS NULL
                ORDER BY outbox.first_lead DESC
                LIMIT 1
           ) AS nearest
     WHERE nearest.last_lead >= asked.lead_id
), range AS MATERIALIZED (
    SELECT id, size, lead_ids || CAST('{}' AS bigint[]) AS lead_ids
      FROM outbox
     WHERE id IN (SELECT range_id FROM found)
), placed AS MATERIALIZED (
    SELECT found.campaign_id, found.lead_id, found.range_id, range.size,
           array_position(range.lead_ids, found.lead_id) AS place
      FROM found
      JOIN range
        ON range.id = found.range_id
)
SELECT campaign_id, lead_id, range_id, size, place - 1
  FROM placed
 WHERE place IS NOT NULL

-- The newest call that had a lead: of its range, or of the later ranges that the lead was put off to. When it was
-- answered is when the email was sent.
-- name: find_emails
WITH RECURSIVE asked AS (
    SELECT lead_id, range_id
      FROM unnest(CAST(:lead_ids AS bigint[]), CAST(:range_ids AS bigint[])) AS asked (lead_id, range_id)
), family AS (
    SELECT DISTINCT range_id AS root, range_id AS id
      FROM asked
     UNION ALL
    SELECT family.root, outbox.id
      FROM family
      JOIN outbox
        ON outbox.parent_id = family.id
), call AS (
    SELECT family.root, handoff.id, handoff.pool_id, handoff.run, handoff.variant, handoff.handed_at,
           handoff.settled_at, each.lead_id
      FROM family
      JOIN handoff
        ON handoff.range_id = family.id
     CROSS JOIN LATERAL unnest(handoff.lead_ids) AS each (lead_id)
)
SELECT DISTINCT ON (asked.range_id, asked.lead_id)
       asked.range_id, asked.lead_id, call.pool_id, call.run, call.variant, call.handed_at, call.settled_at
  FROM asked
  JOIN call
    ON call.root = asked.range_id
   AND call.lead_id = asked.lead_id
 ORDER BY asked.range_id, asked.lead_id, call.id DESC

-- name: find_campaigns
SELECT campaign.id, campaign.organisation_id, campaign.owner_id,
       coalesce(own.link_ids, '{}') AS link_ids, coalesce(own.variants, '{}') AS variants
  FROM campaign
 CROSS JOIN LATERAL (
           SELECT array_agg(link.id ORDER BY link.position) AS link_ids,
                  array_agg(link.variants ORDER BY link.position) AS variants
             FROM link
            WHERE link.campaign_id = campaign.id
       ) AS own
 WHERE campaign.id = ANY(CAST(:campaign_ids AS integer[]))

-- Of leads that still exist.
-- name: find_leads
SELECT id, organisation_id, domain_id, untracked
  FROM lead
 WHERE id = ANY(CAST(:lead_ids AS bigint[]))

-- When emails were delivered, as far as webhooks said so. Only the time around the hits is looked at: no other chunk is
-- opened.
-- name: find_deliveries
SELECT event.campaign_id, event.lead_id, event.time
  FROM unnest(CAST(:campaign_ids AS integer[]), CAST(:lead_ids AS bigint[])) AS asked (campaign_id, lead_id)
  JOIN event
    ON event.campaign_id = asked.campaign_id
   AND event.lead_id = asked.lead_id
 WHERE event.kind = 'delivered'
   AND event.time >= :since
   AND event.time <= :until

-- Sorted, so that of two that touch the same ranges one waits for the other. What is set already is not written again.
-- name: touch
INSERT INTO first_touch AS known (
    range_id, campaign_id, opened, opened_by_people, clicked, clicked_by_people
)
SELECT range_id, campaign_id, CAST(opened AS bit varying), CAST(opened_by_people AS bit varying),
       CAST(clicked AS bit varying), CAST(clicked_by_people AS bit varying)
  FROM unnest(
           CAST(:range_ids AS bigint[]), CAST(:campaign_ids AS integer[]), CAST(:opened AS text[]),
           CAST(:opened_by_people AS text[]), CAST(:clicked AS text[]), CAST(:clicked_by_people AS text[])
       ) AS told (range_id, campaign_id, opened, opened_by_people, clicked, clicked_by_people)
 ORDER BY range_id
    ON CONFLICT (range_id) DO UPDATE
   SET opened = known.opened | excluded.opened,
       opened_by_people = known.opened_by_people | excluded.opened_by_people,
       clicked = known.clicked | excluded.clicked,
       clicked_by_people = known.clicked_by_people | excluded.clicked_by_people
 WHERE (known.opened, known.opened_by_people, known.clicked, known.clicked_by_people)
       IS DISTINCT FROM (
           known.opened | excluded.opened, known.opened_by_people | excluded.opened_by_people,
           known.clicked | excluded.clicked, known.clicked_by_people | excluded.clicked_by_people
       )

-- name: count_firsts
SELECT coalesce(sum(bit_count(opened)), 0),
       coalesce(sum(bit_count(opened_by_people)), 0),
       coalesce(sum(bit_count(clicked)), 0),
       coalesce(sum(bit_count(clicked_by_people)), 0)
  FROM first_touch
 WHERE campaign_id = :campaign_id

-- What campaigns track by themselves, where an event of a provider's would count it a second time.
-- name: find_wanted
SELECT id, track_opens, track_clicks
  FROM campaign
 WHERE id = ANY(CAST(:campaign_ids AS integer[]))

-- name: find_untracked
SELECT id
  FROM lead
 WHERE id = ANY(CAST(:lead_ids AS bigint[]))
   AND untracked

-- name: set_untracked
UPDATE lead
   SET untracked = :untracked
 WHERE id = :lead_id

-- name: is_untracked
SELECT untracked
  FROM lead
 WHERE id = :lead_id
