-- Messages: a store that is only added to (`message`), and what of it waits for its time (`message_due`).

-- The store and what waits, together or not at all. Each of so few is a slip of its own. Numbers are drawn here and not
-- before: every 32nd one is written to the log, and a transaction of its own would wait for the disk for that.
-- name: take_few
WITH new AS MATERIALIZED (
    SELECT minute | nextval('message_number') AS id, place, due_at, shelf, organisation_id, campaign_id, domain_id, email,
           data, metadata
      FROM unnest(
               CAST(:minutes AS bigint[]), CAST(:due_at AS timestamptz[]), CAST(:shelves AS integer[]),
               CAST(:organisation_ids AS integer[]), CAST(:campaign_ids AS integer[]),
               CAST(:domain_ids AS integer[]), CAST(:emails AS text[]), CAST(:data AS text[]),
               CAST(:metadata AS text[])
           ) WITH ORDINALITY
           AS each (
               minute, due_at, shelf, organisation_id, campaign_id, domain_id, email, data, metadata, place
           )
), stored AS (
    INSERT INTO message (id, due_at, organisation_id, campaign_id, domain_id, email, data, metadata)
    SELECT id, due_at, organisation_id, campaign_id, domain_id, email, CAST(data AS json), CAST(metadata AS json)
      FROM new
), waiting AS (
    INSERT INTO message_due (due_at, first_id, campaign_id, size, shelf)
    SELECT due_at, id, campaign_id, 1, shelf
      FROM new
)
SELECT id
  FROM new
 ORDER BY place

-- name: cut_now
INSERT INTO outbox (campaign_id, message, run, due_at, size, first_lead, last_lead, lead_ids)
SELECT campaign_id, true, 1, now(), cardinality(message_ids), message_ids[1], message_ids[cardinality(message_ids)],
       message_ids
  FROM (SELECT CAST(:campaign_id AS integer) AS campaign_id, CAST(:message_ids AS bigint[]) AS message_ids) AS given

-- What is due, by shelf: indexes alone are read. Planned anew each time, with the last shelf that may hold something due as a
-- constant: of the hundreds of chunks those few are opened that are not for later.
-- name: find_due
SELECT shelf, count(*) AS slips, sum(size) AS messages
  FROM message_due
 WHERE shelf <= :last
   AND due_at <= now()
 GROUP BY shelf
 ORDER BY shelf

-- What is due of a shelf becomes ranges, a stream's messages in order of ids, so that no two of one go overlap. Slips are
-- taken by what they are and not by how far somebody has come: one whose commit is late is taken at the next turn. What
-- somebody else cuts or takes out at that moment is passed over. Few are found by the index, many by reading the shelf: in
-- time's order 250,000 took 0.25 s more. A place (ctid) means something within a chunk alone: the shelf stands wherever one
-- does. What is read and what is deleted are the same rows, as one snapshot sees them at the same places: one that was
-- changed between the snapshot and its lock is in neither, and waits for the next turn. DELETE … RETURNING would be one
-- statement less, but for each row that it gives TimescaleDB 2.29 looks the chunk up in its catalogue: 4 µs, 1.4 s for
-- 340,000. Through a join on the places, instead of an array of them, deleting took 3 s. Messages that bring their own
-- content may be large: a page of them must fit into a worker, and into one value (1 GB).
-- name: cut
WITH locked AS MATERIALIZED (
    SELECT ARRAY(
               SELECT ctid
                 FROM message_due
                WHERE shelf = :shelf
                  AND due_at <= now()
                ORDER BY CASE WHEN :slips < 5000 THEN due_at END
                LIMIT :slips
                  FOR UPDATE SKIP LOCKED
           ) AS places
), gone AS (
    DELETE FROM message_due
     WHERE shelf = :shelf
       AND ctid = ANY(CAST((SELECT places FROM locked) AS tid[]))
), message AS (
    SELECT campaign_id, unnest(coalesce(message_ids, ARRAY[first_id])) AS id
      FROM message_due
     WHERE shelf = :shelf
       AND ctid = ANY(CAST((SELECT places FROM locked) AS tid[]))
), whole AS (
    SELECT message.campaign_id, array_agg(message.id ORDER BY message.id) AS ids
      FROM message
     GROUP BY message.campaign_id
), sliced AS (
    SELECT whole.campaign_id, whole.ids[part.first : part.first + part.size - 1] AS lead_ids
      FROM whole
      LEFT JOIN stream
        ON stream.campaign_id = whole.campaign_id
     CROSS JOIN LATERAL (
               SELECT CASE WHEN stream.template_id = 0 THEN CAST(:own_size AS integer) ELSE CAST(:size AS integer) END
           ) AS most (size)
     CROSS JOIN LATERAL (
               SELECT first, most.size
                 FROM generate_series(1, cardinality(whole.ids), most.size) AS first
           ) AS part
     ORDER BY whole.campaign_id, part.first
), cut AS (
    INSERT INTO outbox (campaign_id, message, run, due_at, size, first_lead, last_lead, lead_ids)
    SELECT campaign_id, true, 1, now(), cardinality(lead_ids), lead_ids[1], lead_ids[cardinality(lead_ids)], lead_ids
      FROM sliced
    RETURNING size
)
SELECT coalesce(sum(size), 0)
  FROM cut

