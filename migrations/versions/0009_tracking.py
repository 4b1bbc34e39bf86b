"""Our own tracking of opens and clicks: what a campaign tracks, what was seen, who was first."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

WANTED = """
-- 'auto': by ourselves where the pool's provider reports none. What was launched before is left as it was.
ALTER TABLE campaign
    ADD COLUMN track_opens  text NOT NULL DEFAULT 'off' CHECK (track_opens IN ('auto', 'on', 'off')),
    ADD COLUMN track_clicks text NOT NULL DEFAULT 'off' CHECK (track_clicks IN ('auto', 'on', 'off'));
ALTER TABLE campaign
    ALTER COLUMN track_opens SET DEFAULT 'auto',
    ALTER COLUMN track_clicks SET DEFAULT 'auto';
-- Links of those launched lately are read ahead, by every process that serves clicks, every ten seconds.
CREATE INDEX campaign_launched ON campaign (launched_at) WHERE launched_at IS NOT NULL;
-- A lead who asked not to be tracked: nothing of theirs is recorded, and their emails name nobody.
ALTER TABLE lead ADD COLUMN untracked boolean NOT NULL DEFAULT false;
CREATE INDEX lead_untracked ON lead (id) WHERE untracked; -- hardly anybody: who is asked about thousands reads nothing
"""

# `position` is a link's number; 0 is the pixel, -1 the link that nobody can see. Deleted as it is read.
HIT = """
CREATE TABLE hit (
    at           timestamptz NOT NULL,
    lead_id      bigint NOT NULL,
    campaign_id  integer NOT NULL,
    position     smallint NOT NULL,
    machine      text                           -- what gave it away as a program's, null: nothing in the request
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX hit_at ON hit (at);
"""

# One bit a lead, at its place in the range that froze it: setting one again changes nothing.
FIRST_TOUCH = """
CREATE TABLE first_touch (
    range_id           bigint PRIMARY KEY,      -- no foreign key: its check would lock a row that is being counted in
    campaign_id        integer NOT NULL,
    opened             bit varying NOT NULL,    -- by anybody, machines too
    opened_by_people   bit varying NOT NULL,
    clicked            bit varying NOT NULL,
    clicked_by_people  bit varying NOT NULL
) WITH (fillfactor = 50); -- no index knows the bits: setting one is an update in the same page
CREATE INDEX first_touch_campaign ON first_touch (campaign_id);
"""


def upgrade() -> None:
    for part in (WANTED, HIT, FIRST_TOUCH):
        op.execute(part)


def downgrade() -> None:
    op.execute("DROP TABLE first_touch, hit")
    op.execute("ALTER TABLE lead DROP COLUMN untracked")
    op.execute("ALTER TABLE campaign DROP COLUMN track_opens, DROP COLUMN track_clicks")
    op.execute("DROP INDEX campaign_launched")
