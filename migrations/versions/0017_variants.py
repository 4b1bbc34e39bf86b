"""Variants of a campaign, and the test that chooses among them."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# -1: these leads wait for the winner of a test, and so for no time at all. Whoever gives them one anyway, before they
# have a content, is stopped here and not at the provider. `rest`: their content was the winner of a test.
RANGES = """
ALTER TABLE outbox
    ADD COLUMN variant smallint NOT NULL DEFAULT 0 CHECK (variant BETWEEN -1 AND 4),
    ADD COLUMN rest    boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT outbox_waits_for_winner CHECK (variant >= 0 OR due_at = 'infinity');
"""

# A campaign has a row here while it has more than one content.
TEST = """
CREATE TABLE variant_test (
    campaign_id  integer PRIMARY KEY REFERENCES campaign ON DELETE CASCADE,
    share        smallint NOT NULL CHECK (share BETWEEN 1 AND 100), -- percent of the audience; 100: nobody waits
    wait         interval NOT NULL CHECK (wait >= interval '0'),    -- from the last email of the test to the choice
    goal         text NOT NULL CHECK (goal IN ('clicked', 'opened')),
    decide_at    timestamptz,                  -- null: emails of the test have still to go
    winner       smallint CHECK (winner BETWEEN 0 AND 4),
    chosen_at    timestamptz,
    by_hand      boolean NOT NULL DEFAULT false,
    chosen_by    integer REFERENCES "user",    -- by hand and null: an operator
    figures      jsonb,                        -- what they were when it was chosen
    CHECK ((winner IS NULL) = (chosen_at IS NULL)),
    CHECK (by_hand OR chosen_by IS NULL)
);
CREATE INDEX variant_test_open ON variant_test (campaign_id) WHERE winner IS NULL AND share < 100;
"""

# In which of the contents a link stands: one bit a variant. Whoever follows all links of an email is no person.
LINKS = """
ALTER TABLE link ADD COLUMN variants smallint NOT NULL DEFAULT 1;
"""


def upgrade() -> None:
    for part in (RANGES, TEST, LINKS):
        op.execute(part)


def downgrade() -> None:
    op.execute("ALTER TABLE link DROP COLUMN variants")
    op.execute("DROP TABLE variant_test")
    op.execute("ALTER TABLE outbox DROP COLUMN variant, DROP COLUMN rest")
