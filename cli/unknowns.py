"""`millrace campaign unknowns` and `send-failed-again`: a person decides, and is asked before anybody gets it twice."""

from __future__ import annotations

import json
from datetime import UTC

import click

from app.flows import unknowns as deciding
from app.models import unknown
from app.models.unknown import Unknown, UnknownSums
from cli.arguments import as_json, find_campaign, owner_of, which
from cli.process import runtime_of_command

FEW = 20  # calls that are printed; all of them with --json
yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("unknowns")
@which
@click.option("--send-again", "verdict", flag_value="send-again", help="Send to all of them once more.")
@click.option("--leave", "verdict", flag_value="leave", help="Count all of them as failed.")
@yes
@as_json
def unknowns(campaign_id: int, verdict: str | None, yes: bool, as_json: bool) -> None:
    """What nobody knows of a campaign: calls that the provider may have taken; and what to do about them."""
    with runtime_of_command() as runtime:
        organisation_id = owner_of(runtime, campaign_id)
        with runtime.db.begin() as conn:
            sums = unknown.count(conn, campaign_id)
            calls = unknown.find(conn, campaign_id, limit=1_000_000 if as_json else FEW)
        if verdict is None:
            _print(sums, calls, as_json)
            return
        if verdict == "send-again":
            if not yes and sums.undecided:
                click.confirm(f"{sums.undecided:,} people may get it twice. Send again?", abort=True)
            leads = deciding.send_again(runtime, organisation_id, campaign_id)
            click.echo(f"It is sent again to {leads:,} leads.")
        else:
            leads = deciding.leave(runtime, organisation_id, campaign_id)
            click.echo(f"{leads:,} leads count as failed now. A later webhook still corrects that.")


@click.command("send-failed-again")
@which
@yes
def send_failed_again(campaign_id: int, yes: bool) -> None:
    """Open another run for exactly the leads that failed."""
    with runtime_of_command() as runtime:
        organisation_id = owner_of(runtime, campaign_id)
        with runtime.db.begin() as conn:
            failed = unknown.count_failed(conn, campaign_id)
        if not yes and failed.leads:
            twice = f" {failed.left:,} of them may get it twice." if failed.left else ""
            click.confirm(f"{failed.leads:,} leads failed.{twice} Send to them again?", abort=True)
        leads = deciding.send_failed_again(runtime, organisation_id, campaign_id)
        run = find_campaign(runtime, campaign_id).run
    click.echo(f"Run {run} sends to {leads:,} leads." if leads else "Nobody failed.")


def say(sums: UnknownSums) -> str:
    """One line: how many leads in how many calls, and how many of these are asked again."""
    again = f", {sums.repeating:,} of them made again by Millrace itself" if sums.repeating else ""
    return f"Unknown: {sums.leads:,} leads in {sums.calls:,} calls{again}."


def _print(sums: UnknownSums, calls: list[Unknown], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_facts(each) for each in calls]))
        return
    if not sums.calls:
        click.echo("Nothing is unknown.")
        return
    click.echo(say(sums))
    for each in calls:
        again = "  (asking again)" if each.repeat_at else ""
        made = each.handed_at.astimezone(UTC)
        click.echo(f"  call {each.id}: {each.leads:,} leads, {made:%Y-%m-%d %H:%M:%S} UTC{again}")
        click.echo(f"    {' '.join((each.answer or 'No answer came.').split())[:200]}")
    if sums.calls > len(calls):
        click.echo(f"  … and {sums.calls - len(calls):,} more; --json prints all.")


def _facts(each: Unknown) -> dict[str, object]:
    return {
        "call": each.id,
        "run": each.run,
        "leads": each.leads,
        "handed_at": each.handed_at.astimezone(UTC).isoformat(),
        "asking_again": each.repeat_at is not None,
        "answer": each.answer,
    }
