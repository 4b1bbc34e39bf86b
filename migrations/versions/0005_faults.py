"""What remains to be known after a fault, who is told, and what providers say by webhook.

An unknown hand-off is found by `unknown_since` and made again at `repeat_at`: partial indexes over columns that an
ordinary settle leaves as they are, so that it stays an update within its page.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WORK = """
ALTER TABLE handoff
    ADD COLUMN unknown_since timestamptz,       -- null: every lead has its outcome
    ADD COLUMN repeat_at     timestamptz,       -- when the frozen call is made again under its key; null: it is not
    ADD COLUMN repeat_until  timestamptz,       -- until when its provider honours its key
    ADD COLUMN repeats       smallint NOT NULL DEFAULT 0,
    ADD COLUMN look_up_at    timestamptz,       -- when its provider is asked what became of it; null: it is not
    ADD COLUMN evidence      bigint[],          -- leads of which webhooks spoke before the call was settled
    ADD CHECK ((state = 'unknown') = (unknown_since IS NOT NULL)),
    ADD CHECK (repeat_at IS NULL OR (state = 'unknown' AND frozen IS NOT NULL));
CREATE INDEX handoff_unknown ON handoff (campaign_id, id) WHERE unknown_since IS NOT NULL;
CREATE INDEX handoff_repeat ON handoff (repeat_at) WHERE repeat_at IS NOT NULL;
CREATE INDEX handoff_look_up ON handoff (look_up_at) WHERE look_up_at IS NOT NULL;
COMMENT ON COLUMN handoff.outcomes IS 's sent, r refused, f failed, d put off, u unknown, l left (a person or the'
    ' campaign''s policy gave an unknown one up: it counts as failed), a sent again (an unknown one, in a later range)';
-- Leads that are sent again though it is not known whether the first call took them: never a second time by itself.
ALTER TABLE outbox ADD COLUMN resent boolean NOT NULL DEFAULT false;
ALTER TABLE campaign ADD COLUMN look_at timestamptz; -- its sums differ: when they are compared again
"""

POOLS = """
ALTER TABLE pool
    ADD COLUMN failures       smallint NOT NULL DEFAULT 0, -- tries in a row that found the provider down
    ADD COLUMN probe_until    timestamptz,                 -- one page tries whether it is back, until then
    ADD COLUMN webhook_token  text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', ''), -- its webhooks' address
    ADD COLUMN webhook_secret bytea;                       -- encrypted; null: its webhooks are not taken
