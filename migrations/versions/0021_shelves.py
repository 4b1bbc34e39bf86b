"""What waits for its time lies by its time: what is due together is in the same pages, and taken out of few of them.

Rows in the order that they came in, as before, had those that are due within a second in nearly as many pages.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# A chunk is a shelf (app/shelves.py says which one a row lies on). Its number is the dimension, since one span of time
# may have a narrow, a wider and a day's shelf. Columns stand from wide to narrow: no byte is lost between them.
SHELVES = """
ALTER TABLE message_due RENAME TO message_due_before;
DROP INDEX message_due_at;
CREATE TABLE message_due (
    due_at       timestamptz NOT NULL,
    first_id     bigint NOT NULL,
    campaign_id  integer NOT NULL,
    size         integer NOT NULL,
    shelf        integer NOT NULL,
    message_ids  bigint[],                          -- null: `first_id` alone, as of most
    CHECK (size = coalesce(cardinality(message_ids), 1) AND size > 0)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0.02);
ALTER TABLE message_due ALTER COLUMN message_ids SET STORAGE EXTERNAL;
SELECT create_hypertable('message_due', by_range('shelf', 1), create_default_indexes => false);
-- Everything that finding what is due needs: the chunks themselves are not read.
CREATE INDEX message_due_at ON message_due (due_at, campaign_id, first_id) INCLUDE (size, shelf);
"""
MOVE = """
INSERT INTO message_due (due_at, first_id, campaign_id, size, shelf, message_ids)
SELECT due_at, first_id, campaign_id, size, CAST(floor(minute / width) AS integer) * width * 4 + level,
       CASE WHEN message_ids <> ARRAY[first_id] THEN message_ids END
  FROM message_due_before
 CROSS JOIN LATERAL (
           SELECT extract(epoch FROM due_at - timestamptz '2020-01-01Z') / 60,
                  CASE WHEN due_at - now() <= interval '6 hours' THEN 0
                       WHEN due_at - now() <= interval '4 days' THEN 1
                       ELSE 2
                  END
       ) AS of_time (minute, level)
 CROSS JOIN LATERAL (SELECT (ARRAY[15, 120, 1440])[level + 1]) AS of_level (width)
 ORDER BY due_at;
DROP TABLE message_due_before;
"""

BACK = """
ALTER TABLE message_due RENAME TO message_due_shelves;
CREATE TABLE message_due (
    due_at       timestamptz NOT NULL,
    first_id     bigint NOT NULL,
    campaign_id  integer NOT NULL,
    size         integer NOT NULL,
    message_ids  bigint[] NOT NULL,
    CHECK (size = cardinality(message_ids) AND size > 0)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0.02);
ALTER TABLE message_due ALTER COLUMN message_ids SET STORAGE EXTERNAL;
INSERT INTO message_due (due_at, first_id, campaign_id, size, message_ids)
SELECT due_at, first_id, campaign_id, size, coalesce(message_ids, ARRAY[first_id])
  FROM message_due_shelves;
DROP TABLE message_due_shelves;
CREATE INDEX message_due_at ON message_due (due_at, campaign_id, first_id) INCLUDE (size);
"""


def upgrade() -> None:
    for part in (SHELVES, MOVE):
        op.execute(part)


def downgrade() -> None:
    op.execute(BACK)
