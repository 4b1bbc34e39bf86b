-- A million ids are sorted once: in memory, not in files. For this transaction only.
-- name: room_to_sort
SET LOCAL work_mem = '64MB'