CREATE UNIQUE INDEX pool_webhook_token ON pool (webhook_token);
-- Whether a pool's webhooks arrive, and how late: `lags[n]` counts first words about an email that came within 2^(n-1)
-- seconds of its call.
CREATE TABLE pool_webhook (
    pool_id    smallint PRIMARY KEY REFERENCES pool ON DELETE CASCADE,
    seen_at    timestamptz NOT NULL,            -- when the last one came
    handed_at  timestamptz,                     -- when the youngest call of which one spoke was handed over
    lags       bigint[] NOT NULL,
    events     bigint NOT NULL DEFAULT 0,       -- events that were new and ours
    repeated   bigint NOT NULL DEFAULT 0,       -- told before
    late       bigint NOT NULL DEFAULT 0,       -- too old to be told from a repeat, and not taken
    unmatched  bigint NOT NULL DEFAULT 0        -- of emails that this pool did not send
);
"""

ALERTS = """
-- One condition that a person must know of, from when it began until it cleared. `subject` is the campaign's or the
-- pool's id, as the kind says. A dismissed one is no longer shown; it keeps its place until it clears, so that what
-- goes on being found is not told anew at once.
CREATE TABLE alert (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id  integer NOT NULL REFERENCES organisation,
    kind             text NOT NULL,
    subject          bigint NOT NULL,
    campaign_id      integer REFERENCES campaign ON DELETE CASCADE,
    pool_id          smallint REFERENCES pool ON DELETE CASCADE,
    message          text NOT NULL,
    raised_at        timestamptz NOT NULL DEFAULT now(),
    seen_at          timestamptz NOT NULL DEFAULT now(), -- when the condition was last found
    times            integer NOT NULL DEFAULT 1,
    dismissed_at     timestamptz,
    dismissed_by     integer REFERENCES "user",
    cleared_at       timestamptz,
    CHECK ((dismissed_at IS NULL) = (dismissed_by IS NULL))
);
CREATE UNIQUE INDEX alert_standing ON alert (kind, subject) WHERE cleared_at IS NULL;
CREATE INDEX alert_open ON alert (organisation_id, id) WHERE cleared_at IS NULL AND dismissed_at IS NULL;
CREATE INDEX alert_organisation ON alert (organisation_id, id);
-- One message about an alert to one reader: a user by email, or (user_id is null) the operator's webhook.
CREATE TABLE alert_notice (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id    bigint NOT NULL REFERENCES alert ON DELETE CASCADE,
    about       text NOT NULL CHECK (about IN ('raised', 'cleared')),
    user_id     integer REFERENCES "user",
    key         uuid NOT NULL DEFAULT gen_random_uuid(), -- the same at every try: receivers can tell a repeat
    created_at  timestamptz NOT NULL DEFAULT now(),
    due_at      timestamptz DEFAULT now(),  -- when it is tried next; null: never again
    tries       smallint NOT NULL DEFAULT 0,
    done_at     timestamptz,                -- when it was delivered
    error       text                        -- why the last try failed
);
CREATE INDEX alert_notice_due ON alert_notice (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX alert_notice_alert ON alert_notice (alert_id);
"""

WEBHOOKS = """
-- What providers posted, kept before it is acknowledged, read soon after.
CREATE TABLE webhook (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at  timestamptz NOT NULL DEFAULT now(),
    read_at      timestamptz,
    retry_at     timestamptz NOT NULL DEFAULT now(),
    unmatched    integer NOT NULL DEFAULT 0,    -- events in it that belong to no email of this pool
    pool_id      smallint NOT NULL,             -- no foreign key: its check would lock the pool's row for every post
    tries        smallint NOT NULL DEFAULT 0,   -- that failed; it is not tried for ever
    error        text,                          -- why it could not be read
    delivery     text NOT NULL,                 -- the provider's id of the post itself, which stands in a header
    body         bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX webhook_waiting ON webhook (pool_id, id) WHERE read_at IS NULL AND tries < 3;
CREATE INDEX webhook_set_aside ON webhook (pool_id) WHERE read_at IS NULL AND tries >= 3;
CREATE INDEX webhook_received ON webhook (received_at);
-- Events seen, by the provider's own id: 16 bytes of its digest under the provider's own day, dropped after days.
CREATE TABLE webhook_event (
    day  date NOT NULL,
    key  uuid NOT NULL,
    PRIMARY KEY (day, key)
) PARTITION BY RANGE (day);
-- Makes the days from `kept` before today (UTC's) until the day after tomorrow, and drops those before them. Attaching
-- disturbs nobody; dropping waits for readers at most two seconds, and is tried again.
CREATE FUNCTION keep_webhook_days(kept integer) RETURNS integer LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    made integer := 0;
    next date;
    part text;
    old text;
BEGIN
    PERFORM pg_advisory_xact_lock(7203193);
    FOR back IN -2 .. kept LOOP
        next := today - back;
        part := 'webhook_event_' || to_char(next, 'YYYYMMDD');
        IF to_regclass(part) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE webhook_event INCLUDING ALL)', part);
            EXECUTE format('ALTER TABLE webhook_event ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                part, next, next + 1);
            made := made + 1;
        END IF;
    END LOOP;
    FOR old IN
        SELECT relname
        FROM pg_inherits
        JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'webhook_event'::regclass
          AND relname < 'webhook_event_' || to_char(today - kept, 'YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE %I', old);
    END LOOP;
    RETURN made;
END $$;
"""


def upgrade() -> None:
    for part in (WORK, POOLS, ALERTS, WEBHOOKS):
        op.execute(part)


def downgrade() -> None:
    op.execute("DROP TABLE webhook_event, webhook, alert_notice, alert, pool_webhook")
    op.execute("DROP FUNCTION keep_webhook_days(integer)")
    op.execute(
        "ALTER TABLE pool DROP COLUMN failures, DROP COLUMN probe_until, DROP COLUMN webhook_token,"
        " DROP COLUMN webhook_secret"
    )
    op.execute("ALTER TABLE outbox DROP COLUMN resent")
    op.execute("ALTER TABLE campaign DROP COLUMN look_at")
    op.execute(
        "ALTER TABLE handoff DROP COLUMN unknown_since, DROP COLUMN repeat_at, DROP COLUMN repeats,"
        " DROP COLUMN repeat_until, DROP COLUMN look_up_at, DROP COLUMN evidence"
    )
    op.execute("COMMENT ON COLUMN handoff.outcomes IS NULL")
