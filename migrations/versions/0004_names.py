"""For people who write SQL: the reports' numbers with names beside them.

The views run with their owner's rights, so readers need none on the tables below: no lead, no address, no content.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAMES = """
CREATE VIEW report_organisation AS SELECT id, name FROM organisation;
CREATE VIEW report_user AS SELECT id, organisation_id, name, email FROM "user";
CREATE VIEW report_pool AS SELECT id, organisation_id, name, provider FROM pool;
CREATE VIEW report_domain AS SELECT id, name FROM domain;
CREATE VIEW report_link AS
    SELECT link.id, campaign.organisation_id, link.campaign_id, link.position, link.url
    FROM link JOIN campaign ON campaign.id = link.campaign_id;
CREATE VIEW report_campaign AS
    SELECT campaign.id, campaign.organisation_id, campaign.owner_id AS user_id, campaign.name, campaign.state,
           campaign.audience, campaign.created_at, campaign.launched_at, campaign.finished_at,
           sender.name AS sender, sender.address AS sender_address, segment.name AS segment
    FROM campaign
    LEFT JOIN sender ON sender.id = campaign.sender_id
    LEFT JOIN segment ON segment.id = campaign.segment_id;
"""

# Left joins on primary keys: the planner leaves out those whose names a query does not ask for.
NAMED = """
CREATE VIEW {name}_named AS
    SELECT report.bucket,
           report.organisation_id, organisation.name AS organisation,
           report.user_id, "user".name AS user_name, "user".email AS user_email,
           report.campaign_id, campaign.name AS campaign,
           {details}report.pool_id, pool.name AS pool,
           report.kind, report.variant, report.run, report.machine, report.message, report.total
    FROM {name} report
    LEFT JOIN organisation ON organisation.id = report.organisation_id
    LEFT JOIN "user" ON "user".id = report.user_id
    LEFT JOIN campaign ON campaign.id = report.campaign_id
    LEFT JOIN pool ON pool.id = report.pool_id
"""
DETAILS = "report.domain_id, domain.name AS domain, report.link_id, link.url AS link, "
DETAILED = "LEFT JOIN domain ON domain.id = report.domain_id LEFT JOIN link ON link.id = report.link_id"

SUMS = tuple(f"{kind}_{level}" for kind in ("report", "brief") for level in ("5min", "hour", "day"))
NOUNS = ("organisation", "user", "pool", "domain", "link", "campaign")
VIEWS = (*(f"{name}_named" for name in SUMS), *(f"report_{noun}" for noun in NOUNS))

GRANT = """
DO $$
BEGIN
    IF to_regrole('millrace_reader') IS NOT NULL THEN
        GRANT SELECT ON {views} TO millrace_reader;
    END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(NAMES)
    for name in SUMS:
        in_detail = name.startswith("report")
        op.execute(NAMED.format(name=name, details=DETAILS if in_detail else "") + (DETAILED if in_detail else ""))
    op.execute(GRANT.format(views=", ".join(VIEWS)))


def downgrade() -> None:
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW {view}")
