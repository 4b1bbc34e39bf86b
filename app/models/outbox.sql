-- The oldest due range of one campaign. The partial index holds waiting ranges only and gives them in order of due time.
-- Leads that wait for a receiver are passed over while its limit is used up, and taken no more at a time than may go at once.
-- As JSON the ids are read faster than as an array.
-- What it returns stands in the order of `Lease`.
-- name: claim
WITH next AS (
    SELECT id
      FROM outbox
     WHERE campaign_id = :campaign_id
       AND state = 'ready'
       AND due_at <= now()
       AND (closes_at IS NULL OR closes_at > now())
       AND coalesce(waits_for, '') <> ALL (CAST(:not_for AS text[]))
       AND (waits_for IS NULL
            OR NOT EXISTS (
                   SELECT FROM pool_pace
                    WHERE pool_pace.pool_id = :pool_id
                      AND pool_pace.receiver = outbox.waits_for
                      AND pool_pace.paced_until > now()
               ))
     ORDER BY due_at, id
     LIMIT 1
       FOR UPDATE SKIP LOCKED
)
UPDATE outbox
   SET state = 'leased',
       owner = :owner,
       fence = outbox.fence + 1,
       lease_until = now() + make_interval(secs => :lease)
  FROM next
 WHERE outbox.id = next.id
RETURNING outbox.id, outbox.campaign_id, outbox.run, outbox.fence, outbox.attempts,
          coalesce(extract(epoch FROM now() - outbox.deferred_since), 0)::float8 AS put_off_for,
          outbox.position,
          array_to_json(outbox.lead_ids[
              outbox.position + 1 : least(
                  outbox.position + CAST(:most AS bigint),
                  outbox.size,
                  CASE
                      WHEN outbox.waits_for IS NOT NULL THEN outbox.position + (
                          SELECT burst
                            FROM pool_pace
                           WHERE pool_pace.pool_id = :pool_id
                             AND pool_pace.receiver = outbox.waits_for
                             AND pool_pace.per_second IS NOT NULL
                      )
                  END
              )
          ]) AS lead_ids,
          outbox.waits_for, outbox.variant

-- A page comes as six values: as a row for each lead it took longer to be read than to be found. A lead may be suppressed
-- for everybody and for this sender at once: a join would give it twice. The + 0 keeps the senders out of the search of the
-- index: they would be sorted anew for each lead.
-- name: load_page
SELECT string_agg(page.email, chr(10)) AS emails,
       string_agg(CAST(page.domain_id AS text), ',') AS domain_ids,
       array_agg(page.time_zone) AS time_zones,
       string_agg(page.attributes, ',') AS attributes,
       string_agg(page.skip, ',') AS skips,
       string_agg(CASE WHEN page.untracked THEN 'u' ELSE '-' END, '') AS untracked
  FROM (
           SELECT coalesce(lead.email, '') AS email,
                  coalesce(lead.domain_id, 0) AS domain_id,
                  lead.time_zone,
                  coalesce(CAST(lead.attributes AS text), '{}') AS attributes,
                  CASE
                      WHEN lead.id IS NULL THEN 'erased'
                      WHEN lead.status <> 'active' THEN lead.status
                      WHEN EXISTS (
                               SELECT
                                 FROM suppression
                                WHERE suppression.organisation_id = lead.organisation_id
                                  AND suppression.email = lead.email
                                  AND suppression.sender_id + 0 IN (
                                      0, (SELECT sender_id FROM campaign WHERE id = :campaign_id)
                                  )
                           )
                      THEN 'suppressed'
                      ELSE ''
                  END AS skip,
                  coalesce(lead.untracked, false) AS untracked
             FROM unnest(CAST(:lead_ids AS bigint[])) WITH ORDINALITY AS asked (id, place)
             LEFT JOIN lead
               ON lead.id = asked.id
              AND lead.organisation_id = :organisation_id
            ORDER BY asked.place
       ) AS page

-- Written before the call is made: from here on the page's leads stand in hand-offs. A paused or cancelled campaign gets
-- its range back instead, untouched. A lease that ran out hands nothing over, though nobody has taken the range yet: the page
-- was read long ago, and who was suppressed since would be mailed.
-- name: hand_over
UPDATE outbox
   SET lease_until = CASE WHEN campaign.state = 'sending' THEN now() + make_interval(secs => :lease) END,
       state = CASE WHEN campaign.state = 'sending' THEN 'leased' ELSE 'ready' END,
       owner = CASE WHEN campaign.state = 'sending' THEN outbox.owner END,
       position = CASE WHEN campaign.state = 'sending' THEN outbox.position + :leads ELSE outbox.position END,
       skipped = outbox.skipped + CASE WHEN campaign.state = 'sending' THEN :skipped ELSE 0 END
  FROM campaign
 WHERE outbox.id = :range_id
   AND outbox.fence = :fence
   AND outbox.state = 'leased'
   AND outbox.lease_until > now()
   AND outbox.position = :position
   AND campaign.id = outbox.campaign_id
