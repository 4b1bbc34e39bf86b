-- Streams: campaigns of kind 'messages', one for each template and sender. Template 0: messages with content of their own.

-- All that there is to know before messages are accepted, in one trip instead of six: to a machine whose processors are
-- taken each trip is a wait of its own. The only sender is that of messages that name none; who has two has none.
-- name: look_up
WITH template AS MATERIALIZED (
    SELECT id, lower(name) AS name, sender_id, purpose = 'transactional' AS transactional
      FROM message_template
     WHERE organisation_id = :organisation_id
       AND deleted_at IS NULL
       AND lower(name) = ANY(CAST(:names AS text[]))
)
SELECT now() AS now,
       ARRAY(SELECT nextval('message_number') FROM generate_series(1, :count)) AS numbers,
       (SELECT json_agg(json_build_array(name, id, sender_id, transactional)) FROM template) AS templates,
       (
           SELECT json_agg(json_build_array(lower(address), id) ORDER BY id DESC)
             FROM sender
            WHERE organisation_id = :organisation_id
              AND lower(address) = ANY(CAST(:addresses AS text[]))
       ) AS senders,
       (
           SELECT CASE WHEN count(*) = 1 THEN min(id) END
             FROM (SELECT id FROM sender WHERE organisation_id = :organisation_id LIMIT 2) AS first_two
       ) AS only_sender,
       (
           SELECT json_agg(sender.id)
             FROM pool
             JOIN sender
               ON sender.pool_id = pool.id
            WHERE pool.organisation_id = :organisation_id
              AND pool.purpose = 'marketing'
              AND sender.transactional_pool_id IS NULL
       ) AS marketing_alone,
       (
           SELECT json_agg(json_build_array(template_id, sender_id, campaign_id))
             FROM stream
            WHERE organisation_id = :organisation_id
              AND (template_id = 0 OR template_id = ANY(ARRAY(SELECT id FROM template)))
       ) AS streams,
       (
           SELECT json_agg(json_build_array(name, id))
             FROM domain
            WHERE name = ANY(CAST(:domains AS text[]))
       ) AS domains

-- name: find
SELECT stream.template_id, stream.sender_id, stream.campaign_id
  FROM stream
  JOIN unnest(CAST(:template_ids AS integer[]), CAST(:sender_ids AS integer[])) AS wanted (template_id, sender_id)
    ON wanted.template_id = stream.template_id
   AND wanted.sender_id = stream.sender_id
 WHERE stream.organisation_id = :organisation_id

-- Of two that open the same one the second waits here, and then finds it.
-- name: lock
SELECT pg_advisory_xact_lock(7203214, :organisation_id)

-- Whoever changes the template meanwhile waits for the stream, and changes it too; who has begun to is waited for.
-- name: hold_template
SELECT id
  FROM message_template
 WHERE id = :template_id
   FOR SHARE

-- Its state, run and launch are those of a campaign that sends; what it says is its template's from here on.
-- name: open
WITH opened AS (
    INSERT INTO campaign (
        organisation_id, owner_id, sender_id, name, kind, purpose, state, run, launched_at, track_opens, track_clicks
    )
    SELECT :organisation_id, :owner_id, :sender_id, template.name, 'messages', template.purpose, 'sending', 1, now(),
           template.track_opens, template.track_clicks
      FROM (
               SELECT name, purpose, track_opens, track_clicks FROM message_template WHERE id = :template_id
                UNION ALL
               SELECT 'Messages with their own content', 'transactional', 'off', 'off' WHERE :template_id = 0
           ) AS template
    RETURNING id
), content AS (
    INSERT INTO content (campaign_id, version, subject, html, text, compiled)
    SELECT opened.id, template.version, template.subject, template.html, template.text, template.compiled
      FROM opened
     CROSS JOIN (
               SELECT version, subject, html, text, compiled FROM message_template WHERE id = :template_id
                UNION ALL
               SELECT 1, '', '', '', CAST(:own AS jsonb) WHERE :template_id = 0
           ) AS template
), link AS (
    INSERT INTO link (campaign_id, position, url, variants)
    SELECT opened.id, each.position, each.url, each.linked
      FROM opened
      JOIN message_template AS template
        ON template.id = :template_id
     CROSS JOIN LATERAL unnest(template.urls, template.linked) WITH ORDINALITY AS each (url, linked, position)
)
INSERT INTO stream (organisation_id, template_id, sender_id, campaign_id)
SELECT :organisation_id, :template_id, :sender_id, id
  FROM opened
RETURNING campaign_id

-- An organisation's streams as lists show them.
-- name: list_streams
SELECT campaign.id, campaign.name, campaign.purpose, sender.name AS sender, sender.address, campaign.launched_at,
       stream.template_id
  FROM stream
  JOIN campaign
    ON campaign.id = stream.campaign_id
  JOIN sender
    ON sender.id = stream.sender_id
 WHERE stream.organisation_id = :organisation_id
   AND (CAST(:campaign_id AS integer) IS NULL OR campaign.id = :campaign_id)
 ORDER BY lower(campaign.name), sender.name, campaign.id
 LIMIT :limit

-- Ranges that the third worker died on wait for a person.
-- name: count_quarantined
SELECT coalesce(sum(size - position), 0)
  FROM outbox
 WHERE campaign_id = :campaign_id
   AND state = 'quarantined'

-- name: exists
SELECT EXISTS (SELECT FROM stream WHERE organisation_id = :organisation_id AND campaign_id = :campaign_id)
