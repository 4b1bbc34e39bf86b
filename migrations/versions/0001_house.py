"""Everything but the record: people, leads, content, campaigns, and the work to be done for them.

The hot tables are written by hand. `outbox` and `handoff` are the work (a few thousand rows a campaign); the record of
what happened is the `event` hypertable of the next migration.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PEOPLE = """
CREATE TABLE organisation (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE "user" (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    email           text NOT NULL CHECK (email = lower(email)),
    name            text NOT NULL,
    password_hash   text NOT NULL,
    role            text NOT NULL DEFAULT 'marketer' CHECK (role IN ('marketer', 'admin')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    disabled_at     timestamptz
);
CREATE UNIQUE INDEX user_email ON "user" (email);
-- A login is a row, so that logging out, or changing a password, ends it everywhere at once.
CREATE TABLE login (
    token_hash  bytea PRIMARY KEY,
    user_id     integer NOT NULL REFERENCES "user" ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX login_user ON login (user_id);
"""

LEADS = """
-- Receiving domains by number: an event carries four bytes instead of a name.
CREATE TABLE domain (
    id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL UNIQUE CHECK (name = lower(name))
);
-- No foreign keys: their checks were 6.3 of the 10.3 microseconds that a row of an import cost the server. Domains are
-- never deleted, and every insert takes its domain's number from `domain` itself.
CREATE TABLE lead (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL,
    domain_id       integer NOT NULL,
    email           text COLLATE "C" NOT NULL,  -- ASCII in small letters: bytes compare fast, and serve prefixes
    status          text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'unsubscribed', 'invalid')),
    time_zone       text,
    attributes      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX lead_email ON lead (organisation_id, email);
-- The attributes that leads may have and what their values are: segments and templates are checked against it.
CREATE TABLE attribute (
    organisation_id integer NOT NULL REFERENCES organisation,
    name            text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    type            text NOT NULL CHECK (type IN ('text', 'number', 'boolean', 'date')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, name)
);
CREATE TABLE suppression (
    organisation_id integer NOT NULL REFERENCES organisation,
    email           text COLLATE "C" NOT NULL CHECK (email = lower(email)),
    reason          text NOT NULL CHECK (reason IN ('unsubscribed', 'complained', 'bounced', 'manual')),
    source          text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, email)
);
-- One CSV file on its way into `lead`. It lies in pieces in the database: web and worker may be two machines.
CREATE TABLE import (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    user_id         integer REFERENCES "user",
    file_name       text NOT NULL,
    file_bytes      bigint NOT NULL DEFAULT 0,
    state           text NOT NULL DEFAULT 'uploading'
                    CHECK (state IN ('uploading', 'waiting', 'running', 'finished', 'failed')),
    columns         jsonb NOT NULL DEFAULT '{}',
    bytes_read      bigint NOT NULL DEFAULT 0,
    lines_read      bigint NOT NULL DEFAULT 0,
    rows_read       bigint NOT NULL DEFAULT 0,
    added           bigint NOT NULL DEFAULT 0,
    updated         bigint NOT NULL DEFAULT 0,
    unchanged       bigint NOT NULL DEFAULT 0,
    repeated        bigint NOT NULL DEFAULT 0,
    rejected        bigint NOT NULL DEFAULT 0,
    error           text,
    lease_until     timestamptz,
    fence           integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    finished_at     timestamptz
);
CREATE INDEX import_open ON import (id) WHERE state IN ('waiting', 'running');
CREATE INDEX import_organisation ON import (organisation_id, id);
CREATE TABLE import_piece (
    import_id  integer NOT NULL REFERENCES import ON DELETE CASCADE,
    position   integer NOT NULL,
    bytes      bytea NOT NULL,
    PRIMARY KEY (import_id, position)
);
ALTER TABLE import_piece ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE import_reject (
    import_id  integer NOT NULL REFERENCES import ON DELETE CASCADE,
    line       bigint NOT NULL,
    reason     text NOT NULL,
    row        text NOT NULL,
    PRIMARY KEY (import_id, line)
);
"""

CAMPAIGNS = """
CREATE TABLE segment (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    name            text NOT NULL,
    condition       jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX segment_name ON segment (organisation_id, lower(name));
-- A provider account. `url` names provider, host and credentials; it is encrypted, and never shown again.
CREATE TABLE pool (
    id              smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    name            text NOT NULL,
    provider        text NOT NULL,
    url             bytea NOT NULL,
    shown_url       text NOT NULL,
    batch           integer NOT NULL DEFAULT 50 CHECK (batch BETWEEN 1 AND 1000),
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
    reason          text,
    resume_at       timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX pool_name ON pool (organisation_id, lower(name));
CREATE TABLE sender (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    pool_id         smallint NOT NULL REFERENCES pool,
    name            text NOT NULL,
    address         text NOT NULL,
    reply_to        text,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX sender_address ON sender (organisation_id, lower(address), lower(name));
CREATE TABLE campaign (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    owner_id        integer NOT NULL REFERENCES "user",
    sender_id       integer REFERENCES sender,
    segment_id      integer REFERENCES segment,
    name            text NOT NULL,
    state           text NOT NULL DEFAULT 'draft' CHECK (state IN
                    ('draft', 'scheduled', 'sending', 'settling', 'paused', 'finished', 'cancelled')),
    notice          text,                       -- why it stands still, in a sentence for its owner
    start_at        timestamptz,                -- null: when launched
    run             smallint NOT NULL DEFAULT 0,
    weight          real NOT NULL DEFAULT 1 CHECK (weight > 0),
    condition       jsonb,                      -- the segment as it was when the audience was frozen
    audience        integer,                    -- leads frozen, all runs' first ranges of run 1
    exclusions      jsonb NOT NULL DEFAULT '{}',-- reason -> leads left out when the audience was frozen
    unknown_policy  text NOT NULL DEFAULT 'hold' CHECK (unknown_policy IN ('hold', 'resend', 'leave')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    launched_at     timestamptz,
    finished_at     timestamptz
);
CREATE INDEX campaign_organisation ON campaign (organisation_id, id);
CREATE INDEX campaign_open ON campaign (state, id) WHERE state IN ('scheduled', 'sending', 'settling', 'paused');
CREATE INDEX campaign_closing ON campaign (id) WHERE state = 'cancelled' AND finished_at IS NULL;
-- What a campaign says; compiled when saved, frozen once launched.
CREATE TABLE content (
    campaign_id  integer NOT NULL REFERENCES campaign ON DELETE CASCADE,
    variant      smallint NOT NULL DEFAULT 0,
    version      integer NOT NULL DEFAULT 1,
    subject      text NOT NULL DEFAULT '',
    html         text NOT NULL DEFAULT '',
    text         text NOT NULL DEFAULT '',      -- empty: made from the HTML
    compiled     jsonb,                         -- static text and numbered slots; null while it has faults
    PRIMARY KEY (campaign_id, variant)
);
-- Click targets by number, so that an event carries four bytes. Filled by link tracking; reports name them.
CREATE TABLE link (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  integer NOT NULL REFERENCES campaign ON DELETE CASCADE,
    position     smallint NOT NULL,
    url          text NOT NULL,
    UNIQUE (campaign_id, position)
);
"""

WORK = """
-- Ranges. Every lead of `lead_ids` before `position` stands in a hand-off or was skipped; from there on nothing was
-- done yet. Settled and skipped leads are counted here, so that progress is a sum over ranges.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  integer NOT NULL REFERENCES campaign,
    parent_id    bigint REFERENCES outbox,      -- the range these leads were put off from
    run          smallint NOT NULL,
    attempts     smallint NOT NULL DEFAULT 0,   -- how often the provider has put these leads off
    crashes      smallint NOT NULL DEFAULT 0,   -- how often a worker died holding it
    state        text NOT NULL DEFAULT 'ready'
                 CHECK (state IN ('ready', 'leased', 'done', 'cancelled', 'quarantined')),
    due_at       timestamptz NOT NULL,
    owner        uuid,
    fence        integer NOT NULL DEFAULT 0,
    lease_until  timestamptz,
    size         integer NOT NULL,
    position     integer NOT NULL DEFAULT 0,
    sent         integer NOT NULL DEFAULT 0,
    refused      integer NOT NULL DEFAULT 0,
    failed       integer NOT NULL DEFAULT 0,
    skipped      integer NOT NULL DEFAULT 0,
    cancelled    integer NOT NULL DEFAULT 0,
    unknown      integer NOT NULL DEFAULT 0,
    moved        integer NOT NULL DEFAULT 0,    -- put off into a later range, and counted there
    first_lead   bigint NOT NULL,               -- the span of lead_ids: a lead's campaigns are found through it
    last_lead    bigint NOT NULL,
    lead_ids     bigint[] NOT NULL,
    deferred_since timestamptz,                 -- when these leads were first put off
    CHECK (size = cardinality(lead_ids)),
    CHECK (position BETWEEN 0 AND size),
    CHECK (sent + refused + failed + skipped + cancelled + unknown + moved <= size),
    CHECK (state NOT IN ('done', 'cancelled')
           OR sent + refused + failed + skipped + cancelled + unknown + moved = size),
    -- what waits was accounted for as far as it was handed over: nothing hangs between position and the counts
    CHECK (state <> 'ready' OR sent + refused + failed + skipped + cancelled + unknown + moved = position),
    CHECK ((state = 'leased') = (lease_until IS NOT NULL))
);
-- Out of line and uncompressed: a claim or a settle then rewrites 150 bytes, not 8 kB.
ALTER TABLE outbox ALTER COLUMN lead_ids SET STORAGE EXTERNAL;
CREATE INDEX outbox_ready ON outbox (campaign_id, due_at, id) WHERE state = 'ready';
CREATE INDEX outbox_leased ON outbox (campaign_id, lease_until) WHERE state = 'leased';
CREATE INDEX outbox_campaign ON outbox (campaign_id, first_lead);
CREATE INDEX outbox_parent ON outbox (parent_id) WHERE parent_id IS NOT NULL;
-- One provider call, written before it is made. `outcomes` holds one letter a lead, in the order of `lead_ids`:
-- s sent, r refused, f failed, d put off, u unknown. `refs` holds the provider's own ids: one a lead, or one for all.
CREATE TABLE handoff (
    id           bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    range_id     bigint NOT NULL,               -- no foreign key: its check would lock a row that is being counted in
    campaign_id  integer NOT NULL,
    pool_id      smallint NOT NULL,
    run          smallint NOT NULL,
    variant      smallint NOT NULL DEFAULT 0,
    state        text NOT NULL DEFAULT 'handed' CHECK (state IN ('handed', 'settled', 'unknown')),
    key          uuid NOT NULL,
    handed_at    timestamptz NOT NULL DEFAULT now(),
    settled_at   timestamptz,
    lead_ids     bigint[] NOT NULL,
    outcomes     text,
    refs         text[],
    answer       text,                          -- what the provider said when a call failed as a whole
    frozen       bytea,                         -- the call itself, kept while it may be repeated under its key
    CHECK (outcomes IS NULL OR length(outcomes) = cardinality(lead_ids)),
    CHECK ((state = 'handed') = (outcomes IS NULL))
) WITH (fillfactor = 50); -- no index knows its state: settling is an update in the same page
CREATE INDEX handoff_range ON handoff (range_id);
-- Which processes are up: the clock's and the workers' beats. `millrace doctor` and the pages look here.
CREATE TABLE process (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('web', 'worker', 'clock')),
    host        text NOT NULL,
    pid         integer NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now()
);
"""

TABLES = (
    "process handoff outbox link content campaign sender pool segment import_reject import_piece import suppression"
    ' attribute lead domain login "user" organisation'
)


def upgrade() -> None:
    for part in (PEOPLE, LEADS, CAMPAIGNS, WORK):
        op.execute(part)


def downgrade() -> None:
    for table in TABLES.split():
        op.execute(f"DROP TABLE {table}")
