"""What a provider account needs beside its URL: a second pool to fail over to, limits, and what a check of it said."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SENDERS = """
-- Ranges that were not handed over yet go through this one while the first is paused or its provider is down.
ALTER TABLE sender
    ADD COLUMN second_pool_id smallint REFERENCES pool,
    ADD CHECK (second_pool_id <> pool_id);
"""

POOLS = """
ALTER TABLE pool
    ADD COLUMN checked_at timestamptz,          -- when its credentials were last tried by a person
    ADD COLUMN check_said text,                 -- a sentence: what the provider answered
    ADD COLUMN check_good boolean;              -- null: never tried
-- How fast a pool may send: in all (receiver ''), and to those whose mail one receiver takes ('google', 'microsoft' …).
CREATE TABLE pool_limit (
    pool_id     smallint NOT NULL REFERENCES pool ON DELETE CASCADE,
    receiver    text NOT NULL DEFAULT '',
    per_second  double precision CHECK (per_second > 0),    -- null: no limit
    burst       integer NOT NULL DEFAULT 1 CHECK (burst > 0),
    per_day     integer CHECK (per_day > 0),                -- null: no limit
    changed_at  timestamptz NOT NULL DEFAULT now(),
    paced_until timestamptz,                                -- it is used up: nothing is claimed for it before
    PRIMARY KEY (pool_id, receiver)
);
-- What was spent of daily limits, in steps of ten minutes: it must outlive Redis.
CREATE TABLE pool_spent (
    pool_id     smallint NOT NULL REFERENCES pool ON DELETE CASCADE,
    receiver    text NOT NULL,
    slot        timestamptz NOT NULL,
    spent       integer NOT NULL,
    PRIMARY KEY (pool_id, receiver, slot)
);
"""

RECEIVERS = """
-- Whose servers take a domain's mail: 'google' …; '' where they are nobody's that we know. Null: not asked yet.
ALTER TABLE domain
    ADD COLUMN receiver text,
    ADD COLUMN receiver_at timestamptz,
    ADD COLUMN receiver_tries smallint NOT NULL DEFAULT 0;     -- in vain, one after another
CREATE INDEX domain_asked ON domain (receiver_at) WHERE receiver IS NULL AND receiver_at IS NOT NULL;
CREATE INDEX domain_known ON domain (receiver_at) WHERE receiver IS NOT NULL;
-- Leads that were put together since this receiver's limit was used up: claimed while it is not.
ALTER TABLE outbox
    ADD COLUMN waits_for text;
"""


def upgrade() -> None:
    for part in (SENDERS, POOLS, RECEIVERS):
        op.execute(part)


def downgrade() -> None:
    op.execute("ALTER TABLE outbox DROP COLUMN waits_for")
    op.execute("ALTER TABLE domain DROP COLUMN receiver, DROP COLUMN receiver_at, DROP COLUMN receiver_tries")
    op.execute("DROP TABLE pool_spent")
    op.execute("DROP TABLE pool_limit")
    op.execute("ALTER TABLE pool DROP COLUMN checked_at, DROP COLUMN check_said, DROP COLUMN check_good")
    op.execute("ALTER TABLE sender DROP COLUMN second_pool_id")
