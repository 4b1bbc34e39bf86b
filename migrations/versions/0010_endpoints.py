"""Where users want our events posted to: endpoints, the news that waits for them, and the posts that are made of it."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ENDPOINTS = """
-- An address of a user's that hears of events. `failures` in a row; it is left alone until `resume_at`.
CREATE TABLE endpoint (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id  integer NOT NULL REFERENCES organisation,
    name             text NOT NULL CHECK (name <> ''),
    url              bytea NOT NULL,                -- encrypted: a path is often a key
    host             text NOT NULL,                 -- of the URL, for logs
    secret           bytea NOT NULL,                -- encrypted
    old_secret       bytea,                         -- signs as well until old_until, so that a receiver can change over
    old_until        timestamptz,
    kinds            text[] NOT NULL CHECK (cardinality(kinds) > 0),
    campaign_id      integer,                       -- null: of all campaigns. No foreign key: none is ever deleted
    with_email       boolean NOT NULL DEFAULT false,
    created_at       timestamptz NOT NULL DEFAULT now(),
    disabled_at      timestamptz,
    disabled_by      integer REFERENCES "user",     -- null: Millrace gave it up
    disabled_why     text,
    failures         integer NOT NULL DEFAULT 0,
    failing_since    timestamptz,                   -- nothing was taken since
    resume_at        timestamptz,
    told             bigint NOT NULL DEFAULT 0,     -- events that it took
    told_at          timestamptz,
    given_up         bigint NOT NULL DEFAULT 0,     -- events that it did not take within a day
    dropped          bigint NOT NULL DEFAULT 0,     -- events that waited longer than they are kept
    UNIQUE (organisation_id, name),
    CHECK ((old_secret IS NULL) = (old_until IS NULL)),
    CHECK ((failures = 0) = (failing_since IS NULL))
);
-- Lines of events as they went into the record, in the same transaction: written only where somebody listens, gone
-- when posts were made of them.
CREATE TABLE news (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id  integer NOT NULL,
    time             timestamptz NOT NULL DEFAULT now(), -- of its events, where the lines hold none
    timed            boolean NOT NULL,                   -- each line begins with its event's own time
    lines            text NOT NULL
);
ALTER TABLE news ALTER COLUMN lines SET STORAGE EXTERNAL; -- it lives for seconds: not worth compressing
CREATE INDEX news_organisation ON news (organisation_id, id);
-- One signed post to an endpoint. It waits while due_at is set; a worker that tries it holds it until trying_until.
CREATE TABLE endpoint_post (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id   integer NOT NULL REFERENCES endpoint ON DELETE CASCADE,
    key           uuid NOT NULL DEFAULT gen_random_uuid(), -- its webhook-id, the same at every try
    test          boolean NOT NULL DEFAULT false,
    events        integer NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    since         timestamptz NOT NULL DEFAULT now(),      -- its day of tries begins
    due_at        timestamptz,                             -- null: never again
    trying_until  timestamptz,
    tries         integer NOT NULL DEFAULT 0,
    tried_at      timestamptz,
    done_at       timestamptz,
    given_up_at   timestamptz,
    took          double precision,                        -- seconds that the last try took
    status        smallint,                                -- HTTP's, of the last try; null: nothing came
    said          text,                                    -- what it answered, or why nothing came
    body          bytea,                                   -- its events, without addresses; null when it was taken
    CHECK (NOT (due_at IS NOT NULL AND (done_at IS NOT NULL OR given_up_at IS NOT NULL))),
    CHECK (done_at IS NULL OR given_up_at IS NULL)
);
CREATE INDEX endpoint_post_waiting ON endpoint_post (endpoint_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX endpoint_post_trying ON endpoint_post (endpoint_id) WHERE trying_until IS NOT NULL;
CREATE INDEX endpoint_post_list ON endpoint_post (endpoint_id, id);
CREATE INDEX endpoint_post_created ON endpoint_post (created_at);
"""

ALERTS = "ALTER TABLE alert ADD COLUMN endpoint_id integer REFERENCES endpoint ON DELETE CASCADE"


def upgrade() -> None:
    for part in (ENDPOINTS, ALERTS):
        op.execute(part)


def downgrade() -> None:
    op.execute("DELETE FROM alert WHERE endpoint_id IS NOT NULL")
    op.execute("ALTER TABLE alert DROP COLUMN endpoint_id")
    op.execute("DROP TABLE endpoint_post, news, endpoint")
