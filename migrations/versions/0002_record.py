"""The record: an append-only hypertable of events, which nothing ever updates."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

EVENT = """
CREATE TYPE event_kind AS ENUM (
    'sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown',
    'deferred', 'delivered', 'bounced', 'complained', 'opened', 'clicked', 'unsubscribed'
);
-- One row a fact. The columns stand from wide to narrow, so that none is padded: 58 bytes and the header.
CREATE TABLE event (
    time            timestamptz NOT NULL,
    lead_id         bigint NOT NULL,
    organisation_id integer NOT NULL,
    user_id         integer NOT NULL,           -- the campaign's owner when it happened
    campaign_id     integer NOT NULL,
    domain_id       integer NOT NULL,
    kind            event_kind NOT NULL,
    link_id         integer NOT NULL DEFAULT 0,
    pool_id         smallint NOT NULL DEFAULT 0,
    variant         smallint NOT NULL DEFAULT 0,
    run             smallint NOT NULL DEFAULT 1,
    weight          smallint NOT NULL DEFAULT 1, -- -1 takes an earlier one back
    machine         boolean NOT NULL DEFAULT false,
    message         boolean NOT NULL DEFAULT false,
    detail          jsonb
);
SELECT create_hypertable('event', by_range('time', INTERVAL '1 day'), create_default_indexes => false);
CREATE INDEX event_lead ON event (campaign_id, lead_id);
"""


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    op.execute(EVENT)


def downgrade() -> None:
    # The extension stays: it is the database's, and others may use it.
    op.execute("DROP TABLE event")
    op.execute("DROP TYPE event_kind")
