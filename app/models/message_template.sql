-- Templates of messages, and the streams that say what they say.

-- name: list_templates
SELECT template.id, template.name, template.purpose, template.version, template.subject, template.updated_at,
       sender.name AS sender
  FROM message_template AS template
  LEFT JOIN sender
    ON sender.id = template.sender_id
 WHERE template.organisation_id = :organisation_id
   AND template.deleted_at IS NULL
 ORDER BY lower(template.name)

-- name: keep_version
INSERT INTO message_template_version (template_id, version, subject, html, text, saved_by)
SELECT id, version, subject, html, text, :user_id
  FROM message_template
 WHERE id = :template_id

-- name: list_versions
SELECT version, message_template_version.subject, message_template_version.html, message_template_version.text,
       saved_at, "user".name AS saved_by
  FROM message_template_version
  LEFT JOIN "user"
    ON "user".id = saved_by
 WHERE template_id = :template_id
 ORDER BY version DESC
 LIMIT :limit

-- What the template's streams send from now on.
-- Of whom messages of a template were asked for, and who has no pool for messages.
-- name: find_marketing_alone
SELECT sender.name
  FROM stream
  JOIN sender
    ON sender.id = stream.sender_id
   AND sender.transactional_pool_id IS NULL
  JOIN pool
    ON pool.id = sender.pool_id
   AND pool.purpose = 'marketing'
 WHERE stream.template_id = :template_id
 ORDER BY lower(sender.name)

-- name: update_streams
UPDATE campaign
   SET name = template.name,
       purpose = template.purpose,
       track_opens = template.track_opens,
       track_clicks = template.track_clicks,
       updated_at = now()
  FROM stream
  JOIN message_template AS template
    ON template.id = stream.template_id
 WHERE stream.template_id = :template_id
   AND campaign.id = stream.campaign_id

-- name: update_contents
UPDATE content
   SET version = template.version,
       subject = template.subject,
       html = template.html,
       text = template.text,
       compiled = template.compiled
  FROM stream
  JOIN message_template AS template
    ON template.id = stream.template_id
 WHERE stream.template_id = :template_id
   AND content.campaign_id = stream.campaign_id
   AND content.variant = 0

-- Links keep their positions for ever: emails that were sent before lead there.
-- name: update_links
INSERT INTO link (campaign_id, position, url, variants)
SELECT stream.campaign_id, each.position, each.url, each.linked
  FROM stream
  JOIN message_template AS template
    ON template.id = stream.template_id
 CROSS JOIN LATERAL unnest(template.urls, template.linked) WITH ORDINALITY AS each (url, linked, position)
 WHERE stream.template_id = :template_id
    ON CONFLICT (campaign_id, position) DO UPDATE
   SET variants = excluded.variants
