"""A test of two subjects in the model of the outbox: what it is made of, and what must hold of it after every step."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from app.mail import Batch
from app.models.field import load_fields
from app.models.template import compile_content
from tests import world

OTHER = "Other"  # the second variant's subject
OTHERWISE = """
SELECT each.lead_id FROM handoff CROSS JOIN unnest(lead_ids) AS each (lead_id)
 GROUP BY each.lead_id HAVING count(DISTINCT variant) > 1
 UNION ALL
SELECT handoff.id FROM handoff JOIN outbox ON outbox.id = handoff.range_id WHERE handoff.variant <> outbox.variant
 UNION ALL
SELECT outbox.id FROM outbox JOIN outbox AS parent ON parent.id = outbox.parent_id
 WHERE (parent.variant, parent.rest) <> (outbox.variant, outbox.rest)
 UNION ALL
SELECT outbox.id FROM outbox JOIN variant_test USING (campaign_id)
 WHERE outbox.variant IS DISTINCT FROM CASE WHEN rest THEN winner ELSE outbox.variant END
    OR (winner IS NOT NULL AND outbox.variant = -1 AND outbox.state <> 'cancelled')
"""


def add_variant(conn: Connection, organisation_id: int) -> None:
    """The only campaign gets a second subject; six of ten leads are in the test."""
    compiled = compile_content(OTHER, world.HTML, "", load_fields(conn, organisation_id)).to_json()
    conn.execute(
        text(
            "INSERT INTO content (campaign_id, variant, subject, compiled)"
            " SELECT id, 1, :other, :compiled FROM campaign"
        ),
        {"other": OTHER, "compiled": Jsonb(compiled)},
    )
    conn.execute(
        text(
            "INSERT INTO variant_test (campaign_id, share, wait, goal) SELECT id, 60, '1 hour', 'clicked' FROM campaign"
        )
    )


def check_variants(conn: Connection, calls: Iterable[Batch]) -> None:
    """Everybody is sent the content of their range, the same each time; who waits for a winner is sent nothing."""
    given = {row.id: row.variant for row in conn.execute(text("SELECT id, variant FROM handoff"))}
    for batch in calls:
        assert (batch.content.subject.static[0] == OTHER) == (given[batch.handoff_id] == 1), "another's content"
    strange = conn.execute(text(OTHERWISE)).all()
    assert not strange, f"somebody was to be sent two contents, or another one than was chosen: {strange}"
