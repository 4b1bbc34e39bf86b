"""What waits for its time, moved to another one: a row and its shelf belong together."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import text

from app.runtime import Runtime
from app.shelves import shelf_of

TAKE: Final = "DELETE FROM message_due RETURNING due_at, first_id, campaign_id, size, message_ids"
PUT: Final = """
INSERT INTO message_due (due_at, first_id, campaign_id, size, shelf, message_ids)
VALUES (:due_at, :first_id, :campaign_id, :size, :shelf, :message_ids)
"""


def make_due(runtime: Runtime, *, ago: timedelta = timedelta(0), lower_ids: int = 0) -> None:
    """Have everything be due that waits: now or some time ago, under ids that are so much less."""
    with runtime.db.begin() as conn:
        now = conn.execute(text("SELECT now()")).scalar_one()
        for row in conn.execute(text(TAKE)).mappings().all():
            moved = {"due_at": now - ago, "shelf": shelf_of(now - ago, now), "first_id": row["first_id"] - lower_ids}
            conn.execute(text(PUT), {**row, **moved})
