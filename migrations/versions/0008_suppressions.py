"""Suppressions for one sender or for all, soft bounces on their way to one, and how long raw webhooks are kept."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SUPPRESSIONS = """
-- One row an address and sender, with the gravest reason that there is, and of equal ones the earliest: so that it does
-- not matter in which order they become known.
ALTER TABLE suppression
    DROP CONSTRAINT suppression_pkey,
    DROP CONSTRAINT suppression_reason_check,
    ADD COLUMN sender_id integer NOT NULL DEFAULT 0,        -- 0: whoever an email is from
    ADD COLUMN happened_at timestamptz,                     -- when it bounced, when they pressed the button
    ADD COLUMN user_id integer REFERENCES "user",           -- who entered it, where a person did
    ADD CHECK (reason IN ('complained', 'unsubscribed', 'bounced', 'manual', 'soft_bounced')),
    ADD PRIMARY KEY (organisation_id, email, sender_id);
UPDATE suppression SET happened_at = created_at;
ALTER TABLE suppression
    ALTER COLUMN happened_at SET NOT NULL,
    ALTER COLUMN happened_at SET DEFAULT now();
-- What was taken back: who is mailed again, since when, and who has answered for it.
CREATE TABLE suppression_removed (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    email           text COLLATE "C" NOT NULL,
    sender_id       integer NOT NULL,
    reason          text NOT NULL,
    source          text NOT NULL,
    created_at      timestamptz NOT NULL,                   -- of the suppression
    removed_at      timestamptz NOT NULL DEFAULT now(),
    removed_by      integer REFERENCES "user",              -- null: by command, or by what became known
    note            text NOT NULL DEFAULT ''
);
CREATE INDEX suppression_removed_email ON suppression_removed (organisation_id, email);
"""

BOUNCES = """
-- Since when a lead has this address, where a person has mended it: what was sent before came back from another one.
ALTER TABLE lead ADD COLUMN address_since timestamptz;
-- Soft bounces of the last weeks. A row does not say that an address is bad; three of them, of two campaigns, within 30
-- days and with no delivery between, do.
CREATE TABLE soft_bounce (
    lead_id         bigint NOT NULL,
    handoff_id      bigint NOT NULL,
    campaign_id     integer NOT NULL,
    happened_at     timestamptz NOT NULL,
    delivered_at    timestamptz,                            -- the first delivery to the lead since
    PRIMARY KEY (lead_id, handoff_id, happened_at)
);
-- How many emails of a campaign were turned away for what they say or where they come from; and how many it were when
-- its owner was told.
CREATE TABLE campaign_blocked (
    campaign_id     integer PRIMARY KEY REFERENCES campaign ON DELETE CASCADE,
    total           integer NOT NULL,
    told            integer NOT NULL DEFAULT 0
);
"""

WEBHOOKS = """
ALTER TABLE webhook
    ADD COLUMN events integer NOT NULL DEFAULT 0,           -- that were in it and new
    ADD COLUMN again boolean NOT NULL DEFAULT false;        -- it was read before, and is read anew
CREATE INDEX webhook_unmatched ON webhook (id) WHERE unmatched > 0;
-- How long posts that were read are kept: in days; null as the environment says.
CREATE TABLE webhook_retention (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    days    integer CHECK (days BETWEEN 1 AND 400)
);
INSERT INTO webhook_retention DEFAULT VALUES;
"""

UNDO = """
DROP TABLE webhook_retention;
DROP INDEX webhook_unmatched;
ALTER TABLE webhook DROP COLUMN again, DROP COLUMN events;
ALTER TABLE lead DROP COLUMN address_since;
DELETE FROM alert WHERE kind = 'blocked';
DROP TABLE campaign_blocked;
DROP TABLE soft_bounce;
DROP TABLE suppression_removed;
DELETE FROM suppression WHERE sender_id <> 0;
UPDATE suppression SET reason = 'bounced' WHERE reason = 'soft_bounced';
ALTER TABLE suppression
    DROP CONSTRAINT suppression_pkey,
    DROP CONSTRAINT suppression_reason_check,
    DROP COLUMN user_id,
    DROP COLUMN happened_at,
    DROP COLUMN sender_id,
    ADD CHECK (reason IN ('unsubscribed', 'complained', 'bounced', 'manual')),
    ADD PRIMARY KEY (organisation_id, email);
"""


def upgrade() -> None:
    for part in (SUPPRESSIONS, BOUNCES, WEBHOOKS):
        op.execute(part)


def downgrade() -> None:
    op.execute(UNDO)