RETURNING campaign.state = 'sending' AS sends

-- name: is_handed_over
SELECT position > :position
  FROM outbox
 WHERE id = :range_id
   AND fence = :fence
   AND state = 'leased'

-- name: put_back
UPDATE outbox
   SET state = 'ready',
       owner = NULL,
       lease_until = NULL,
       due_at = now() + make_interval(secs => :seconds)
 WHERE id = :range_id
   AND fence = :fence
   AND state = 'leased'
   AND position = :position

-- Its turn comes when its limit allows it: it keeps its place in the queue.
-- name: let_wait
UPDATE outbox
   SET state = 'ready',
       owner = NULL,
       lease_until = NULL
 WHERE id = :range_id
   AND fence = :fence
   AND state = 'leased'
   AND position = :position

-- What was not handed over of it.
-- name: rest
SELECT lead_ids[position + 1 :]
  FROM outbox
 WHERE id = :range_id
   AND fence = :fence
   AND state = 'leased'
   AND lease_until > now()
   AND position = :position
   FOR NO KEY UPDATE

-- All of the rest of it is put into later ranges.
-- name: move_rest
UPDATE outbox
   SET state = 'done',
       owner = NULL,
       lease_until = NULL,
       moved = moved + size - position,
       position = size
 WHERE id = :range_id
   AND fence = :fence
   AND state = 'leased'
   AND position = :position

-- Nothing of the page left us: it stands as before it was handed over, and is due later.
-- name: take_back
UPDATE outbox
   SET state = 'ready',
       owner = NULL,
       lease_until = NULL,
       position = :position,
       due_at = greatest(due_at, now() + make_interval(secs => :seconds))
 WHERE id = :range_id
   AND fence = :fence
   AND state = 'leased'
RETURNING id

-- A page that was the whole rest of its range ends it; the page of a probe leaves the rest waiting. The next page is
-- another: who died on this one, or waited for a database that was away, is not held against it.
-- name: settle
UPDATE outbox
   SET state = CASE WHEN position = size THEN 'done' ELSE 'ready' END,
       owner = NULL,
       lease_until = NULL,
       crashes = 0,
       sent = sent + :sent,
       refused = refused + :refused,
       failed = failed + :failed,
       skipped = skipped + :skipped,
       cancelled = cancelled + :cancelled,
       unknown = unknown + :unknown,
       moved = moved + :moved
 WHERE id = :range_id
   AND fence = :fence
   AND state = 'leased'
RETURNING id

-- What stood as unknown, or as failed, is counted as what it turned out to be. The counts may be negative.
-- name: recount
UPDATE outbox
   SET sent = sent + :sent,
       refused = refused + :refused,
       failed = failed + :failed,
       skipped = skipped + :skipped,
       cancelled = cancelled + :cancelled,
       unknown = unknown + :unknown,
       moved = moved + :moved
 WHERE id = :range_id

-- Before the hand-offs of a range are changed, in every flow: otherwise two that change the same could wait for each other.
-- name: lock
SELECT id
  FROM outbox
 WHERE id = ANY(CAST(:range_ids AS bigint[]))
 ORDER BY id
   FOR NO KEY UPDATE

-- name: lock_all
SELECT state
  FROM outbox
 WHERE campaign_id = :campaign_id
 ORDER BY id
   FOR UPDATE

-- name: put_off
INSERT INTO outbox (
    campaign_id, parent_id, part, closes_at, run, attempts, due_at, size, first_lead, last_lead, lead_ids,
    deferred_since, resent, waits_for, variant, rest, message
)
SELECT campaign_id, id, part, closes_at, run + :later_run, :attempts, now() + make_interval(secs => :seconds),
       cardinality(CAST(:lead_ids AS bigint[])),
       (SELECT min(lead_id) FROM unnest(CAST(:lead_ids AS bigint[])) AS lead_id),
       (SELECT max(lead_id) FROM unnest(CAST(:lead_ids AS bigint[])) AS lead_id),
       CAST(:lead_ids AS bigint[]),
       CASE
           WHEN :deferred THEN coalesce(deferred_since, now())
           WHEN NOT :resent AND :later_run = 0 THEN deferred_since
       END,
       :resent OR (resent AND :later_run = 0),
       coalesce(CAST(:waits_for AS text), waits_for),
       variant, rest, message
  FROM outbox
 WHERE id = :parent_id

