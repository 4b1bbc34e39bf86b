"""Suppressions for one sender or for all, soft bounces on their way to one, and how long raw webhooks are kept."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for part in ():  # nothing yet
        op.execute(part)


def downgrade() -> None:
    pass
