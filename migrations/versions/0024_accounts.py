"""Pools know with which account of their provider they speak; those that share one keep to its limits together."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

ACCOUNTS = """
-- What holds for pools that speak with one account, where each of them has a limit for all of its emails: the highest.
-- Accounts that one pool alone speaks with have none, and so do those of which a pool has no limits.
CREATE TABLE pool_account (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    digest          bytea NOT NULL,
    per_second      double precision CHECK (per_second > 0),    -- null: no limit
    burst           integer NOT NULL CHECK (burst > 0),
    per_day         integer CHECK (per_day > 0),                -- null: no limit
    changed_at      timestamptz NOT NULL DEFAULT now(),
    paced_until     timestamptz,                                -- it is used up: nothing is claimed for it before
    UNIQUE (organisation_id, digest)
);
ALTER TABLE pool
    -- A keyed digest of server and credentials; '': it needs none, and so has no account; null: not told yet.
    ADD COLUMN account    bytea,
    ADD COLUMN account_id integer REFERENCES pool_account ON DELETE SET NULL;
CREATE INDEX pool_shared ON pool (account_id) WHERE account_id IS NOT NULL;
"""

UNDO = """
ALTER TABLE pool DROP COLUMN account, DROP COLUMN account_id;
DROP TABLE pool_account
"""


def upgrade() -> None:
    op.execute(ACCOUNTS)


def downgrade() -> None:
    op.execute(UNDO)
