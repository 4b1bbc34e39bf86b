-- Whoever holds it renews it; another takes it once it has run out, and waits for nobody. One row: no session lock, which
-- a transaction pooler would leave with whoever gets the connection next.
-- name: hold
INSERT INTO clock_lease AS held (name, owner, until)
VALUES ('clock', :owner, now() + make_interval(secs => :seconds))
    ON CONFLICT (name) DO UPDATE
   SET owner = excluded.owner,
       until = excluded.until,
       fence = held.fence + CASE WHEN held.owner = excluded.owner THEN 0 ELSE 1 END
 WHERE held.owner = excluded.owner
    OR held.until <= now()
RETURNING fence

-- name: let_go
UPDATE clock_lease
   SET until = now()
 WHERE name = 'clock'
   AND owner = :owner

-- name: find_owner
SELECT owner
  FROM clock_lease
 WHERE name = 'clock'
   AND until > now()