-- A range that was put off, or sent again, counts its leads as its own size, and its parent counts them as moved.
-- name: progress
SELECT coalesce(sum(size - moved), 0),
       coalesce(sum(sent), 0),
       coalesce(sum(refused), 0),
       coalesce(sum(failed), 0),
       coalesce(sum(skipped), 0),
       coalesce(sum(cancelled), 0),
       coalesce(sum(unknown), 0),
       coalesce(sum(size - sent - refused - failed - skipped - cancelled - unknown - moved), 0)
  FROM outbox
 WHERE campaign_id = :campaign_id

-- name: has_open
SELECT EXISTS (SELECT FROM outbox WHERE campaign_id = :campaign_id AND state = 'ready')
    OR EXISTS (SELECT FROM outbox WHERE campaign_id = :campaign_id AND state = 'leased')

-- name: expired
SELECT id
  FROM outbox
 WHERE state = 'leased'
   AND lease_until < now()
 ORDER BY lease_until
 LIMIT 1000

-- name: lock_expired
SELECT id
  FROM outbox
 WHERE id = :range_id
   AND state = 'leased'
   AND lease_until < now()
   FOR UPDATE SKIP LOCKED

-- What was handed over and never settled is unknown now; what was not goes on as if nothing had happened, a little later
-- each time: a range that kills its worker must not kill them all within a minute.
-- name: rescue
UPDATE outbox
   SET state = CASE
                   WHEN position = size THEN 'done'
                   WHEN crashes + 1 >= :most_crashes THEN 'quarantined'
                   ELSE 'ready'
               END,
       owner = NULL,
       lease_until = NULL,
       fence = fence + 1,
       crashes = crashes + 1,
       due_at = CASE WHEN position = size THEN due_at ELSE now() + make_interval(secs => 2 * crashes * crashes) END,
       sent = sent + :sent,
       refused = refused + :refused,
       unknown = unknown + :unknown
 WHERE id = :range_id
   AND state = 'leased'
   AND lease_until < now()
RETURNING state

-- These events go into the record by a statement of their own, and so do their news (app/models/news.py).
-- name: cancel_open
WITH closing AS (
    SELECT id, campaign_id, run, variant, position, size, lead_ids
      FROM outbox
     WHERE campaign_id = :campaign_id
       AND state = 'ready'
     ORDER BY due_at, id
     LIMIT :ranges
       FOR UPDATE SKIP LOCKED
), closed AS (
    UPDATE outbox
       SET state = 'cancelled',
           cancelled = outbox.cancelled + outbox.size - outbox.position
      FROM closing
     WHERE outbox.id = closing.id
    RETURNING outbox.id
), appended AS (
    INSERT INTO event (time, lead_id, organisation_id, user_id, campaign_id, domain_id, kind, pool_id, variant, run)
    SELECT now(), gone.lead_id, campaign.organisation_id, campaign.owner_id, campaign.id,
           coalesce(lead.domain_id, 0), 'cancelled', sender.pool_id, closing.variant, closing.run
      FROM closing
      JOIN campaign
        ON campaign.id = closing.campaign_id
      JOIN sender
        ON sender.id = campaign.sender_id
     CROSS JOIN LATERAL unnest(closing.lead_ids[closing.position + 1 :]) AS gone (lead_id)
      LEFT JOIN lead
        ON lead.id = gone.lead_id
    RETURNING *
), told AS (
    INSERT INTO news (organisation_id, timed, lines)
    SELECT organisation_id, false,
           string_agg(
               concat_ws(chr(9), lead_id, domain_id, kind, weight, '\N', organisation_id, user_id, campaign_id, pool_id,
                   variant, run, link_id, machine, message) || chr(10),
               '')
      FROM appended
     WHERE EXISTS (
               SELECT
                 FROM endpoint
                WHERE endpoint.organisation_id = appended.organisation_id
                  AND 'cancelled' = ANY(endpoint.kinds)
           )
     GROUP BY organisation_id
)
SELECT (SELECT count(*) FROM closed) AS ranges,
       (SELECT count(*) FROM appended) AS leads

-- name: cut
WITH sliced AS (
    SELECT id, (row_number() OVER (ORDER BY id) - 1) / CAST(:size AS integer) AS slice
      FROM chosen
     WHERE reason IS NULL
), cut AS (
    INSERT INTO outbox (campaign_id, run, due_at, closes_at, size, first_lead, last_lead, lead_ids)
    SELECT :campaign_id, :run, coalesce(CAST(:due_at AS timestamptz), now()), CAST(:closes_at AS timestamptz),
           count(*), min(id), max(id), array_agg(id ORDER BY id)
      FROM sliced
     GROUP BY slice
     ORDER BY slice
    RETURNING size
)
SELECT coalesce(sum(size), 0)
  FROM cut

