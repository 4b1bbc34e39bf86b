"""Exporting: the list of a campaign's recipients as CSV, page by page, as long as somebody reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC

from app.csv_text import csv_line
from app.mail import Kind
from app.models import recipient
from app.models.recipient import Recipient
from app.runtime import Runtime

PAGE = 2000
COUNTED = ("delivered", "bounced", "complained", "unsubscribed", "opened", "clicked")
COLUMNS = ("email", "outcome", "at", "run", "reason", *COUNTED, "opened_by_machines", "clicked_by_machines", "lead_id")


def export_recipients(
    runtime: Runtime, organisation_id: int, campaign_id: int, kind: Kind | None = None
) -> Iterator[str]:
    """Blocks of CSV lines, the header first: the whole list, or that of one kind. Times are UTC, ISO 8601.

    Raises NotFound at the first block. Each page is a short transaction of its own: a replica may apply what it gets.
    """
    after, full = 0, True
    header = csv_line(COLUMNS)
    while full:
        with runtime.reports.begin() as conn:
            page = recipient.find_page(conn, organisation_id, campaign_id, kind=kind, after=after, limit=PAGE)
        yield header + "".join(_line(row) for row in page)
        header, full = "", len(page) == PAGE
        after = page[-1].lead_id if page else after


def _line(row: Recipient) -> str:
    figures = row.figures
    counts = [str(getattr(figures, name)) for name in (*COUNTED, "opened_by_machines", "clicked_by_machines")]
    at = row.at.astimezone(UTC).isoformat(timespec="seconds") if row.at else ""
    return csv_line([row.email or "", row.outcome or "", at, str(row.run), row.reason or "", *counts, str(row.lead_id)])
