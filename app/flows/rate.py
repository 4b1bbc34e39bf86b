"""Setting how fast a campaign may go, at any time before its end; in effect with its next page."""

from __future__ import annotations

from app.models import campaign, campaign_list, campaign_rate
from app.models.campaign_list import Line
from app.models.campaign_rate import Rate
from app.runtime import Runtime


def find(runtime: Runtime, organisation_id: int, campaign_id: int) -> tuple[Line, Rate | None]:
    """A campaign and its rate. Raises NotFound."""
    with runtime.db.begin() as conn:
        line = campaign_list.find(conn, organisation_id, campaign_id)
        known = campaign_rate.find(conn, campaign_id)
    return line, None if known is None else known.rate


def set_rate(runtime: Runtime, organisation_id: int, campaign_id: int, rate: Rate | None) -> None:
    """Let a campaign go no faster; None: as fast as its pool allows. Raises NotFound; Invalid: "emails" or "per"."""
    with runtime.db.begin() as conn:
        campaign.lock(conn, organisation_id, campaign_id)
        campaign_rate.set_rate(conn, campaign_id, rate)
    runtime.ring("send", runtime.settings.worker_threads)
