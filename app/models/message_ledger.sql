-- The ledger of streams, range by range: a first range and all that was put off from it are a family, whose counts, calls
-- and record must say the same. When they have said so they may go, and with them, a day at a time, the messages.

-- Families of which nothing is open, the oldest first.
-- name: find_over
WITH RECURSIVE first AS MATERIALIZED (
    SELECT id, campaign_id, due_at, size, first_lead, last_lead
      FROM outbox
     WHERE message
       AND parent_id IS NULL
       AND agreed_at IS NULL
       AND state = 'done'
       AND due_at < now() - make_interval(secs => :age)
     ORDER BY due_at
     LIMIT :limit
), family AS (
    SELECT id AS first_id, id, 0 AS depth
      FROM first
     UNION ALL
    SELECT family.first_id, outbox.id, family.depth + 1
      FROM family
      JOIN outbox
        ON outbox.parent_id = family.id
), summed AS (
    SELECT family.first_id, sum(outbox.sent) AS sent, sum(outbox.refused) AS refused, sum(outbox.failed) AS failed,
           sum(outbox.skipped) AS skipped, sum(outbox.cancelled) AS cancelled, sum(outbox.unknown) AS unknown
      FROM family
      JOIN outbox
        ON outbox.id = family.id
     GROUP BY family.first_id
    HAVING bool_and(outbox.state IN ('done', 'cancelled'))
)
SELECT first.id AS range_id, first.campaign_id, first.due_at, first.size, first.first_lead, first.last_lead,
       summed.sent, summed.refused, summed.failed, summed.skipped, summed.cancelled, summed.unknown
  FROM first
  JOIN summed
    ON summed.first_id = first.id
 ORDER BY first.campaign_id, first.due_at

-- What the record says of first ranges of one stream, by kind. Planned anew each time: `since` leaves out the chunks
-- before, and the ends of the ids lead to the few blocks that hold what was sent.
-- name: sum_record
WITH asked AS MATERIALIZED (
    SELECT id AS range_id, unnest(lead_ids) AS lead_id
      FROM outbox
     WHERE id = ANY(CAST(:range_ids AS bigint[]))
), told AS (
    SELECT lead_id, kind, weight
      FROM event
     WHERE campaign_id = :campaign_id
       AND lead_id >= :first
       AND lead_id <= :last
       AND kind = 'sent'
       AND time >= :since
     UNION ALL
    SELECT lead_id, kind, weight
      FROM event
     WHERE campaign_id = :campaign_id
       AND lead_id >= :first
       AND lead_id <= :last
       AND kind <> 'sent'
       AND kind IN ('refused', 'failed', 'skipped', 'cancelled', 'unknown')
       AND time >= :since
)
SELECT asked.range_id, told.kind, sum(told.weight)
  FROM asked
  JOIN told
    ON told.lead_id = asked.lead_id
 GROUP BY asked.range_id, told.kind

-- Message by message: what hand-offs say, and what the record says, where the two do not say the same; and who is still to
-- be served. One statement sees all three as of one moment: the family may have been opened again since it was found.
-- name: find_differences
WITH RECURSIVE family AS (
    SELECT id, state, position, lead_ids
      FROM outbox
     WHERE id = :range_id
     UNION ALL
    SELECT outbox.id, outbox.state, outbox.position, outbox.lead_ids
      FROM family
      JOIN outbox
        ON outbox.parent_id = family.id
), asked AS (
    SELECT unnest(lead_ids) AS lead_id
      FROM outbox
     WHERE id = :range_id
), waiting AS (
    SELECT unnest(lead_ids[position + 1 :]) AS lead_id
      FROM family
     WHERE state IN ('ready', 'leased', 'quarantined')
     UNION ALL
    SELECT unnest(handoff.lead_ids)
      FROM family
      JOIN handoff
        ON handoff.range_id = family.id
     WHERE handoff.state = 'handed'
), open AS (
    SELECT lead_id, count(*) AS places
      FROM waiting
     GROUP BY lead_id
), said AS (
    SELECT each.lead_id, string_agg(each.letter, '' ORDER BY handoff.id) AS letters,
           array_agg(handoff.id ORDER BY handoff.id) AS handoff_ids
      FROM family
      JOIN handoff
        ON handoff.range_id = family.id
     CROSS JOIN LATERAL unnest(handoff.lead_ids, string_to_array(handoff.outcomes, NULL)) AS each (lead_id, letter)
     WHERE each.letter IN ('s', 'r', 'f', 'l', 'u')
     GROUP BY each.lead_id
), summed AS (
    SELECT lead_id, kind, sum(weight) AS weight
      FROM event
     WHERE campaign_id = :campaign_id
       AND lead_id >= :first
       AND lead_id <= :last
       AND kind IN ('sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown')
       AND time >= :since
     GROUP BY lead_id, kind
    HAVING sum(weight) <> 0
), recorded AS (
    SELECT lead_id, jsonb_object_agg(kind, weight) AS kinds
      FROM summed
     GROUP BY lead_id
), compared AS (
    SELECT asked.lead_id, coalesce(said.letters, '') AS letters, coalesce(said.handoff_ids, '{}') AS handoff_ids,
           coalesce(recorded.kinds, '{}') AS kinds, coalesce(open.places, 0) AS open
      FROM asked
      LEFT JOIN open USING (lead_id)
      LEFT JOIN said USING (lead_id)
      LEFT JOIN recorded USING (lead_id)
)
SELECT lead_id, letters, handoff_ids, kinds, open
  FROM compared
 WHERE open > 0
    OR NOT CASE letters
           WHEN '' THEN kinds IN ('{"skipped": 1}', '{"cancelled": 1}')
           WHEN 's' THEN kinds = '{"sent": 1}'
           WHEN 'r' THEN kinds = '{"refused": 1}'
           WHEN 'f' THEN kinds = '{"failed": 1}'
           WHEN 'l' THEN kinds = '{"failed": 1}'
           WHEN 'u' THEN kinds = '{"unknown": 1}'
           ELSE false
       END
 ORDER BY lead_id

