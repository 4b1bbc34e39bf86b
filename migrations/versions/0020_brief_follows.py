"""Brief sums are made once what they are made from stands: at times they were short by five minutes, for half of one.

The policies of both ran at the same moment. A brief refresh then passed over the five minutes that the other was about
to write, and found them at its next turn.
"""

from alembic import op
from sqlalchemy import text

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# How long a bucket is over before it is made: what it is made from was made by then. Until then it is summed live.
AFTER = {"brief_5min": "5 minutes", "brief_hour": "15 minutes"}
BEFORE = {"brief_5min": "0 seconds", "brief_hour": "5 minutes"}
MOVE = """
SELECT alter_job(job_id, config_merge => jsonb_build_object('end_offset', CAST(:ends AS jsonb) -> hypertable_name))
  FROM timescaledb_information.jobs
 WHERE proc_name = 'policy_refresh_continuous_aggregate'
   AND hypertable_schema = current_schema()
   AND CAST(:ends AS jsonb) ? hypertable_name
"""


def upgrade() -> None:
    _move(AFTER)


def downgrade() -> None:
    _move(BEFORE)


def _move(ends: dict[str, str]) -> None:
    """Nothing on the Apache edition, which has no policies."""
    written = ", ".join(f'"{name}": "{end}"' for name, end in ends.items())
    op.get_bind().execute(text(MOVE), {"ends": "{" + written + "}"})
