"""What commands share: a campaign's number and whose it is, the organisation, and --json."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from app.errors import Invalid
from app.models import campaign as campaigns
from app.models import user as users
from app.models.campaign import Campaign
from app.runtime import Runtime

Item = TypeVar("Item")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
which = click.argument("campaign_id", metavar="CAMPAIGN", type=click.IntRange(1, 2**31 - 1))


def echo_list(
    found: Sequence[Item], facts: Callable[[Item], object], echo: Callable[[Item], None], none: str, *, as_json: bool
) -> None:
    """Print a list: as JSON of each one's `facts`, or by `echo` each; `none` is the sentence where it is empty."""
    if as_json:
        click.echo(json.dumps([facts(each) for each in found], default=str))
        return
    for each in found:
        echo(each)
    if not found:
        click.echo(none)


def find_campaign(runtime: Runtime, campaign_id: int) -> Campaign:
    """The campaign, of whatever organisation. Raises NotFound."""
    with runtime.db.session() as session:
        return campaigns.find(session, campaign_id)


def owner_of(runtime: Runtime, campaign_id: int) -> int:
    """Operators stand above organisations: the campaign says whose it is. Raises NotFound."""
    return find_campaign(runtime, campaign_id).organisation_id


def organisation_of(runtime: Runtime, wanted: int | None) -> int:
    """The organisation of that number, or the only one. Raises Invalid."""
    with runtime.db.session() as session:
        present = users.list_organisations(session)
    if wanted is None and len(present) == 1:
        return present[0].id
    if not present:
        raise Invalid.one("", "There is no organisation yet: create a user first (millrace user create).")
    if wanted not in [each.id for each in present]:
        known = ", ".join(f"{each.id} ({each.name})" for each in present)
        raise Invalid.one("--organisation", f"Name one of {known}.")
    assert wanted is not None
    return wanted
