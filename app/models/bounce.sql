-- Deliveries are noted beside one another; soft bounces by one transaction at a time, which waits for those under way.
-- Without that, of a bounce and a delivery in two transactions at once neither would see the other.
-- name: take_turn
SELECT pg_advisory_xact_lock_shared(7203194, :organisation_id)

-- name: take_turn_alone
SELECT pg_advisory_xact_lock(7203194, :organisation_id)

-- A delivery that happened later may have been read earlier: it stands in the record then. Only the campaigns that could
-- still deliver are asked there, each by the index over campaign and lead. Planned anew each time, with `since` as a
-- constant: the planner then leaves out the chunks before it.
-- name: note_soft
WITH going AS MATERIALIZED (
    SELECT array_agg(id) AS ids
      FROM campaign
     WHERE organisation_id = :organisation_id
       AND launched_at IS NOT NULL
       AND (finished_at IS NULL OR finished_at > CAST(:since AS timestamptz) - interval '8 days')
)
INSERT INTO soft_bounce (lead_id, handoff_id, campaign_id, happened_at, delivered_at)
SELECT told.lead_id, told.handoff_id, told.campaign_id, told.happened_at, (
           SELECT min(event.time)
             FROM event
            WHERE event.campaign_id = ANY ((SELECT ids FROM going)::integer[])
              AND event.lead_id = told.lead_id
              AND event.kind = 'delivered'
              AND event.time >= CAST(:since AS timestamptz)
              AND event.time >= told.happened_at
       )
  FROM unnest(CAST(:lead_ids AS bigint[]), CAST(:handoff_ids AS bigint[]), CAST(:campaign_ids AS integer[]),
              CAST(:times AS timestamptz[])) AS told (lead_id, handoff_id, campaign_id, happened_at)
 WHERE told.lead_id < 0 -- stands for an address that no lead has (app/models/addressee.py)
    OR EXISTS (SELECT FROM lead WHERE lead.id = told.lead_id)
    ON CONFLICT DO NOTHING
RETURNING lead_id

-- Nearly all leads that something was delivered to have none, so that their numbers alone are asked about first.
-- name: find_noted
SELECT DISTINCT lead_id
  FROM soft_bounce
 WHERE lead_id = ANY (CAST(:lead_ids AS bigint[]))

-- Locked in order, so that of two that bring deliveries of the same leads one waits for the other.
-- name: note_deliveries
WITH told AS (
    SELECT lead_id, happened_at
      FROM unnest(CAST(:lead_ids AS bigint[]), CAST(:times AS timestamptz[])) AS told (lead_id, happened_at)
), held AS (
    SELECT lead_id, handoff_id, happened_at
      FROM soft_bounce
     WHERE lead_id = ANY (CAST(:lead_ids AS bigint[]))
     ORDER BY lead_id, handoff_id, happened_at
       FOR UPDATE
), ended AS (
    SELECT held.lead_id, held.handoff_id, held.happened_at, min(told.happened_at) AS delivered_at
      FROM held
      JOIN told
        ON told.lead_id = held.lead_id
       AND told.happened_at >= held.happened_at
     GROUP BY held.lead_id, held.handoff_id, held.happened_at
)
UPDATE soft_bounce
   SET delivered_at = ended.delivered_at
  FROM ended
 WHERE soft_bounce.lead_id = ended.lead_id
   AND soft_bounce.handoff_id = ended.handoff_id
   AND soft_bounce.happened_at = ended.happened_at
   AND (soft_bounce.delivered_at IS NULL OR soft_bounce.delivered_at > ended.delivered_at)
RETURNING soft_bounce.lead_id

-- From each bounce on: how many emails, of how many campaigns, until the next delivery, or for so many days.
-- name: judge
SELECT DISTINCT first.lead_id
  FROM soft_bounce AS first
  JOIN soft_bounce AS next
    ON next.lead_id = first.lead_id
   AND next.happened_at BETWEEN first.happened_at AND first.happened_at + make_interval(days => :days)
   AND (first.delivered_at IS NULL OR next.happened_at < first.delivered_at)
 WHERE first.lead_id = ANY (CAST(:lead_ids AS bigint[]))
 GROUP BY first.lead_id, first.handoff_id, first.happened_at
HAVING count(DISTINCT next.handoff_id) >= :emails
   AND count(DISTINCT next.campaign_id) >= :campaigns

-- name: forget
DELETE FROM soft_bounce
 WHERE lead_id = ANY (CAST(:lead_ids AS bigint[]))

-- name: drop_old
DELETE FROM soft_bounce
 WHERE happened_at < now() - make_interval(days => :days)

-- name: count_blocked
INSERT INTO campaign_blocked AS known (campaign_id, total)
SELECT campaign_id, total
  FROM unnest(CAST(:campaign_ids AS integer[]), CAST(:totals AS integer[])) AS told (campaign_id, total)
 ORDER BY campaign_id
    ON CONFLICT (campaign_id) DO UPDATE
   SET total = known.total + excluded.total
RETURNING campaign_id, total, told

-- name: note_told
UPDATE campaign_blocked
   SET told = total
 WHERE campaign_id = :campaign_id