-- An audience in parts: of each place (leads that are due at the same time: by their zone) one for every variant that is
-- tested, and one for the rest, which waits for the winner. Which one a lead is in, a hash of it and its campaign decides.
-- name: cut_parts
WITH place AS (
    SELECT number - 1 AS place, coalesce(due_at, now()) AS due_at, closes_at, size
      FROM unnest(CAST(:due_at AS timestamptz[]), CAST(:closes_at AS timestamptz[]), CAST(:sizes AS integer[]))
      WITH ORDINALITY AS told (due_at, closes_at, size, number)
), zone AS (
    SELECT name, place
      FROM unnest(CAST(:zones AS text[]), CAST(:zone_places AS integer[])) AS told (name, place)
), parted AS (
    SELECT chosen.id,
           coalesce(zone.place, 0) * CAST(:slots AS integer)
           + CASE
                 WHEN :variants = 0 THEN 0
                 WHEN hash.number % 10000 >= CAST(:share AS integer) * 100 THEN :variants
                 ELSE hash.number / 10000 % greatest(:variants, 1)
             END AS part
      FROM chosen
     CROSS JOIN LATERAL (
               SELECT hashint8extended(chosen.id, CAST(:campaign_id AS bigint)) & 9223372036854775807 AS number
           ) AS hash
      LEFT JOIN zone
        ON zone.name = chosen.time_zone
     WHERE chosen.reason IS NULL
), numbered AS (
    SELECT id, part, row_number() OVER (PARTITION BY part ORDER BY id) - 1 AS number
      FROM parted
), sliced AS (
    SELECT numbered.id, numbered.part, numbered.number / place.size AS slice
      FROM numbered
      JOIN place
        ON place.place = numbered.part / CAST(:slots AS integer)
), made AS (
    SELECT part, slice, part % CAST(:slots AS integer) AS variant, array_agg(id ORDER BY id) AS lead_ids
      FROM sliced
     GROUP BY part, slice
), cut AS (
    INSERT INTO outbox (
        campaign_id, run, part, variant, due_at, closes_at, size, first_lead, last_lead, lead_ids
    )
    SELECT :campaign_id, :run, made.part,
           CASE WHEN made.variant = :variants AND :variants > 0 THEN -1 ELSE made.variant END,
           CASE WHEN made.variant = :variants AND :variants > 0 THEN 'infinity' ELSE place.due_at END,
           CASE WHEN made.variant = :variants AND :variants > 0 THEN NULL ELSE place.closes_at END,
           cardinality(made.lead_ids), made.lead_ids[1], made.lead_ids[cardinality(made.lead_ids)], made.lead_ids
      FROM made
      JOIN place
        ON place.place = made.part / CAST(:slots AS integer)
     ORDER BY made.slice, made.part
    RETURNING size
)
SELECT coalesce(sum(size), 0)
  FROM cut

-- name: campaign_of
SELECT campaign_id
  FROM outbox
 WHERE id = :range_id

-- name: domains
SELECT id, domain_id
  FROM lead
 WHERE id = ANY(CAST(:lead_ids AS bigint[]))

-- Ranges that waited for a person: their campaign was resumed or cancelled.
-- name: release
UPDATE outbox
   SET state = 'ready',
       due_at = now(),
       crashes = 0
 WHERE campaign_id = :campaign_id
   AND state = 'quarantined'

-- Not what has a time of its own: the first ranges of parts, parts that have not begun, and what waits for its window to
-- open. The window of what was put off within it is open still: that of the range that it was put off from.
-- name: hurry
UPDATE outbox
   SET due_at = now()
  FROM campaign
  JOIN sender
    ON sender.id = campaign.sender_id
 WHERE outbox.campaign_id = campaign.id
   AND outbox.state = 'ready'
   AND outbox.due_at > now()
   AND outbox.variant >= 0
   AND campaign.state IN ('sending', 'paused')
   AND (outbox.closes_at IS NULL
        OR EXISTS (
               SELECT FROM outbox AS parent
                WHERE parent.id = outbox.parent_id
                  AND parent.closes_at = outbox.closes_at
                  AND parent.closes_at > now()
                  AND parent.state <> 'ready'
           ))
   AND NOT EXISTS (
           SELECT FROM campaign_part
            WHERE campaign_part.campaign_id = outbox.campaign_id
              AND campaign_part.part = outbox.part
              AND (outbox.parent_id IS NULL OR campaign_part.begins_at > now())
       )
   AND :pool_id IN (sender.pool_id, sender.second_pool_id, sender.transactional_pool_id, sender.moved_to)
