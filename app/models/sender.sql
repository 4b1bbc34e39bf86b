-- name: list_senders
SELECT
    sender.id,
    sender.name,
    sender.address,
    sender.reply_to,
    sender.created_at,
    pool.id AS pool_id,
    pool.name AS pool,
    pool.state AS pool_state,
    second_pool.id AS second_pool_id,
    second_pool.name AS second_pool,
    transactional_pool.id AS transactional_pool_id,
    transactional_pool.name AS transactional_pool,
    sender.state,
    carrier.name AS carried_by,
    (SELECT count(*) FROM campaign WHERE campaign.sender_id = sender.id) AS campaigns
FROM sender
JOIN pool ON pool.id = sender.pool_id
LEFT JOIN pool AS second_pool ON second_pool.id = sender.second_pool_id
LEFT JOIN pool AS transactional_pool ON transactional_pool.id = sender.transactional_pool_id
LEFT JOIN pool AS carrier ON carrier.id = sender.moved_to
WHERE sender.organisation_id = :organisation_id
ORDER BY lower(sender.name), sender.id

-- name: list_pools
SELECT
    pool.id,
    pool.name,
    pool.provider,
    pool.shown_url,
    pool.batch,
    pool.state,
    pool.reason,
    pool.resume_at,
    pool.failures AS tries,
    CASE
        WHEN pool.state = 'active' THEN 'sends'
        WHEN pool.resume_at IS NULL THEN 'stopped'
        WHEN pool.resume_at > now() THEN 'waits'
        WHEN pool.probe_until > now() THEN 'probing'
        ELSE 'due'
    END AS breaker,
    pool.created_at,
    pool.checked_at,
    pool.check_said,
    pool.check_good,
    (
        SELECT count(*)
        FROM sender
        WHERE pool.id IN (sender.pool_id, sender.second_pool_id, sender.transactional_pool_id, sender.moved_to)
    ) AS senders,
    pool.purpose
FROM pool
WHERE pool.organisation_id = :organisation_id
ORDER BY lower(pool.name), pool.id

-- name: delete
DELETE FROM sender
WHERE sender.id = :sender_id
  AND sender.organisation_id = :organisation_id
  AND NOT EXISTS (SELECT FROM campaign WHERE campaign.sender_id = :sender_id)
RETURNING id

-- Whose emails go which way: the pool that carries what it markets now, or what it sends as messages.
-- name: find_way
SELECT sender.organisation_id, first_pool(sender, :transactional) AS pool_id, lower(split_part(address, '@', 2)) AS domain,
       sender.state
  FROM sender
 WHERE id = :sender_id

-- name: sends_messages
SELECT EXISTS (
           SELECT FROM stream
             JOIN campaign
               ON campaign.id = stream.campaign_id
            WHERE stream.sender_id = :sender_id
              AND campaign.purpose = 'transactional'
       )
