"""`millrace campaign`: list, launch, pause, resume, cancel, status; unknowns, send-failed-again and tests beside it."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from app.flows import launch as launching
from app.flows import steer
from app.models import campaign as campaigns
from app.models import outbox, unknown
from app.models.outbox import Progress
from cli.arguments import as_json, find_campaign, owner_of, which
from cli.process import runtime_of_command
from cli.unknowns import say, send_failed_again, unknowns
from cli.variants import choose, show_test


@click.group("campaign")
def campaign() -> None:
    """Look at campaigns and steer them."""


campaign.add_command(unknowns)
campaign.add_command(send_failed_again)
campaign.add_command(show_test)
campaign.add_command(choose)


@campaign.command("list")
@as_json
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), show_default=True, help="How many, newest first.")
def list_campaigns(as_json: bool, limit: int) -> None:
    """The newest campaigns."""
    with runtime_of_command() as runtime, runtime.db.session() as session:
        found = campaigns.newest(session, limit)
    rows = [{"id": each.id, "state": each.state, "audience": each.audience, "name": each.name} for each in found]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        audience = "" if row["audience"] is None else f"{row['audience']:,}"
        click.echo(f"{row['id']:>6}  {row['state']:<10}  {audience:>11}  {row['name']}")
    if not rows:
        click.echo("There are no campaigns yet.")


@campaign.command("launch")
@which
@click.option("--check", is_flag=True, help="Only say what a launch would do.")
def launch(campaign_id: int, check: bool) -> None:
    """Send a draft now, or at its time."""
    with runtime_of_command() as runtime:
        organisation_id = owner_of(runtime, campaign_id)
        found = launching.check(runtime, organisation_id, campaign_id)
        left_out = ", ".join(f"{leads:,} {reason}" for reason, leads in sorted(found.exclusions.items())) or "nobody"
        click.echo(f"Audience: {found.audience:,} leads. Left out: {left_out}.")
        for fault in found.faults:
            click.echo(f"In the way: {fault.message}", err=True)
        if check or found.faults:
            raise SystemExit(1 if found.faults else 0)
        launching.launch(runtime, organisation_id, campaign_id)
        click.echo(f"Campaign {campaign_id} is {find_campaign(runtime, campaign_id).state}.")


@campaign.command("pause")
@which
def pause(campaign_id: int) -> None:
    """Hand nothing more over until it is resumed."""
    with runtime_of_command() as runtime:
        steer.pause(runtime, owner_of(runtime, campaign_id), campaign_id)
    click.echo(f"Campaign {campaign_id} is paused: pages in flight are finished.")


@campaign.command("resume")
@which
def resume(campaign_id: int) -> None:
    """Go on with a paused campaign."""
    with runtime_of_command() as runtime:
        steer.resume(runtime, owner_of(runtime, campaign_id), campaign_id)
    click.echo(f"Campaign {campaign_id} is sending.")


@campaign.command("cancel")
@which
def cancel(campaign_id: int) -> None:
    """Stop for good; says how many had gone."""
    with runtime_of_command() as runtime:
        progress = steer.cancel(runtime, owner_of(runtime, campaign_id), campaign_id)
    click.echo(f"Campaign {campaign_id} is cancelled: {progress.sent:,} of {progress.audience:,} had gone.")


@campaign.command("status")
@which
@as_json
def status(campaign_id: int, as_json: bool) -> None:
    """Where a campaign stands, lead by lead accounted for."""
    with runtime_of_command() as runtime:
        found = find_campaign(runtime, campaign_id)
        with runtime.db.begin() as conn:
            progress = outbox.progress(conn, campaign_id)
            sums = unknown.count(conn, campaign_id)
    if as_json:
        facts = {"id": found.id, "name": found.name, "state": found.state, "run": found.run, "notice": found.notice}
        facts |= {"unknown_policy": found.unknown_policy, "unknown_calls": asdict(sums)}
        click.echo(json.dumps(facts | {"exclusions": found.exclusions} | asdict(progress)))
        return
    click.echo(f"{found.name}: {found.state}" + (f" ({found.notice})" if found.notice else ""))
    _print_progress(progress)
    if sums.calls:
        click.echo(f"{say(sums)} Its policy is to {found.unknown_policy} them.")


def _print_progress(progress: Progress) -> None:
    for name, leads in asdict(progress).items():
        click.echo(f"  {name:<10}{leads:>12,}")
    click.echo("  " + ("These add up." if progress.adds_up else "THESE DO NOT ADD UP."))
