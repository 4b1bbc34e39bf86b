"""Where users want our events posted to."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for part in ():  # nothing yet
        op.execute(part)


def downgrade() -> None:
    pass
