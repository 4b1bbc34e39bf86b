"""Reports of bounces that come back by mail."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MAILBOX = """
-- Where a pool's reports come back, read every minute over IMAP or POP. Counts are of messages.
CREATE TABLE pool_mailbox (
    pool_id    integer PRIMARY KEY REFERENCES pool ON DELETE CASCADE,
    url        bytea NOT NULL,                     -- encrypted, as a pool's own
    shown_url  text NOT NULL,                      -- without user and password
    look_at    timestamptz NOT NULL DEFAULT now(), -- when it is read next; moved ahead while somebody reads
    read_at    timestamptz,                        -- when that worked last
    failures   integer NOT NULL DEFAULT 0,         -- in a row
    error      text,
    reports    bigint NOT NULL DEFAULT 0,          -- of emails of ours
    unmatched  bigint NOT NULL DEFAULT 0,          -- reports of emails that are not
    answers    bigint NOT NULL DEFAULT 0,          -- by machines: holidays
    others     bigint NOT NULL DEFAULT 0
)
"""


def upgrade() -> None:
    op.execute(MAILBOX)


def downgrade() -> None:
    op.execute("DELETE FROM alert WHERE kind = 'mailbox_failed'")
    op.execute("DROP TABLE pool_mailbox")
