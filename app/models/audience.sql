-- Who got, or is to get, another campaign that was made of the same one: sent, unknown, or waiting.
-- name: leave_out_sent
WITH made AS (
    SELECT outbox.id, outbox.state, outbox.position, outbox.lead_ids
      FROM campaign
      JOIN outbox
        ON outbox.campaign_id = campaign.id
     WHERE campaign.origin_id = :origin_id
), had AS (
    SELECT each.lead_id
      FROM made
      JOIN handoff
        ON handoff.range_id = made.id
     CROSS JOIN LATERAL unnest(handoff.lead_ids, string_to_array(handoff.outcomes, NULL)) AS each (lead_id, letter)
     WHERE each.letter IS NULL
        OR each.letter IN ('s', 'u')
     UNION
    SELECT unnest(lead_ids[position + 1 :])
      FROM made
     WHERE state IN ('ready', 'leased', 'quarantined')
)
UPDATE chosen
   SET reason = 'had it before'
  FROM had
 WHERE chosen.id = had.lead_id
   AND chosen.reason IS NULL

-- A million ids are sorted once: in memory, not in files. For this transaction only.
-- name: room_to_sort
SET LOCAL work_mem = '64MB'