-- name: is_ready
SELECT EXISTS (SELECT FROM outbox WHERE message AND state = 'ready' AND due_at <= now())

-- A page is a few values: as a row for each message it took three times as long to be read. Planned anew each time, with
-- the ends of the page as constants: the planner leaves out the chunks of all other days. The subquery keeps the ids from
-- it: it would weigh each by itself. Suppressions are looked up for each address, or read once where the organisation has
-- few: LIMIT and OFFSET leave the planner, whose statistics may be old, no third way. The + 0 keeps the senders out of the
-- search of the index: they would be sorted anew for each address. Who has unsubscribed still gets what they asked for
-- themselves; an address that is no good, or complained, gets nothing.
-- name: load_page
WITH suppressed AS NOT MATERIALIZED (
    SELECT email
      FROM suppression
     WHERE organisation_id = :organisation_id
       AND sender_id + 0 IN (0, CAST(:sender_id AS integer))
       AND (reason <> 'unsubscribed' OR NOT CAST(:transactional AS boolean))
)
SELECT string_agg(page.email, chr(10)) AS emails,
       string_agg(CAST(page.domain_id AS text), ',') AS domain_ids,
       string_agg(CAST(page.data AS text), ',') AS data,
       count(*) AS size,
       array_agg(page.id) FILTER (WHERE page.suppressed) AS suppressed
  FROM (
           SELECT message.id, message.email, message.domain_id, message.data,
                  CASE
                      WHEN NOT EXISTS (
                               SELECT
                                 FROM suppression
                                WHERE organisation_id = :organisation_id
                                ORDER BY email
                               OFFSET CAST(:few AS integer)
                           )
                      THEN message.email IN (SELECT email FROM suppressed ORDER BY email LIMIT CAST(:few AS integer))
                      ELSE EXISTS (SELECT FROM suppressed WHERE suppressed.email = message.email OFFSET 0)
                  END AS suppressed
             FROM message
            WHERE message.organisation_id = :organisation_id
              AND message.id >= :first
              AND message.id <= :last
              AND message.id = ANY(CAST((SELECT CAST(:message_ids AS bigint[])) AS bigint[]))
            ORDER BY message.id
       ) AS page

-- name: find
SELECT message.id, message.email, message.created_at, message.due_at, message.campaign_id, message.metadata,
       template.name AS template, sender.address AS sender
  FROM message
  JOIN stream
    ON stream.campaign_id = message.campaign_id
  LEFT JOIN message_template AS template
    ON template.id = stream.template_id
  JOIN sender
    ON sender.id = stream.sender_id
 WHERE message.organisation_id = :organisation_id
   AND message.id = :message_id

-- From the latest due on, a day's chunk after the other.
-- name: find_page
SELECT message.id, message.email, message.created_at, message.due_at, message.campaign_id, message.metadata,
       template.name AS template, sender.address AS sender
  FROM message
  JOIN stream
    ON stream.campaign_id = message.campaign_id
  LEFT JOIN message_template AS template
    ON template.id = stream.template_id
  JOIN sender
    ON sender.id = stream.sender_id
 WHERE message.organisation_id = :organisation_id
   AND message.id < :before
   AND (CAST(:campaign_ids AS integer[]) IS NULL OR message.campaign_id = ANY(CAST(:campaign_ids AS integer[])))
 ORDER BY message.id DESC
 LIMIT :limit

