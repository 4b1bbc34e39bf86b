"""What providers say that we have no word for, and connections shared by processes."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

UNREAD = """
-- Events of types that we have no word for, by the provider's own name of the type. An upgrade may know it: a post says
-- of itself which it has, so that it can be read anew.
ALTER TABLE webhook ADD COLUMN unread jsonb;  -- type -> events, null: none
CREATE INDEX webhook_unread_posts ON webhook (pool_id, id) WHERE unread IS NOT NULL;
CREATE TABLE webhook_unread (
    pool_id  smallint NOT NULL REFERENCES pool ON DELETE CASCADE,
    type     text NOT NULL,
    events   bigint NOT NULL CHECK (events > 0),
    first_at timestamptz NOT NULL,                 -- when they came to us
    last_at  timestamptz NOT NULL,
    PRIMARY KEY (pool_id, type)
);
-- The newest few of each, cut to some size. They may name people.
CREATE TABLE webhook_unread_raw (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pool_id smallint NOT NULL,
    type    text NOT NULL,
    post_id bigint NOT NULL,                       -- which may be dropped before it
    came_at timestamptz NOT NULL,
    raw     text NOT NULL,
    FOREIGN KEY (pool_id, type) REFERENCES webhook_unread ON DELETE CASCADE
);
CREATE INDEX webhook_unread_newest ON webhook_unread_raw (pool_id, type, id)
"""

CONNECTIONS = """
-- How a receiver's emails travel over SMTP: connections of all processes together, emails over one of them; null: as
-- the pool's account says.
ALTER TABLE pool_limit
    ADD COLUMN connections smallint CHECK (connections > 0),
    ADD COLUMN messages integer CHECK (messages > 0);
-- Connections that are open, by whatever process. One whose process died counts until its time is over.
CREATE TABLE pool_connection (
    id       uuid PRIMARY KEY,
    pool_id  smallint NOT NULL REFERENCES pool ON DELETE CASCADE,
    receiver text NOT NULL,                        -- '': for emails to everybody else
    until    timestamptz NOT NULL
);
CREATE INDEX pool_connection_pool ON pool_connection (pool_id)
"""

UNDO = """
DROP TABLE pool_connection;
DELETE FROM pool_limit WHERE per_second IS NULL AND per_day IS NULL;
ALTER TABLE pool_limit DROP COLUMN connections, DROP COLUMN messages;
DROP TABLE webhook_unread_raw;
DROP TABLE webhook_unread;
ALTER TABLE webhook DROP COLUMN unread
"""


def upgrade() -> None:
    op.execute(UNREAD)
    op.execute(CONNECTIONS)


def downgrade() -> None:
    op.execute(UNDO)
