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
-- One row a fact. The columns stand from wide to narrow, so that none is padded: 50 bytes and the header.
CREATE TABLE event (
    time            timestamptz NOT NULL DEFAULT now(),  -- COPY of a page leaves it out
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
"""

# What each lookup needs, and what it costs the emails that were simply sent (the great mass of all rows).
INDEXES = """
-- Who got a campaign, and what happened to one lead of it. The only index that every row pays for: 45 bytes of WAL.
CREATE INDEX event_lead ON event (campaign_id, lead_id);
-- The few that were refused, bounced, complained …: listed without reading the mass. Sent rows do not enter it.
CREATE INDEX event_exception ON event (campaign_id, kind, lead_id) WHERE kind NOT IN ('sent', 'delivered', 'opened');
-- The last minutes, which the reports read live. Rows arrive in time's order, so 32 pages share one entry.
CREATE INDEX event_time ON event USING brin (time) WITH (pages_per_range = 32, autosummarize = on);
"""

# Events older than report_horizon() are counted apart (late_event) and not appended: the sums of their time are final.
# The horizon stays ten days younger than what was ever dropped, even when `keep` is made longer afterwards.
RETENTION = """
CREATE TABLE retention (
    single          boolean PRIMARY KEY DEFAULT true CHECK (single),
    keep            interval NOT NULL DEFAULT '400 days' CHECK (keep >= '30 days'),
    dropped_before  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO retention DEFAULT VALUES;
CREATE FUNCTION report_horizon() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT greatest(now() - keep, dropped_before) + INTERVAL ''10 days'' FROM retention';
CREATE TABLE late_event (
    seen_at         timestamptz NOT NULL DEFAULT now(),
    time            timestamptz NOT NULL,
    organisation_id integer NOT NULL,
    campaign_id     integer NOT NULL,
    kind            event_kind NOT NULL,
    total           integer NOT NULL
);
"""


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    op.execute(EVENT)
    op.execute(INDEXES)
    op.execute(RETENTION)


def downgrade() -> None:
    # The extension stays: it is the database's, and others may use it.
    op.execute("DROP FUNCTION report_horizon()")
    op.execute("DROP TABLE retention, late_event")
    op.execute("DROP TABLE event")
    op.execute("DROP TYPE event_kind")
