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


def upgrade() -> None:
    op.execute(HEARD)


def downgrade() -> None:
    op.execute("DROP TABLE pool_heard")
    op.execute("DELETE FROM alert WHERE kind = 'refused_delivered'")  # the version before has no word for it
