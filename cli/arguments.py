"""What commands about a campaign share: its number, whose it is, and --json."""

from __future__ import annotations

import click

from app.models import campaign as campaigns
from app.models.campaign import Campaign
from app.runtime import Runtime

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
which = click.argument("campaign_id", metavar="CAMPAIGN", type=click.IntRange(1, 2**31 - 1))


def find_campaign(runtime: Runtime, campaign_id: int) -> Campaign:
    """The campaign, of whatever organisation. Raises NotFound."""
    with runtime.db.session() as session:
        return campaigns.find(session, campaign_id)


def owner_of(runtime: Runtime, campaign_id: int) -> int:
    """Operators stand above organisations: the campaign says whose it is. Raises NotFound."""
    return find_campaign(runtime, campaign_id).organisation_id
