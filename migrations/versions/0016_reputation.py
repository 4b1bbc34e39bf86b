"""Warm-up, shaping, purposes of pools, rates of campaigns, and the standing of senders."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

WARM_UPS = """
-- A pool, or a domain that an organisation sends from, whose ceiling grows day by day (UTC's): `curve[n]` emails in any
-- 24 hours of its nth day. Before its first day the first ceiling holds, after its last one none.
CREATE TABLE warm_up (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    pool_id         smallint REFERENCES pool ON DELETE CASCADE,
    domain          text CHECK (domain = lower(domain)),
    starts_on       date NOT NULL,
    curve           integer[] NOT NULL CHECK (cardinality(curve) BETWEEN 1 AND 366 AND 1 <= ALL (curve)),
    changed_at      timestamptz NOT NULL DEFAULT now(),
    paced_until     timestamptz,                -- it is used up: nothing is claimed for it before
    CHECK (num_nonnulls(pool_id, domain) = 1)
);
CREATE UNIQUE INDEX warm_up_pool ON warm_up (pool_id) WHERE pool_id IS NOT NULL;
CREATE UNIQUE INDEX warm_up_domain ON warm_up (organisation_id, domain) WHERE domain IS NOT NULL;
-- As pool_spent: what was sent, in steps of ten minutes.
CREATE TABLE warm_up_spent (
    warm_up_id  integer NOT NULL REFERENCES warm_up ON DELETE CASCADE,
    slot        timestamptz NOT NULL,
    spent       integer NOT NULL,
    PRIMARY KEY (warm_up_id, slot)
);
"""

RATES = """
-- How fast a campaign may go, as a person has set it. Apart from the campaign, whose row everybody reads.
CREATE TABLE campaign_rate (
    campaign_id integer PRIMARY KEY REFERENCES campaign ON DELETE CASCADE,
    emails      integer NOT NULL CHECK (emails > 0),
    per         text NOT NULL CHECK (per IN ('second', 'minute', 'hour')),
    per_second  double precision NOT NULL CHECK (per_second > 0),
    burst       integer NOT NULL CHECK (burst > 0),
    changed_at  timestamptz NOT NULL DEFAULT now(),
    paced_until timestamptz
);
"""

SHAPING = """
-- An organisation's own rules, and those that take the place of one that is shipped (`shipped` is its key).
CREATE TABLE shaping_rule (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id integer NOT NULL REFERENCES organisation,
    shipped         text,
    receiver        text NOT NULL,              -- a receiver, a domain, or '*': whoever it is
    pattern         text NOT NULL CHECK (length(pattern) BETWEEN 3 AND 300),
    per_second      double precision CHECK (per_second > 0),    -- null: nothing goes at all
    seconds         integer NOT NULL CHECK (seconds BETWEEN 60 AND 604800),
    enabled         boolean NOT NULL DEFAULT true
);
CREATE UNIQUE INDEX shaping_rule_shipped ON shaping_rule (organisation_id, shipped) WHERE shipped IS NOT NULL;
CREATE INDEX shaping_rule_organisation ON shaping_rule (organisation_id, id);
-- What rules have done: in effect until `until`, or until a person lifted it.
CREATE TABLE shaping (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pool_id     smallint NOT NULL REFERENCES pool ON DELETE CASCADE,
    receiver    text NOT NULL,
    rule        text NOT NULL,                  -- the key of a shipped rule, or the number of an own one
    pattern     text NOT NULL,
    reply       text NOT NULL,                  -- the newest one that it was found in
    per_second  double precision,               -- null: nothing goes at all
    began_at    timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    until       timestamptz NOT NULL,
    replies     integer NOT NULL,
    ended_at    timestamptz,
    lifted_by   integer REFERENCES "user"
);
CREATE UNIQUE INDEX shaping_in_effect ON shaping (pool_id, receiver, rule) WHERE ended_at IS NULL;
CREATE INDEX shaping_pool ON shaping (pool_id, id);
CREATE INDEX shaping_ending ON shaping (until) WHERE ended_at IS NULL;
-- What is in effect stands beside the limit that a person has set; a row may be here for that alone.
ALTER TABLE pool_limit
    ADD COLUMN shaped_per_second double precision CHECK (shaped_per_second > 0),
    ADD COLUMN shaped_until      timestamptz,
    ADD COLUMN stopped_until     timestamptz;
-- The limits as they are now.
CREATE VIEW pool_pace AS
SELECT pool_id, receiver,
       CASE WHEN shaped_until > now() THEN least(per_second, shaped_per_second) ELSE per_second END AS per_second,
       CASE
           WHEN shaped_until > now() AND shaped_per_second < coalesce(per_second, shaped_per_second + 1)
           THEN greatest(1, ceil(shaped_per_second))::integer
           ELSE burst
       END AS burst,
       per_day, changed_at, stopped_until,
       greatest(paced_until, stopped_until) AS paced_until
  FROM pool_limit;
"""

STANDING = """
ALTER TABLE pool
    ADD COLUMN purpose text NOT NULL DEFAULT 'any'
               CHECK (purpose IN ('any', 'marketing', 'transactional', 'dedicated'));
-- `moved_to` carries a sender that is trusted (what it markets) or quarantined (all of it), whatever pools it names.
ALTER TABLE sender
    ADD COLUMN transactional_pool_id smallint REFERENCES pool,  -- null: messages go the way of campaigns
    ADD COLUMN state       text NOT NULL DEFAULT 'good' CHECK (state IN ('good', 'trusted', 'quarantined', 'paused')),
    ADD COLUMN moved_to    smallint REFERENCES pool,
    ADD COLUMN moved_at    timestamptz NOT NULL DEFAULT now(),  -- when its state began
    ADD COLUMN judged_from timestamptz,                         -- what was before does not count any more
    ADD CHECK (state <> 'quarantined' OR moved_to IS NOT NULL);
CREATE FUNCTION first_pool(sender sender, transactional boolean) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
               WHEN sender.state = 'quarantined' THEN sender.moved_to
               WHEN transactional THEN coalesce(sender.transactional_pool_id, sender.pool_id)
               WHEN sender.state = 'trusted' THEN coalesce(sender.moved_to, sender.pool_id)
               ELSE sender.pool_id
           END
$$;
-- None for a sender in quarantine: its emails must not reach others' pools by way of a failover.
CREATE FUNCTION second_pool(sender sender) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN sender.state <> 'quarantined' THEN sender.second_pool_id END
$$;
-- When a sender is moved. Shares are of the emails sent, within the last `days`.
CREATE TABLE standing_policy (
    organisation_id     integer PRIMARY KEY REFERENCES organisation,
    days                smallint NOT NULL DEFAULT 7 CHECK (days BETWEEN 1 AND 90),
    bounced_after       integer NOT NULL DEFAULT 500 CHECK (bounced_after > 0),
    bounced_share       double precision NOT NULL DEFAULT 0.05 CHECK (bounced_share > 0 AND bounced_share <= 1),
    complained_after    integer NOT NULL DEFAULT 1000 CHECK (complained_after > 0),
    complained_share    double precision NOT NULL DEFAULT 0.003 CHECK (complained_share > 0 AND complained_share <= 1),
    quarantine_pool_id  smallint REFERENCES pool ON DELETE SET NULL,
    back_after_days     smallint NOT NULL DEFAULT 7 CHECK (back_after_days BETWEEN 1 AND 365),
    better_pool_id      smallint REFERENCES pool ON DELETE SET NULL,
    better_after_days   smallint NOT NULL DEFAULT 30 CHECK (better_after_days BETWEEN 1 AND 365),
    better_after        integer NOT NULL DEFAULT 10000 CHECK (better_after > 0)
);
-- Every move of a sender, with the figures that it was made for; `moved_by` is null where a rule made it.
CREATE TABLE sender_move (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender_id   integer NOT NULL REFERENCES sender ON DELETE CASCADE,
    moved_at    timestamptz NOT NULL DEFAULT now(),
    came_from   text NOT NULL,
    went_to     text NOT NULL,
    pool_id     smallint REFERENCES pool ON DELETE SET NULL,
    moved_by    integer REFERENCES "user",
    reason      text NOT NULL,
    sent        bigint NOT NULL,
    bounced     bigint NOT NULL,
    complained  bigint NOT NULL
);
CREATE INDEX sender_move_sender ON sender_move (sender_id, id);
ALTER TABLE alert
    ADD COLUMN sender_id integer REFERENCES sender ON DELETE CASCADE;
"""


def upgrade() -> None:
    for part in (WARM_UPS, RATES, SHAPING, STANDING):
        op.execute(part)


def downgrade() -> None:
    op.execute("ALTER TABLE alert DROP COLUMN sender_id")
    op.execute("DROP TABLE sender_move, standing_policy")
    op.execute("DROP FUNCTION first_pool(sender, boolean)")
    op.execute("DROP FUNCTION second_pool(sender)")
    op.execute(
        "ALTER TABLE sender DROP COLUMN transactional_pool_id, DROP COLUMN state, DROP COLUMN moved_to,"
        " DROP COLUMN moved_at, DROP COLUMN judged_from"
    )
    op.execute("ALTER TABLE pool DROP COLUMN purpose")
    op.execute("DROP VIEW pool_pace")
    op.execute(
        "ALTER TABLE pool_limit DROP COLUMN shaped_per_second, DROP COLUMN shaped_until, DROP COLUMN stopped_until"
    )
    op.execute("DELETE FROM pool_limit WHERE per_second IS NULL AND per_day IS NULL")
    op.execute("DROP TABLE shaping, shaping_rule, campaign_rate, warm_up_spent, warm_up")
