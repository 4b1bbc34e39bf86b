"""Keys of events begin with the minute: as digests alone they touched a block of their index each."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

# A key that was written without its minute must not come again with it: days that may have such keep the old way. Of
# events the youngest day taken is tomorrow.
LAYOUT = """
CREATE TABLE webhook_layout (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    timed   date NOT NULL                           -- from this day on (UTC's) keys begin with the event's minute
);
INSERT INTO webhook_layout (timed)
SELECT CASE WHEN EXISTS (SELECT FROM webhook_event) THEN (now() AT TIME ZONE 'UTC')::date + 2 ELSE '1970-01-01' END;
"""


def upgrade() -> None:
    op.execute(LAYOUT)


def downgrade() -> None:
    """What came since may be taken a second time when it is posted again."""
    op.execute("DROP TABLE webhook_layout")
