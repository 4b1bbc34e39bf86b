"""A post that its provider names is kept once, whatever body it comes with the second time.

Mailgun signs a token and not the body beside it: a signature that somebody overheard would vouch for anything.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "DELETE FROM webhook USING webhook AS kept"
        " WHERE kept.pool_id = webhook.pool_id AND kept.delivery = webhook.delivery AND webhook.delivery <> ''"
        " AND kept.id < webhook.id"
    )
    op.execute("CREATE UNIQUE INDEX webhook_delivery ON webhook (pool_id, delivery) WHERE delivery <> ''")


def downgrade() -> None:
    op.execute("DROP INDEX webhook_delivery")
