-- name: list_senders
SELECT
    sender.id,
    sender.name,
    sender.address,
    sender.reply_to,
    sender.created_at,
    pool.name AS pool,
    pool.state AS pool_state,
    (SELECT count(*) FROM campaign WHERE campaign.sender_id = sender.id) AS campaigns
FROM sender
JOIN pool ON pool.id = sender.pool_id
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
    (SELECT count(*) FROM sender WHERE sender.pool_id = pool.id) AS senders
FROM pool
WHERE pool.organisation_id = :organisation_id
ORDER BY lower(pool.name), pool.id
