-- name: find_attributes
SELECT
    name,
    type
FROM attribute
WHERE organisation_id = :organisation_id
ORDER BY name;
