-- name: find
SELECT campaign_id, rule, begins, zone, skip_sent, paused_at, made, missed
  FROM recurrence
 WHERE campaign_id = :campaign_id

-- name: keep
INSERT INTO recurrence (campaign_id, rule, begins, zone, skip_sent)
VALUES (:campaign_id, :rule, :begins, :zone, :skip_sent)
    ON CONFLICT (campaign_id) DO UPDATE
   SET rule = excluded.rule,
       begins = excluded.begins,
       zone = excluded.zone,
       skip_sent = excluded.skip_sent

-- name: drop
DELETE FROM recurrence
 WHERE campaign_id = :campaign_id

-- name: count
UPDATE recurrence
   SET made = made + :made,
       missed = missed + :missed
 WHERE campaign_id = :campaign_id

-- name: set_paused
UPDATE recurrence
   SET paused_at = CASE WHEN :paused THEN now() END
 WHERE campaign_id = :campaign_id

-- name: set_next
UPDATE campaign
   SET start_at = :start_at
 WHERE id = :campaign_id

-- A campaign for one time of another. Of two clocks that make it at once, one does.
-- name: copy_campaign
INSERT INTO campaign (
    organisation_id, owner_id, sender_id, segment_id, name, weight, unknown_policy, track_opens, track_clicks,
    schedule, origin_id, occurs_at
)
SELECT organisation_id, owner_id, sender_id, segment_id, left(name, 170) || :label, weight, unknown_policy, track_opens,
       track_clicks, :schedule, id, :occurs_at
  FROM campaign
 WHERE id = :campaign_id
    ON CONFLICT (origin_id, occurs_at) WHERE origin_id IS NOT NULL DO NOTHING
RETURNING id

-- name: copy_content
INSERT INTO content (campaign_id, variant, version, subject, html, text, compiled)
SELECT :copy_id, variant, version, subject, html, text, compiled
  FROM content
 WHERE campaign_id = :campaign_id

-- name: copy_links
INSERT INTO link (campaign_id, position, url, variants)
SELECT :copy_id, position, url, variants
  FROM link
 WHERE campaign_id = :campaign_id

-- name: copy_test
INSERT INTO variant_test (campaign_id, share, wait, goal)
SELECT :copy_id, share, wait, goal
  FROM variant_test
 WHERE campaign_id = :campaign_id

-- name: find_made
SELECT id, name, state, occurs_at, audience
  FROM campaign
 WHERE origin_id = :campaign_id
 ORDER BY occurs_at DESC
 LIMIT :limit

-- name: find_origin
SELECT origin.id, origin.name
  FROM campaign
  JOIN campaign AS origin
    ON origin.id = campaign.origin_id
 WHERE campaign.id = :campaign_id
