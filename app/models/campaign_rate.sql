-- name: set_rate
INSERT INTO campaign_rate (campaign_id, emails, per, per_second, burst)
VALUES (:campaign_id, :emails, :per, :per_second, :burst)
    ON CONFLICT (campaign_id) DO UPDATE
   SET emails = excluded.emails,
       per = excluded.per,
       per_second = excluded.per_second,
       burst = excluded.burst,
       changed_at = now(),
       paced_until = NULL

-- name: drop_rate
DELETE FROM campaign_rate
 WHERE campaign_id = :campaign_id

-- name: find
SELECT emails, per, per_second, burst, changed_at
  FROM campaign_rate
 WHERE campaign_id = :campaign_id

-- name: wait
UPDATE campaign_rate
   SET paced_until = now() + make_interval(secs => :seconds)
 WHERE campaign_id = :campaign_id
   AND changed_at = :changed_at

-- name: copy
INSERT INTO campaign_rate (campaign_id, emails, per, per_second, burst)
SELECT :to_campaign, emails, per, per_second, burst
  FROM campaign_rate
 WHERE campaign_id = :campaign_id

-- Who it is from, and what was last done about that sender.
-- name: find_sender
SELECT sender.id AS sender_id, sender.state,
       coalesce((SELECT reason FROM sender_move WHERE sender_id = sender.id ORDER BY id DESC LIMIT 1), '') AS reason
  FROM campaign
  JOIN sender
    ON sender.id = campaign.sender_id
 WHERE campaign.id = :campaign_id
