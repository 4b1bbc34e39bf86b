-- Posts to endpoints. One waits while due_at is set, and is held by whoever tries it until trying_until.

-- name: add
INSERT INTO endpoint_post (endpoint_id, events, body, due_at)
VALUES (:endpoint_id, :events, :body, now())

-- name: add_test
INSERT INTO endpoint_post (endpoint_id, test, events, tries, trying_until, tried_at)
VALUES (:endpoint_id, true, 0, 1, now() + interval '1 minute', now())
RETURNING id, key, created_at

-- Endpoints that something is due for and that are not left alone now. Their rows are locked, so that two who claim at
-- once count each other's posts in the next statement.
-- name: lock_due
SELECT id
  FROM endpoint
 WHERE disabled_at IS NULL
   AND (resume_at IS NULL OR resume_at <= now())
   AND EXISTS (
           SELECT
             FROM endpoint_post
            WHERE endpoint_post.endpoint_id = endpoint.id
              AND due_at <= now()
              AND (trying_until IS NULL OR trying_until <= now())
       )
 ORDER BY random()
 LIMIT :most
   FOR UPDATE SKIP LOCKED

-- So many at once to one endpoint, and one only while it fails: whatever it costs its own posts to wait for it, there is
-- room for others'. Each endpoint's first comes before any one's second.
-- name: claim
WITH free AS (
    SELECT endpoint.id,
           CASE WHEN endpoint.failures > 0 THEN 1 ELSE :at_once END
           - (SELECT count(*) FROM endpoint_post WHERE endpoint_id = endpoint.id AND trying_until > now()) AS slots
      FROM endpoint
     WHERE endpoint.id = ANY(CAST(:endpoint_ids AS integer[]))
), chosen AS (
    SELECT due.id
      FROM free
     CROSS JOIN LATERAL (
               SELECT endpoint_post.id, row_number() OVER (ORDER BY due_at, endpoint_post.id) AS place
                 FROM endpoint_post
                WHERE endpoint_post.endpoint_id = free.id
                  AND due_at <= now()
                  AND (trying_until IS NULL OR trying_until <= now())
                ORDER BY due_at, endpoint_post.id
                LIMIT greatest(free.slots, 0)
           ) AS due
     ORDER BY due.place, free.id
     LIMIT :most
)
UPDATE endpoint_post AS post
   SET trying_until = now() + make_interval(secs => :hold),
       tries = tries + 1,
       tried_at = now()
  FROM chosen, endpoint
 WHERE post.id = chosen.id
   AND endpoint.id = post.endpoint_id
RETURNING post.id, post.endpoint_id, post.key, post.created_at, post.tries, post.events, post.body,
          endpoint.organisation_id, endpoint.url, endpoint.host, endpoint.with_email, endpoint.secret,
          CASE WHEN endpoint.old_until > now() THEN endpoint.old_secret END AS old_secret

-- name: took
UPDATE endpoint_post
   SET done_at = now(),
       due_at = NULL,
       trying_until = NULL,
       status = :status,
       said = :said,
       took = :took,
       body = NULL
 WHERE id = :id
   AND done_at IS NULL
RETURNING events

-- Again after `pause` seconds, where that is within its day; a time that the endpoint asked for is cut to the day's end.
-- What is no post of events, or was given up, is not tried again.
-- name: failed
WITH next AS (
    SELECT id,
           CASE
               WHEN test THEN NULL
               WHEN now() + make_interval(secs => :pause) <= since + interval '1 day'
                   THEN now() + make_interval(secs => :pause)
               WHEN :asked AND now() < since + interval '1 day' - interval '1 minute' THEN since + interval '1 day'
           END AS due_at
      FROM endpoint_post
     WHERE id = :id
       AND done_at IS NULL
       AND given_up_at IS NULL
)
UPDATE endpoint_post AS post
   SET due_at = next.due_at,
       given_up_at = CASE WHEN next.due_at IS NULL THEN now() END,
       trying_until = NULL,
       status = :status,
       said = :said,
       took = :took
  FROM next
 WHERE post.id = next.id
RETURNING CASE WHEN post.given_up_at IS NULL THEN 0 ELSE post.events END AS given_up

-- All that was not taken and is kept begins its day anew; how many events of it had been given up.
-- name: revive
WITH kept AS (
    SELECT id, CASE WHEN given_up_at IS NULL THEN 0 ELSE events END AS given_up
      FROM endpoint_post
     WHERE endpoint_id = :endpoint_id
       AND done_at IS NULL
       AND NOT test
       AND body IS NOT NULL
), revived AS (
    UPDATE endpoint_post AS post
       SET due_at = now(),
           since = now(),
           given_up_at = NULL
      FROM kept
     WHERE post.id = kept.id
)
SELECT coalesce(sum(given_up), 0)
  FROM kept

-- name: find_page
SELECT id, key, test, events, created_at, due_at, tries, tried_at, done_at, given_up_at, took, status, said,
       trying_until > now() AS trying
  FROM endpoint_post
 WHERE endpoint_id = :endpoint_id
   AND id < :before
 ORDER BY id DESC
 LIMIT :limit

-- What is older than is kept; of what still waited, as it does for a disabled endpoint, the events are counted. Not what
-- is being tried: who settles that has locked its endpoint, and then wants the post.
-- name: drop_old
WITH old AS (
    SELECT id
      FROM endpoint_post
     WHERE created_at < now() - make_interval(days => :days)
       AND (trying_until IS NULL OR trying_until <= now())
     ORDER BY id
     LIMIT :most
       FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM endpoint_post
     USING old
     WHERE endpoint_post.id = old.id
    RETURNING endpoint_id, CASE WHEN due_at IS NULL THEN 0 ELSE events END AS dropped
)
SELECT endpoint_id, count(*) AS posts, sum(dropped) AS dropped
  FROM gone
 GROUP BY endpoint_id
 ORDER BY endpoint_id

-- Of each endpoint the oldest bodies beyond so many bytes. Their length is known without reading them.
-- name: drop_beyond
WITH measured AS (
    SELECT id, sum(octet_length(body)) OVER (PARTITION BY endpoint_id ORDER BY id DESC) AS with_newer
      FROM endpoint_post
     WHERE body IS NOT NULL
), old AS (
    SELECT endpoint_post.id
      FROM measured
      JOIN endpoint_post
        ON endpoint_post.id = measured.id
     WHERE measured.with_newer > :room
       AND (trying_until IS NULL OR trying_until <= now())
     ORDER BY endpoint_post.id
     LIMIT :most
       FOR UPDATE OF endpoint_post SKIP LOCKED
), gone AS (
    DELETE FROM endpoint_post
     USING old
     WHERE endpoint_post.id = old.id
    RETURNING endpoint_id, CASE WHEN due_at IS NULL THEN 0 ELSE events END AS dropped
)
SELECT endpoint_id, count(*) AS posts, sum(dropped) AS dropped
  FROM gone
 GROUP BY endpoint_id
 ORDER BY endpoint_id
