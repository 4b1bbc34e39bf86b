-- News: lines of events that wait until posts to endpoints are made of them.

-- One that was disabled for longer than posts are kept listens no more.
-- name: listening
SELECT endpoint.organisation_id, array_agg(DISTINCT kind) AS kinds
  FROM endpoint
 CROSS JOIN unnest(endpoint.kinds) AS kind
 WHERE endpoint.disabled_at IS NULL
    OR endpoint.disabled_at > now() - make_interval(days => :days)
 GROUP BY endpoint.organisation_id

-- name: keep
INSERT INTO news (organisation_id, timed, lines)
VALUES (:organisation_id, :timed, :lines)

-- name: find_organisations
SELECT DISTINCT organisation_id
  FROM news

-- The oldest that nobody else has in hand, up to so many bytes: a row holds one event or thousands. Their length is known
-- without reading them.
-- name: take
WITH waiting AS MATERIALIZED (
    SELECT id, octet_length(lines) AS bytes
      FROM news
     WHERE organisation_id = :organisation_id
     ORDER BY id
     LIMIT :rows
       FOR UPDATE SKIP LOCKED
), measured AS (
    SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before
      FROM waiting
), taken AS (
    DELETE FROM news
     USING measured
     WHERE news.id = measured.id
       AND bytes_before < :bytes
    RETURNING news.id, news.time, news.timed, news.lines
)
SELECT id, time, timed, lines
  FROM taken
 ORDER BY id

-- What no worker made posts of for so long is not news any more.
-- name: drop_old
DELETE FROM news
 WHERE time < now() - make_interval(days => :days)

-- name: find_domains
SELECT id, name
  FROM domain
 WHERE id = ANY(CAST(:ids AS integer[]))

-- name: find_links
SELECT id, url
  FROM link
 WHERE id = ANY(CAST(:ids AS integer[]))
