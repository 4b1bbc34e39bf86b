"""When campaigns and their ranges may go: parts of an audience, windows, what repeats, and which clock works."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

RANGES = """
-- An audience may be cut into parts: one for each due time and variant. The first ranges of a part hold its leads in
-- order of ids and do not overlap; across parts they do. Later ranges of the same leads have their part.
ALTER TABLE outbox
    ADD COLUMN part      smallint NOT NULL DEFAULT 0,
    ADD COLUMN closes_at timestamptz;           -- not claimed from then on: the clock moves it to a later time
DROP INDEX outbox_campaign;
CREATE INDEX outbox_campaign ON outbox (campaign_id, part, first_lead);
CREATE INDEX outbox_closing ON outbox (campaign_id, part, closes_at) WHERE state = 'ready' AND closes_at IS NOT NULL;
"""

CAMPAIGNS = """
ALTER TABLE campaign
    ADD COLUMN parts     smallint NOT NULL DEFAULT 1,   -- of its audience
    ADD COLUMN schedule  jsonb NOT NULL DEFAULT '{}',   -- what a person chose but start_at: app/models/schedule.py
    ADD COLUMN origin_id integer REFERENCES campaign,   -- it was made of that one, which repeats
    ADD COLUMN occurs_at timestamptz;                   -- for this time of it
CREATE UNIQUE INDEX campaign_occurrence ON campaign (origin_id, occurs_at) WHERE origin_id IS NOT NULL;
-- When a part of a campaign goes; none for a campaign that goes at once and at any time. A part that is tested goes
-- when it begins, the others are spread until deliver_by.
CREATE TABLE campaign_part (
    campaign_id  integer NOT NULL REFERENCES campaign ON DELETE CASCADE,
    part         smallint NOT NULL,
    zone         text NOT NULL,                 -- of its windows
    begins_at    timestamptz NOT NULL,
    deliver_by   timestamptz,
    tested       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (campaign_id, part)
);
-- The curve that was planned: so many leads to go until then, made anew whenever what is left is spread.
CREATE TABLE campaign_plan (
    campaign_id  integer PRIMARY KEY REFERENCES campaign ON DELETE CASCADE,
    spread_at    timestamptz NOT NULL DEFAULT now(),    -- when what is left was spread last
    times        integer NOT NULL DEFAULT 0,            -- how often it was, since the start
    why          text NOT NULL DEFAULT '',
    points       jsonb NOT NULL DEFAULT '[]'            -- [seconds of the epoch, leads until then], as it was planned
);
-- A campaign that repeats is the origin of others: copies of it, each launched at its time.
CREATE TABLE recurrence (
    campaign_id  integer PRIMARY KEY REFERENCES campaign ON DELETE CASCADE,
    rule         text NOT NULL CHECK (rule <> ''),      -- RFC 5545's RRULE, without DTSTART
    begins       timestamp NOT NULL,                    -- by the clock of the zone
    zone         text NOT NULL,
    skip_sent    boolean NOT NULL DEFAULT true,         -- who got one of them gets no other
    paused_at    timestamptz,
    made         integer NOT NULL DEFAULT 0,            -- campaigns made of it
    missed       integer NOT NULL DEFAULT 0             -- times that were skipped, being overdue
);
"""

CLOCK = """
-- Of many clocks one works: who renews this row. No session lock, so that it holds behind a transaction pooler too.
CREATE TABLE clock_lease (
    name   text PRIMARY KEY,
    owner  uuid NOT NULL,
    until  timestamptz NOT NULL,
    fence  bigint NOT NULL DEFAULT 1            -- grows with every owner
);
"""


def upgrade() -> None:
    for part in (RANGES, CAMPAIGNS, CLOCK):
        op.execute(part)


def downgrade() -> None:
    op.execute("DROP TABLE clock_lease, recurrence, campaign_plan, campaign_part")
    op.execute("DROP INDEX campaign_occurrence")
    op.execute(
        "ALTER TABLE campaign DROP COLUMN parts, DROP COLUMN schedule, DROP COLUMN origin_id, DROP COLUMN occurs_at"
    )
    op.execute("DROP INDEX outbox_campaign, outbox_closing")
    op.execute("ALTER TABLE outbox DROP COLUMN part, DROP COLUMN closes_at")
    op.execute("CREATE INDEX outbox_campaign ON outbox (campaign_id, first_lead)")
