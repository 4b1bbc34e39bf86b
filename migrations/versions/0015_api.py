"""Keys of programs, and the answers that they were given."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

KEYS = """
-- A program's key to the API. Only the hash of its secret is kept: 32 random bytes need no salt and no slow hash.
CREATE TABLE api_key (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id  integer NOT NULL REFERENCES organisation,
    name             text NOT NULL CHECK (name <> ''),
    hash             bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    shown            text NOT NULL,                       -- how the secret begins: enough to tell two keys apart
    scopes           text[] NOT NULL CHECK (cardinality(scopes) > 0),
    per_minute       integer NOT NULL CHECK (per_minute > 0),
    created_by       integer NOT NULL REFERENCES "user",  -- who owns what is made with it
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_used_at     timestamptz,                         -- right to a minute
    revoked_at       timestamptz,
    revoked_by       integer REFERENCES "user"
);
CREATE INDEX api_key_organisation ON api_key (organisation_id, id);
-- What was answered under an Idempotency-Key, in the transaction that did it; dropped after a day.
CREATE TABLE api_answer (
    api_key_id  integer NOT NULL REFERENCES api_key,
    key         bytea NOT NULL,                           -- a digest of what the caller chose
    request     bytea NOT NULL,                           -- a digest of the method, the address and the body
    status      smallint NOT NULL,
    location    text,
    body        bytea NOT NULL,
    sealed      boolean NOT NULL DEFAULT false,           -- the body is encrypted: it shows a secret
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (api_key_id, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX api_answer_created ON api_answer (created_at);
"""


def upgrade() -> None:
    op.execute(KEYS)


def downgrade() -> None:
    op.execute("DROP TABLE api_answer; DROP TABLE api_key")