-- Shelves as constants, here and below: the planner opens their chunks alone.
-- name: find_waiting
SELECT asked.message_id
  FROM unnest(CAST(:message_ids AS bigint[]), CAST(:campaign_ids AS integer[]), CAST(:due_at AS timestamptz[]))
       AS asked (message_id, campaign_id, due_at)
 WHERE EXISTS (
           SELECT
             FROM message_due
            WHERE message_due.shelf = ANY(CAST(:shelves AS integer[]))
              AND message_due.due_at = asked.due_at
              AND message_due.campaign_id = asked.campaign_id
              AND message_due.first_id <= asked.message_id
              AND asked.message_id = ANY(coalesce(message_due.message_ids, ARRAY[message_due.first_id]))
       )

-- It leaves its slip; one that is being cut into ranges, or left by another, is waited for, and looked at as it is then.
-- Slips only ever shrink, so whoever finds one too short for this finds it with the next statement.
-- name: leave_slip
UPDATE message_due
   SET message_ids = array_remove(message_ids, :message_id),
       size = size - 1
 WHERE shelf = ANY(CAST(:shelves AS integer[]))
   AND due_at = :due_at
   AND campaign_id = :campaign_id
   AND first_id <= :message_id
   AND :message_id = ANY(message_ids)
   AND size > 1
RETURNING size

-- name: end_slip
DELETE FROM message_due
 WHERE shelf = ANY(CAST(:shelves AS integer[]))
   AND due_at = :due_at
   AND campaign_id = :campaign_id
   AND first_id <= :message_id
   AND :message_id = ANY(coalesce(message_ids, ARRAY[first_id]))
   AND size = 1
RETURNING size

-- Where a message stands that was cut: of its first range and all that was put off from it, the one that still has it to
-- hand over. The first range is found as by find_places, below.
-- name: find_range
WITH RECURSIVE family AS (
    (
        SELECT id, position, lead_ids
          FROM outbox
         WHERE campaign_id = :campaign_id
           AND part = 0
           AND first_lead <= :message_id
           AND first_lead >= :message_id - (10080::bigint << 34)
           AND last_lead >= :message_id
           AND parent_id IS NULL
           AND :message_id = ANY(lead_ids)
         ORDER BY first_lead DESC
         LIMIT 1
    )
     UNION ALL
    SELECT outbox.id, outbox.position, outbox.lead_ids
      FROM family
      JOIN outbox
        ON outbox.parent_id = family.id
       AND :message_id = ANY(outbox.lead_ids)
)
SELECT max(id)
  FROM family
 WHERE :message_id = ANY(lead_ids[position + 1 :])

-- It is put before those that are still to be handed over, and passed by: whoever was handed over keeps their place, and
-- the others their order. Who claims the range locks it first, and this is looked at again as it is then: what somebody has
-- in hand may have been read already. Nor one that is sent again though its first call may have taken it.
-- name: leave_range
UPDATE outbox
   SET lead_ids = lead_ids[: position]
                  || CAST(:message_id AS bigint)
                  || array_remove(lead_ids[position + 1 :], CAST(:message_id AS bigint)),
       position = position + 1,
       cancelled = cancelled + 1,
       state = CASE WHEN position + 1 = size THEN 'done' ELSE state END
 WHERE id = :range_id
   AND state IN ('ready', 'quarantined')
   AND NOT resent
   AND :message_id = ANY(lead_ids[position + 1 :])
RETURNING run, state = 'done' AND crashes > 0 AS ends_crashed

-- Emails that were simply sent are found by a summary of blocks, all else by an index: two questions, since no one index
-- has both. `since` is a constant, so that no chunk is opened of the time before.
-- name: find_events
SELECT event.lead_id AS message_id, event.time, event.kind, event.machine, event.weight, link.url,
       event.detail ->> 'reason' AS reason
  FROM (
           SELECT lead_id, time, kind, machine, weight, detail, link_id
             FROM event
            WHERE campaign_id = ANY(CAST(:campaign_ids AS integer[]))
              AND lead_id = ANY(CAST(:message_ids AS bigint[]))
              AND kind <> 'sent'
              AND time >= :since
            UNION ALL
           SELECT lead_id, time, kind, machine, weight, detail, link_id
             FROM event
            WHERE campaign_id = ANY(CAST(:campaign_ids AS integer[]))
              AND lead_id = ANY(CAST(:message_ids AS bigint[]))
              AND kind = 'sent'
              AND time >= :since
       ) AS event
  LEFT JOIN link
    ON link.id = event.link_id
 ORDER BY event.lead_id, event.time, event.kind

