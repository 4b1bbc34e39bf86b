"""Our own tracking of opens and clicks."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for part in ():  # nothing yet
        op.execute(part)


def downgrade() -> None:
    pass