-- name: note_agreed
UPDATE outbox
   SET agreed_at = now()
 WHERE id = ANY(CAST(:range_ids AS bigint[]))

-- name: find_retention
SELECT days, key_days
  FROM message_retention

-- name: keep_for
UPDATE message_retention
   SET days = :days

-- Families that agreed so long ago, with their calls and with who opened and clicked. The sums of the reports stay. One of
-- which something was sent again since then is kept until that is over.
-- name: drop_families
WITH RECURSIVE first AS (
    SELECT id
      FROM outbox
     WHERE agreed_at < now() - make_interval(days => :days)
     ORDER BY agreed_at
     LIMIT :limit
       FOR UPDATE SKIP LOCKED
), kin AS (
    SELECT id AS first_id, id, 'done' AS state
      FROM first
     UNION ALL
    SELECT kin.first_id, outbox.id, outbox.state
      FROM kin
      JOIN outbox
        ON outbox.parent_id = kin.id
), over AS (
    SELECT first_id
      FROM kin
     GROUP BY first_id
    HAVING bool_and(state IN ('done', 'cancelled'))
), family AS (
    SELECT kin.id
      FROM kin
      JOIN over USING (first_id)
), calls AS (
    DELETE FROM handoff
     WHERE range_id IN (SELECT id FROM family)
), touches AS (
    DELETE FROM first_touch
     WHERE range_id IN (SELECT id FROM family)
), gone AS (
    DELETE FROM outbox
     WHERE id IN (SELECT id FROM family)
    RETURNING id
)
SELECT count(*)
  FROM gone

-- Below which no message is waited for, or on its way: none of a day whose last one is not over is dropped. What waits is of
-- interest where it was due when those were that may go: other shelves (`last`, a constant) are not looked at.
-- name: find_oldest
SELECT least(
           (SELECT min(first_lead) FROM outbox WHERE message AND agreed_at IS NULL),
           (SELECT first_id FROM message_due WHERE shelf <= :last ORDER BY due_at LIMIT 1)
       )

-- name: find_shelves
SELECT range_start_integer
  FROM timescaledb_information.chunks
 WHERE hypertable_schema = current_schema()
   AND hypertable_name = 'message_due'
   AND range_start_integer <= :last
 ORDER BY range_start_integer

-- Planned anew each time, with the shelf as a constant: one chunk is opened.
-- name: holds_any
SELECT EXISTS (SELECT FROM message_due WHERE shelf = :shelf)

-- Who waits for a lock keeps everybody waiting who comes after.
-- name: wait_little
SET LOCAL lock_timeout = '500ms'

-- As whoever drops a chunk does, but from the start: two that each hold what the other wants cannot come about.
-- name: lock_shelves
LOCK TABLE ONLY message_due IN ACCESS EXCLUSIVE MODE

-- name: drop_shelf
SELECT count(*)
  FROM drop_chunks('message_due', newer_than => CAST(:shelf AS integer), older_than => CAST(:shelf AS integer) + 1)
       AS dropped

-- name: drop_messages
SELECT count(*)
  FROM drop_chunks('message', older_than => CAST(:below AS bigint)) AS dropped

-- name: drop_keys
DELETE FROM message_key
 WHERE ctid = ANY(ARRAY(
           SELECT ctid
             FROM message_key
            WHERE created_at < now() - make_interval(days => :days)
            LIMIT :limit
              FOR UPDATE SKIP LOCKED
       ))
