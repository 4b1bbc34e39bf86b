-- The newest first, by key, each with its sums over its ranges: a campaign to a million leads is a
-- thousand short rows (the ids lie out of line), so a page of 25 such takes tens of milliseconds at most.
-- name: find_lines
SELECT campaign.id, campaign.name, campaign.state, campaign.notice, campaign.start_at, campaign.run,
       campaign.exclusions, campaign.created_at, campaign.updated_at, campaign.launched_at, campaign.finished_at,
       now() AS read_at,
       campaign.unknown_policy, campaign.track_opens, campaign.track_clicks, owner.name AS owner,
       sender.name AS sender, sender.address, pool.id AS pool_id, pool.name AS pool, pool.state AS pool_state,
       pool.reason AS pool_reason, pool.resume_at AS pool_resume_at,
       second.name AS second_pool, second.state AS second_pool_state,
       EXISTS (
           SELECT FROM pool_pace
            WHERE pool_pace.pool_id = pool.id
              AND pool_pace.receiver = ''
              AND pool_pace.paced_until > now() + interval '1 minute'
       ) OR EXISTS (
           SELECT FROM pool_account
            WHERE pool_account.id = pool.account_id
              AND pool_account.paced_until > now() + interval '1 minute'
       ) AS used_up,
       EXISTS (SELECT FROM recurrence WHERE recurrence.campaign_id = campaign.id) AS repeats,
       segment.name AS segment,
       content.subject, content.compiled IS NOT NULL AS has_content,
       sums.audience, sums.sent, sums.refused, sums.failed, sums.skipped, sums.cancelled, sums.unknown, sums.open
  FROM campaign
  JOIN "user" AS owner
    ON owner.id = campaign.owner_id
  LEFT JOIN sender
    ON sender.id = campaign.sender_id
  LEFT JOIN pool
    ON pool.id = first_pool(sender, campaign.purpose = 'transactional')
  LEFT JOIN pool AS second
    ON second.id = second_pool(sender)
  LEFT JOIN segment
    ON segment.id = campaign.segment_id
  LEFT JOIN content
    ON content.campaign_id = campaign.id
   AND content.variant = 0
 CROSS JOIN LATERAL (
           SELECT coalesce(sum(size - moved), 0) AS audience,
                  coalesce(sum(sent), 0) AS sent,
                  coalesce(sum(refused), 0) AS refused,
                  coalesce(sum(failed), 0) AS failed,
                  coalesce(sum(skipped), 0) AS skipped,
                  coalesce(sum(cancelled), 0) AS cancelled,
                  coalesce(sum(unknown), 0) AS unknown,
                  coalesce(sum(size - sent - refused - failed - skipped - cancelled - unknown - moved), 0) AS open
             FROM outbox
            WHERE outbox.campaign_id = campaign.id
       ) AS sums
 WHERE campaign.organisation_id = :organisation_id
   AND campaign.kind = 'campaign'
   AND campaign.id < :before
 ORDER BY campaign.id DESC
 LIMIT :limit

-- name: find_names
SELECT id, name
  FROM campaign
 WHERE organisation_id = :organisation_id
   AND kind = 'campaign'
   AND launched_at IS NOT NULL
 ORDER BY id DESC
 LIMIT :limit

-- name: find_steps
SELECT EXISTS (SELECT FROM lead WHERE organisation_id = :organisation_id) AS has_leads,
       EXISTS (SELECT FROM pool WHERE organisation_id = :organisation_id) AS has_pool,
       EXISTS (SELECT FROM sender WHERE organisation_id = :organisation_id) AS has_sender
