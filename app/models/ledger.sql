-- What the record, the ranges and the audience say at one moment. By several statements, what is resolved between two
-- of them would look like a fault. The two sums over ids tell one set of leads from another: of a lead that is there
-- twice for one that is missing, a count alone knows nothing. Planned anew each time, with `since` as a constant: the
-- planner then leaves out the chunks before it, where a prepared statement would open and lock every one (800 locks for
-- 200 days).
-- name: sum_all
WITH outcome AS (
    SELECT kind, sum(weight) AS leads, sum(weight * lead_id) AS first,
           sum(weight * (lead_id % 2147483647 * 2654435761 % 4294967291)) AS second
      FROM event
     WHERE campaign_id = :campaign_id
       AND kind IN ('sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown')
       AND time >= :since
     GROUP BY kind
), record AS (
    SELECT coalesce(jsonb_object_agg(kind, leads), '{}') AS kinds, coalesce(sum(first), 0) AS first,
           coalesce(sum(second), 0) AS second
      FROM outcome
), audience AS (
    SELECT coalesce(sum(lead_id), 0) AS first,
           coalesce(sum(lead_id % 2147483647 * 2654435761 % 4294967291), 0) AS second
      FROM outbox
     CROSS JOIN LATERAL unnest(lead_ids) AS each (lead_id)
     WHERE campaign_id = :campaign_id
       AND parent_id IS NULL
), ranges AS (
    SELECT array[
               coalesce(sum(size - moved), 0), coalesce(sum(sent), 0), coalesce(sum(refused), 0),
               coalesce(sum(failed), 0), coalesce(sum(skipped), 0), coalesce(sum(cancelled), 0),
               coalesce(sum(unknown), 0),
               coalesce(sum(size - sent - refused - failed - skipped - cancelled - unknown - moved), 0)
           ] AS sums
      FROM outbox
     WHERE campaign_id = :campaign_id
)
SELECT ranges.sums, record.kinds, audience.first, audience.second, record.first, record.second
  FROM ranges
 CROSS JOIN record
 CROSS JOIN audience

-- Lead by lead: what hand-offs say, what the record says, and who is still to be served. Only those of whom the three do
-- not say the same. Run when the sums differ, so almost never; a million leads take seconds.
-- name: find_differences
WITH asked AS (
    SELECT DISTINCT unnest(lead_ids) AS lead_id
      FROM outbox
     WHERE campaign_id = :campaign_id
       AND parent_id IS NULL
), waiting AS (
    SELECT unnest(lead_ids[position + 1 :]) AS lead_id
      FROM outbox
     WHERE campaign_id = :campaign_id
       AND state IN ('ready', 'leased', 'quarantined')
     UNION ALL
    SELECT unnest(handoff.lead_ids)
      FROM outbox
      JOIN handoff
        ON handoff.range_id = outbox.id
     WHERE outbox.campaign_id = :campaign_id
       AND handoff.state = 'handed'
), open AS (
    SELECT lead_id, count(*) AS places
      FROM waiting
     GROUP BY lead_id
), said AS (
    SELECT each.lead_id, string_agg(each.letter, '' ORDER BY handoff.id) AS letters,
           array_agg(handoff.id ORDER BY handoff.id) AS handoff_ids
      FROM outbox
      JOIN handoff
        ON handoff.range_id = outbox.id
     CROSS JOIN LATERAL unnest(handoff.lead_ids, string_to_array(handoff.outcomes, NULL)) AS each (lead_id, letter)
     WHERE outbox.campaign_id = :campaign_id
       AND each.letter IN ('s', 'r', 'f', 'l', 'u')
     GROUP BY each.lead_id
), summed AS (
    SELECT lead_id, kind, sum(weight) AS weight
      FROM event
     WHERE campaign_id = :campaign_id
       AND kind IN ('sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown')
       AND time >= :since
     GROUP BY lead_id, kind
    HAVING sum(weight) <> 0
), recorded AS (
    SELECT lead_id, jsonb_object_agg(kind, weight) AS kinds
      FROM summed
     GROUP BY lead_id
), compared AS (
    SELECT lead_id, coalesce(said.letters, '') AS letters, coalesce(said.handoff_ids, '{}') AS handoff_ids,
           coalesce(recorded.kinds, '{}') AS kinds, coalesce(open.places, 0) AS open, asked.lead_id IS NOT NULL AS asked
      FROM asked
      FULL JOIN open USING (lead_id)
      FULL JOIN said USING (lead_id)
      FULL JOIN recorded USING (lead_id)
)
SELECT lead_id, letters, handoff_ids, kinds, open, asked
  FROM compared
 WHERE NOT CASE
           WHEN NOT asked OR open > 1 THEN false
           WHEN open = 1 THEN letters = '' AND kinds = '{}'
           WHEN letters = '' THEN kinds IN ('{"skipped": 1}', '{"cancelled": 1}')
           WHEN letters = 's' THEN kinds = '{"sent": 1}'
           WHEN letters = 'r' THEN kinds = '{"refused": 1}'
           WHEN letters IN ('f', 'l') THEN kinds = '{"failed": 1}'
           WHEN letters = 'u' THEN kinds = '{"unknown": 1}'
           ELSE false
       END
 ORDER BY lead_id
 LIMIT :limit

