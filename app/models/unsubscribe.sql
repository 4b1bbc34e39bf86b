-- Of two presses at once the second waits here, and then finds it done. Not by the lead's row: who reads a complaint of
-- the same lead locks the address among the suppressions first, and the two would wait for each other.
-- name: lock
SELECT pg_advisory_xact_lock(7203210, hashint8(:lead_id))

-- The same of a message and its stream: an address, and the lead who has it, if there is one.
-- name: find_message
SELECT message.id AS lead_id, message.email, message.domain_id,
       EXISTS (
           SELECT
             FROM suppression
            WHERE suppression.organisation_id = message.organisation_id
              AND suppression.email = message.email
              AND suppression.sender_id = 0
              AND suppression.reason = 'unsubscribed'
       ) AS done,
       organisation.id AS organisation_id, organisation.name AS organisation,
       campaign.id AS campaign_id, campaign.owner_id AS user_id, 1 AS run, sender.pool_id,
       sender.id AS sender_id, sender.name AS sender, coalesce(lead.untracked, false) AS untracked, lead.id AS person,
       false AS tested,
       EXISTS (
           SELECT
             FROM suppression
            WHERE suppression.organisation_id = message.organisation_id
              AND suppression.email = message.email
              AND suppression.sender_id = sender.id
       ) AS left_sender
  FROM campaign
  JOIN organisation
    ON organisation.id = campaign.organisation_id
  JOIN sender
    ON sender.id = campaign.sender_id
  JOIN message
    ON message.organisation_id = campaign.organisation_id
   AND message.id = :message_id
   AND message.campaign_id = campaign.id
  LEFT JOIN lead
    ON lead.organisation_id = message.organisation_id
   AND lead.email = message.email
 WHERE campaign.id = :campaign_id

-- A token names lead and campaign; a campaign of another organisation would be a forgery of our own making.
-- name: find
SELECT lead.id AS lead_id, lead.email, lead.domain_id, lead.status = 'unsubscribed' AS done,
       organisation.id AS organisation_id, organisation.name AS organisation,
       campaign.id AS campaign_id, campaign.owner_id AS user_id, greatest(campaign.run, 1) AS run, sender.pool_id,
       sender.id AS sender_id, sender.name AS sender, lead.untracked, lead.id AS person,
       EXISTS (
           SELECT
             FROM suppression
            WHERE suppression.organisation_id = lead.organisation_id
              AND suppression.email = lead.email
              AND suppression.sender_id = sender.id
       ) AS left_sender,
       EXISTS (SELECT FROM variant_test WHERE variant_test.campaign_id = campaign.id) AS tested
  FROM lead
  JOIN organisation
    ON organisation.id = lead.organisation_id
  JOIN campaign
    ON campaign.id = :campaign_id
   AND campaign.organisation_id = lead.organisation_id
  LEFT JOIN sender
    ON sender.id = campaign.sender_id
 WHERE lead.id = :lead_id
