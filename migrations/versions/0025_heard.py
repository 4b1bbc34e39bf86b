"""When a pool's webhooks came: silence says something only of times in which its door was seen open."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

HEARD = """
-- A row for every thirty seconds, counted from 1970, in which a post came that spoke of an email of the pool.
CREATE TABLE pool_heard (
    pool_id  smallint NOT NULL REFERENCES pool ON DELETE CASCADE,
    slot     integer NOT NULL,
    PRIMARY KEY (pool_id, slot)
);
"""


AGAIN = "ALTER TABLE handoff ADD COLUMN made_at timestamptz"  # when the call was last made again; null: never


def upgrade() -> None:
    op.execute(HEARD)
    op.execute(AGAIN)


def downgrade() -> None:
    op.execute("ALTER TABLE handoff DROP COLUMN made_at")
    op.execute("DROP TABLE pool_heard")
    # the versions before have no words for these
    op.execute("DELETE FROM alert WHERE kind IN ('refused_delivered', 'not_started')")
