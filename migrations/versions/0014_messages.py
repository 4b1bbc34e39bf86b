"""Messages: emails asked for one by one, now or for later."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STREAMS = """
-- A stream is a campaign of kind 'messages': always sending, never finished. Its ranges hold ids of messages.
ALTER TABLE campaign
    ADD COLUMN kind    text NOT NULL DEFAULT 'campaign' CHECK (kind IN ('campaign', 'messages')),
    ADD COLUMN purpose text NOT NULL DEFAULT 'marketing' CHECK (purpose IN ('marketing', 'transactional'));
-- What a message says where it names a template. `compiled` is never null: one that has faults is not saved.
CREATE TABLE message_template (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    name            text NOT NULL CHECK (name <> ''),
    purpose         text NOT NULL DEFAULT 'transactional' CHECK (purpose IN ('marketing', 'transactional')),
    sender_id       integer REFERENCES sender,      -- of messages that name none
    track_opens     text NOT NULL DEFAULT 'off' CHECK (track_opens IN ('auto', 'on', 'off')),
    track_clicks    text NOT NULL DEFAULT 'off' CHECK (track_clicks IN ('auto', 'on', 'off')),
    version         integer NOT NULL DEFAULT 1,
    subject         text NOT NULL,
    html            text NOT NULL,
    text            text NOT NULL DEFAULT '',
    compiled        jsonb NOT NULL,
    urls            text[] NOT NULL DEFAULT '{}',   -- of all links that it ever had, by their position from 1
    linked          smallint[] NOT NULL DEFAULT '{}', -- 1 where it has the link now, else 0
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz                     -- its messages are still known by its name
);
CREATE UNIQUE INDEX message_template_name ON message_template (organisation_id, lower(name)) WHERE deleted_at IS NULL;
-- What it said before, and since when.
CREATE TABLE message_template_version (
    template_id  integer NOT NULL REFERENCES message_template ON DELETE CASCADE,
    version      integer NOT NULL,
    subject      text NOT NULL,
    html         text NOT NULL,
    text         text NOT NULL,
    saved_at     timestamptz NOT NULL DEFAULT now(),
    saved_by     integer REFERENCES "user",
    PRIMARY KEY (template_id, version)
);
-- Which messages a stream has: of one template, or those that bring their own content (template 0), from one sender.
CREATE TABLE stream (
    organisation_id integer NOT NULL REFERENCES organisation,
    template_id     integer NOT NULL DEFAULT 0,
    sender_id       integer NOT NULL REFERENCES sender,
    campaign_id     integer NOT NULL UNIQUE REFERENCES campaign,
    PRIMARY KEY (organisation_id, template_id, sender_id)
);
CREATE INDEX stream_template ON stream (template_id);
"""

# A message is written once and never changed. Its id holds the minute that it is due in (app/message_ids.py), so a
# chunk holds the messages of a day, and is dropped whole. `data` and `metadata` are JSON as it came: to parse it and to
# write it out again would be work for nothing, since nothing is ever looked for in it.
STORE = """
CREATE SEQUENCE message_number AS bigint MINVALUE 0 MAXVALUE 17179869183 CYCLE;
CREATE TABLE message (
    id              bigint NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    due_at          timestamptz NOT NULL,
    organisation_id integer NOT NULL,
    campaign_id     integer NOT NULL,               -- its stream
    domain_id       integer NOT NULL,
    email           text COLLATE "C" NOT NULL,
    data            json NOT NULL,                  -- the template's values, or subject, html and text
    metadata        json,
    PRIMARY KEY (organisation_id, id)
);
SELECT create_hypertable('message', by_range('id', 1440::bigint << 34), create_default_indexes => false);
-- What waits for its time, in slips: the messages of a stream that were accepted together and are due at the
-- same time. A
-- thousand for 09:00 are one row. Whoever cuts them into ranges deletes it.
CREATE TABLE message_due (
    due_at       timestamptz NOT NULL,
    first_id     bigint NOT NULL,
    campaign_id  integer NOT NULL,
    size         integer NOT NULL,
    message_ids  bigint[] NOT NULL,
    CHECK (size = cardinality(message_ids) AND size > 0)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0.02);
ALTER TABLE message_due ALTER COLUMN message_ids SET STORAGE EXTERNAL;
-- Everything that finding what is due needs: the table itself is not read.
CREATE INDEX message_due_at ON message_due (due_at, campaign_id, first_id) INCLUDE (size);
-- A message that is asked for twice under one key is one message.
CREATE TABLE message_key (
    organisation_id integer NOT NULL,
    key             uuid NOT NULL,                  -- a digest of what the program gave
    digest          uuid NOT NULL,                  -- of everything else that it gave
    message_id      bigint NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX message_key_created ON message_key USING brin (created_at) WITH (pages_per_range = 16, autosummarize = on);
-- How long is kept, in days: messages and their ranges and hand-offs once they are done; keys.
CREATE TABLE message_retention (
    single    boolean PRIMARY KEY DEFAULT true CHECK (single),
    days      integer NOT NULL DEFAULT 30 CHECK (days BETWEEN 10 AND 400),
    key_days  integer NOT NULL DEFAULT 3 CHECK (key_days BETWEEN 1 AND 400)
);
INSERT INTO message_retention DEFAULT VALUES;
"""

# A range of a stream is compared with the record once, by itself: a stream has no end that could be waited for.
RANGES = """
ALTER TABLE outbox
    ADD COLUMN message   boolean NOT NULL DEFAULT false,
    -- it and what was put off from it and the record said the same; of a first range
    ADD COLUMN agreed_at timestamptz;
CREATE INDEX outbox_message_ready ON outbox (campaign_id, due_at, id) WHERE state = 'ready' AND message;
CREATE INDEX outbox_message_done ON outbox (due_at)
    WHERE message AND parent_id IS NULL AND agreed_at IS NULL AND state = 'done';
CREATE INDEX outbox_message_agreed ON outbox (agreed_at) WHERE agreed_at IS NOT NULL;
"""


def upgrade() -> None:
    for part in (STREAMS, STORE, RANGES):
        op.execute(part)


def downgrade() -> None:
    op.execute("ALTER TABLE outbox DROP COLUMN message, DROP COLUMN agreed_at")
    op.execute("DROP TABLE message_retention, message_key, message_due, message")
    op.execute("DROP SEQUENCE message_number")
    op.execute("DROP TABLE stream, message_template_version, message_template")
    op.execute("ALTER TABLE campaign DROP COLUMN kind, DROP COLUMN purpose")
