"""Provider ids are packed (app/models/refs.py): as text they were a fifth of all that an email wrote to the log."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Compressed, they would be tried for compression again; they fit into their row.
PACKED = """
ALTER TABLE handoff
    ALTER COLUMN refs TYPE bytea USING convert_to('t' || array_to_string(refs, chr(10)), 'UTF8'),
    ALTER COLUMN refs SET STORAGE EXTERNAL
"""
# What is packed stays packed, as one ref: this way back is for trying, and nothing reads them.
TEXT = "ALTER TABLE handoff ALTER COLUMN refs TYPE text[] USING ARRAY[encode(refs, 'base64')]"


def upgrade() -> None:
    op.execute(PACKED)


def downgrade() -> None:
    op.execute(TEXT)