-- The range that a lead of the audience was first put into.
-- name: find_first_range
SELECT outbox.id
  FROM campaign
 CROSS JOIN LATERAL generate_series(0, campaign.parts - 1) AS each (part)
  JOIN outbox
    ON outbox.campaign_id = campaign.id
   AND outbox.part = each.part
 WHERE campaign.id = :campaign_id
   AND parent_id IS NULL
   AND first_lead <= :lead_id
   AND last_lead >= :lead_id
   AND :lead_id = ANY(lead_ids)

-- What ranges count, made anew from their hand-offs, the ranges made of them, and the events of those never handed over.
-- One that would not count each of its leads once is left as it is.
-- name: recount
WITH letters AS (
    SELECT outbox.id,
           count(*) FILTER (WHERE each.letter = 's') AS sent,
           count(*) FILTER (WHERE each.letter = 'r') AS refused,
           count(*) FILTER (WHERE each.letter IN ('f', 'l')) AS failed,
           count(*) FILTER (WHERE each.letter = 'u') AS unknown,
           array_agg(each.lead_id) FILTER (WHERE each.letter <> 'd') AS lead_ids
      FROM outbox
      JOIN handoff
        ON handoff.range_id = outbox.id
     CROSS JOIN LATERAL unnest(handoff.lead_ids, string_to_array(handoff.outcomes, NULL)) AS each (lead_id, letter)
     WHERE outbox.campaign_id = :campaign_id
     GROUP BY outbox.id
), made AS (
    SELECT parent_id AS id, array_agg(lead_id) AS lead_ids
      FROM outbox
     CROSS JOIN LATERAL (SELECT unnest(lead_ids) AS lead_id) AS each
     WHERE campaign_id = :campaign_id
       AND parent_id IS NOT NULL
     GROUP BY parent_id
), others AS (
    SELECT outbox.id, each.lead_id
      FROM outbox
     CROSS JOIN LATERAL unnest(outbox.lead_ids) AS each (lead_id)
     WHERE outbox.campaign_id = :campaign_id
    EXCEPT
    SELECT id, unnest(lead_ids) FROM letters
    EXCEPT
    SELECT id, unnest(lead_ids) FROM made
), ended AS (
    SELECT others.id,
           coalesce(sum(event.weight) FILTER (WHERE event.kind = 'skipped'), 0) AS skipped,
           coalesce(sum(event.weight) FILTER (WHERE event.kind = 'cancelled'), 0) AS cancelled
      FROM others
      JOIN event
        ON event.campaign_id = :campaign_id
       AND event.lead_id = others.lead_id
       AND event.kind IN ('skipped', 'cancelled')
       AND event.time >= :since
     GROUP BY others.id
), counted AS (
    SELECT outbox.id,
           coalesce(letters.sent, 0) AS sent, coalesce(letters.refused, 0) AS refused,
           coalesce(letters.failed, 0) AS failed, coalesce(letters.unknown, 0) AS unknown,
           coalesce((SELECT sum(child.size) FROM outbox AS child WHERE child.parent_id = outbox.id), 0) AS moved,
           coalesce(ended.skipped, 0) AS skipped, coalesce(ended.cancelled, 0) AS cancelled
      FROM outbox
      LEFT JOIN letters USING (id)
      LEFT JOIN ended USING (id)
     WHERE outbox.campaign_id = :campaign_id
       AND outbox.state IN ('done', 'cancelled')
)
UPDATE outbox
   SET sent = counted.sent,
       refused = counted.refused,
       failed = counted.failed,
       unknown = counted.unknown,
       moved = counted.moved,
       skipped = counted.skipped,
       cancelled = counted.cancelled
  FROM counted
 WHERE outbox.id = counted.id
   AND outbox.size = counted.sent + counted.refused + counted.failed + counted.unknown + counted.moved + counted.skipped
                     + counted.cancelled
   AND (outbox.sent, outbox.refused, outbox.failed, outbox.unknown, outbox.moved, outbox.skipped, outbox.cancelled)
       <> (counted.sent, counted.refused, counted.failed, counted.unknown, counted.moved, counted.skipped,
           counted.cancelled)
