-- Segments are few (hundreds): what is heavy about them, counting their leads, is compiled from their conditions.

-- name: find_page
SELECT
    s.id,
    s.name,
    s.condition,
    s.updated_at,
    (SELECT count(*) FROM campaign AS c WHERE c.organisation_id = s.organisation_id AND c.segment_id = s.id) AS campaigns
FROM segment AS s
WHERE s.organisation_id = :organisation_id
  AND lower(s.name) > lower(:after)
ORDER BY lower(s.name)
LIMIT :limit;

-- name: find_condition
SELECT condition
FROM segment
WHERE organisation_id = :organisation_id
  AND id = :segment_id;

-- name: find_campaigns
SELECT name
FROM campaign
WHERE organisation_id = :organisation_id
  AND segment_id = :segment_id
ORDER BY id
LIMIT 3;

-- For this transaction only. A generic plan would look every value of a long list up one by one, and compiling machine code
-- takes longer than most counts.
-- name: limit_time
SELECT
    set_config('statement_timeout', :milliseconds, true),
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('jit', 'off', true);
