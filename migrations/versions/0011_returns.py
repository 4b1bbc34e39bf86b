"""Reports of bounces that come back by mail."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for part in ():  # nothing yet
        op.execute(part)


def downgrade() -> None:
    pass
