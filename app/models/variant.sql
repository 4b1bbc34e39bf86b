-- What the test's leads came to, and those of the rest, by content. A lead's first open or click is noted at its place in
-- the range that it was first put into; later ranges of the same leads count the outcomes.
-- name: tally
SELECT outbox.variant, outbox.rest,
       coalesce(sum(outbox.size - outbox.moved), 0) AS leads,
       coalesce(sum(outbox.sent), 0) AS sent,
       coalesce(sum(outbox.size - outbox.sent - outbox.refused - outbox.failed - outbox.skipped - outbox.cancelled
                    - outbox.unknown - outbox.moved), 0) AS open,
       coalesce(sum(bit_count(first_touch.opened_by_people)), 0) AS opened,
       coalesce(sum(bit_count(first_touch.clicked_by_people)), 0) AS clicked
  FROM outbox
  LEFT JOIN first_touch
    ON first_touch.range_id = outbox.id
 WHERE outbox.campaign_id = :campaign_id
 GROUP BY outbox.variant, outbox.rest
 ORDER BY outbox.variant, outbox.rest

-- The wait begins with the last email of the test. What its provider put off does not hold it up, for that may take a
-- day; nor what waits for a person. Two looks at the ranges, for each state has an index of its own.
-- name: note_sent
UPDATE variant_test
   SET decide_at = wait + coalesce(
           (
               SELECT max(handoff.handed_at)
                 FROM outbox
                 JOIN handoff
                   ON handoff.range_id = outbox.id
                WHERE outbox.campaign_id = variant_test.campaign_id
           ),
           now()
       )
  FROM campaign
 WHERE campaign.id = variant_test.campaign_id
   AND campaign.state = 'sending'
   AND variant_test.winner IS NULL
   AND variant_test.share < 100
   AND variant_test.decide_at IS NULL
   AND EXISTS (
           SELECT FROM outbox
            WHERE outbox.campaign_id = campaign.id
              AND outbox.state = 'ready'
              AND outbox.due_at = 'infinity'
              AND outbox.variant = -1
       )
   AND NOT EXISTS (
           SELECT FROM outbox
            WHERE outbox.campaign_id = campaign.id
              AND outbox.state = 'ready'
              AND outbox.due_at < 'infinity'
              AND outbox.deferred_since IS NULL
       )
   AND NOT EXISTS (
           SELECT FROM outbox
            WHERE outbox.campaign_id = campaign.id
              AND outbox.state = 'leased'
              AND outbox.deferred_since IS NULL
       )

-- A paused campaign stands still, and nothing is chosen for it either: it is when somebody resumes it.
-- name: find_due
SELECT variant_test.campaign_id
  FROM variant_test
  JOIN campaign
    ON campaign.id = variant_test.campaign_id
 WHERE variant_test.winner IS NULL
   AND variant_test.share < 100
   AND variant_test.decide_at <= now()
   AND campaign.state = 'sending'
 ORDER BY variant_test.decide_at

-- The campaign's row is locked: of two that choose at once, the second finds a winner.
-- name: note_winner
UPDATE variant_test
   SET winner = :winner,
       chosen_at = now(),
       by_hand = :by_hand,
       chosen_by = :chosen_by,
       figures = :figures
 WHERE campaign_id = :campaign_id
   AND winner IS NULL
   AND (:by_hand OR decide_at <= now())
RETURNING campaign_id

-- When they are due, their campaign's schedule says.
-- name: give_rest
UPDATE outbox
   SET variant = :winner,
       rest = true
 WHERE campaign_id = :campaign_id
   AND state = 'ready'
   AND due_at = 'infinity'
   AND variant = -1

-- name: find_test
SELECT variant_test.campaign_id, variant_test.share, variant_test.wait, variant_test.goal, variant_test.decide_at,
       variant_test.winner, variant_test.chosen_at, variant_test.by_hand, "user".name AS chosen_by,
       variant_test.figures,
       (SELECT count(*) FROM content WHERE content.campaign_id = variant_test.campaign_id) AS variants
  FROM variant_test
  LEFT JOIN "user"
    ON "user".id = variant_test.chosen_by
 WHERE variant_test.campaign_id = :campaign_id

-- name: find_subjects
SELECT content.variant, coalesce(nullif(content.subject, ''), first.subject) AS subject, content.html <> '' AS own
  FROM content
  JOIN content AS first
    ON first.campaign_id = content.campaign_id
   AND first.variant = 0
 WHERE content.campaign_id = :campaign_id
 ORDER BY content.variant
