-- Whoever takes one counts them alone. It ends with the transaction, and so holds behind a transaction pooler.
-- name: lock
SELECT pg_advisory_xact_lock(hashtext('pool_connection'), :pool_id)

-- name: drop_over
DELETE FROM pool_connection
 WHERE pool_id = :pool_id
   AND until <= now()

-- name: take
WITH bound AS (
    SELECT max(connections) AS connections, max(messages) AS messages
      FROM pool_limit
     WHERE pool_id = :pool_id
       AND receiver = :receiver
       AND receiver <> ''
), taken AS (
    SELECT count(*) AS of_all, count(*) FILTER (WHERE receiver = :receiver) AS of_receiver
      FROM pool_connection
     WHERE pool_id = :pool_id
)
INSERT INTO pool_connection (id, pool_id, receiver, until)
SELECT :id, :pool_id, :receiver, now() + make_interval(secs => :seconds)
  FROM bound, taken
 WHERE taken.of_all < :most
   AND taken.of_receiver < coalesce(bound.connections, :most)
RETURNING id, (SELECT messages FROM bound) AS messages

-- One that was taken when more were allowed is not renewed while there are too many.
-- name: renew
UPDATE pool_connection AS own
   SET until = now() + make_interval(secs => :seconds)
 WHERE id = :id
   AND until > now()
   AND (SELECT count(*)
          FROM pool_connection AS older
         WHERE older.pool_id = own.pool_id
           AND older.receiver = own.receiver
           AND older.until > now()
           AND older.id < own.id) < coalesce(
           (SELECT connections
              FROM pool_limit
             WHERE pool_limit.pool_id = own.pool_id
               AND pool_limit.receiver = own.receiver
               AND own.receiver <> ''),
           32767
       )
RETURNING id, (
    SELECT messages
      FROM pool_limit
     WHERE pool_limit.pool_id = own.pool_id
       AND pool_limit.receiver = own.receiver
       AND own.receiver <> ''
) AS messages

-- name: give_back
DELETE FROM pool_connection
 WHERE id = :id

-- name: count_open
SELECT receiver, count(*) AS connections
  FROM pool_connection
 WHERE pool_id = :pool_id
   AND until > now()
 GROUP BY receiver
 ORDER BY receiver

-- name: is_free
SELECT count(*) < :most
       AND count(*) FILTER (WHERE receiver = :receiver) < coalesce(
           (SELECT connections
              FROM pool_limit
             WHERE pool_limit.pool_id = :pool_id
               AND pool_limit.receiver = :receiver
               AND :receiver <> ''),
           :most
       ) AS free
  FROM pool_connection
 WHERE pool_id = :pool_id
   AND until > now()