-- What an event of a message that never left has in common with those of others.
-- name: find_source
SELECT campaign.organisation_id, campaign.owner_id, sender.pool_id, message.domain_id
  FROM message
  JOIN campaign
    ON campaign.id = message.campaign_id
  JOIN sender
    ON sender.id = campaign.sender_id
 WHERE message.organisation_id = :organisation_id
   AND message.id = :message_id

-- Sorted, so that of two that bring the same keys one waits for the other instead of each for each.
-- name: add_keys
INSERT INTO message_key (organisation_id, key, digest, message_id)
SELECT :organisation_id, given.key, given.digest, given.message_id
  FROM unnest(CAST(:keys AS uuid[]), CAST(:digests AS uuid[]), CAST(:message_ids AS bigint[]))
       AS given (key, digest, message_id)
 ORDER BY given.key
    ON CONFLICT DO NOTHING

-- name: find_keys
SELECT key, digest, message_id
  FROM message_key
 WHERE organisation_id = :organisation_id
   AND key = ANY(CAST(:keys AS uuid[]))

-- Who messages go to. The organisation comes first in the key, and its streams say which one it is.
-- name: find_facts
SELECT message.id, message.organisation_id, message.email, message.domain_id
  FROM message
 WHERE message.organisation_id = ANY(ARRAY(
           SELECT organisation_id FROM campaign WHERE id = ANY(CAST(:campaign_ids AS integer[]))
       ))
   AND message.id >= :first
   AND message.id <= :last
   AND message.id = ANY(CAST(:message_ids AS bigint[]))

-- The range that a message was cut into, and its place there, from 0. Ranges of a stream hardly overlap, for ids hold the
-- minute: the nearest that begins before is nearly always the one. A message is looked for among those that begin up to
-- a week before it: as long a standstill may one range hold.
-- name: find_places
SELECT asked.campaign_id, asked.message_id, range.id AS range_id, range.size,
       array_position(range.lead_ids, asked.message_id) - 1 AS place
  FROM unnest(CAST(:campaign_ids AS integer[]), CAST(:message_ids AS bigint[])) AS asked (campaign_id, message_id)
 CROSS JOIN LATERAL (
           SELECT id, size, lead_ids
             FROM outbox
            WHERE outbox.campaign_id = asked.campaign_id
              AND outbox.part = 0
              AND outbox.first_lead <= asked.message_id
              AND outbox.first_lead >= asked.message_id - (10080::bigint << 34)
              AND outbox.last_lead >= asked.message_id
              AND outbox.parent_id IS NULL
              AND asked.message_id = ANY(outbox.lead_ids)
            ORDER BY outbox.first_lead DESC
            LIMIT 1
       ) AS range

-- Those whose address is that of a lead who asked not to be tracked.
-- name: find_untracked
SELECT message.id
  FROM message
  JOIN lead
    ON lead.organisation_id = message.organisation_id
   AND lead.email = message.email
   AND lead.untracked
 WHERE message.organisation_id = ANY(ARRAY(
           SELECT organisation_id FROM campaign WHERE id = ANY(CAST(:campaign_ids AS integer[]))
       ))
   AND message.id >= :first
   AND message.id <= :last
   AND message.id = ANY(CAST(:message_ids AS bigint[]))

-- Who stands for a message's address where it is judged: the lead who has it, or a number below zero that it alone gives.
-- name: find_stand_ins
SELECT message.id, message.email,
       coalesce(lead.id, -1 - (hashtextextended(message.email, message.organisation_id) & 4611686018427387903))
           AS stand_in
  FROM message
  LEFT JOIN lead
    ON lead.organisation_id = message.organisation_id
   AND lead.email = message.email
 WHERE message.organisation_id = :organisation_id
   AND message.id >= :first
   AND message.id <= :last
   AND message.id = ANY(CAST(:message_ids AS bigint[]))
