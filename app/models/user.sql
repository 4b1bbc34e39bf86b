-- People and their logins. A login is found by the hash of its token: whoever reads the table can open no session.

-- name: find_credentials
SELECT
    id,
    password_hash
FROM "user"
WHERE email = :email
  AND disabled_at IS NULL;

-- name: insert_login
-- The hash is compared once more: a password that was changed while it was being verified opens nothing.
INSERT INTO login (token_hash, user_id, expires_at)
SELECT
    :token_hash,
    id,
    now() + :lifetime
FROM "user"
WHERE id = :user_id
  AND password_hash = :password_hash
  AND disabled_at IS NULL;

-- name: find_person
SELECT
    u.id,
    u.organisation_id,
    o.name AS organisation,
    u.email,
    u.name,
    u.role
FROM login AS l
JOIN "user" AS u ON u.id = l.user_id
JOIN organisation AS o ON o.id = u.organisation_id
WHERE l.token_hash = :token_hash
  AND l.expires_at > now()
  AND u.disabled_at IS NULL;

-- name: delete_login
DELETE FROM login
WHERE token_hash = :token_hash;

-- name: delete_logins_of
DELETE FROM login
WHERE user_id = :user_id;

-- name: delete_expired_logins
DELETE FROM login
WHERE expires_at <= now();

-- name: update_password
UPDATE "user"
SET password_hash = :new_hash
WHERE id = :user_id
  AND password_hash = :password_hash;

-- name: find_names
SELECT id, name
FROM "user"
WHERE organisation_id = :organisation_id
ORDER BY lower(name), id;
