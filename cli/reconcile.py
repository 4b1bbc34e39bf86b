"""`millrace reconcile`: whether a campaign's audience, its ranges and its record say the same, and who differs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

import click

from app.errors import Conflict
from app.flows import finish
from app.flows import reconcile as reconciling
from app.flows.reconcile import Comparison, Mended
from app.mail import OUTCOMES
from app.models.campaign import Campaign
from app.models.handoff import COUNTS_AS
from app.models.ledger import Difference
from cli.arguments import as_json, find_campaign, which
from cli.process import runtime_of_command

FEW: Final = 20  # leads that are printed; all of them with --json


@click.command("reconcile")
@which
@click.option("--mend", is_flag=True, help="Mend what can be mended, where nothing is under way.")
@as_json
def reconcile(campaign_id: int, mend: bool, as_json: bool) -> None:
    """Count a campaign three times, and name the leads that differ.

    Exits with 0 when audience, ranges and record add up, and with 1 when they do not.
    """
    mended = None
    with runtime_of_command() as runtime:
        if find_campaign(runtime, campaign_id).launched_at is None:
            raise Conflict("The campaign was not launched: there is nothing to count.")
        comparison, differences = reconciling.find(runtime, campaign_id)
        if mend and comparison.faults:
            mended = finish.mend_now(runtime, campaign_id)
            comparison, differences = reconciling.find(runtime, campaign_id)
        found = find_campaign(runtime, campaign_id)
    if as_json:
        click.echo(json.dumps(_facts(found, comparison, differences, mended)))
    else:
        _print(found, comparison, differences, mended)
    raise SystemExit(1 if comparison.faults else 0)


def _facts(
    found: Campaign, comparison: Comparison, differences: list[Difference], mended: Mended | None
) -> dict[str, object]:
    return {
        "id": found.id,
        "name": found.name,
        "state": found.state,
        "adds_up": not comparison.faults,
        "record_kept": comparison.kept,
        "ranges": asdict(comparison.ranges),
        "events": {kind.value: comparison.record.get(kind.value, 0) for kind in OUTCOMES},
        "faults": comparison.faults,
        "leads": [asdict(each) for each in differences],
        "mended": None if mended is None else asdict(mended),
    }


def _print(found: Campaign, comparison: Comparison, differences: list[Difference], mended: Mended | None) -> None:
    click.echo(f"{found.name}: {found.state}")
    if mended is not None:
        click.echo(f"Mended: {_said(mended)}.")
    click.echo(f"  {'audience':<10}{comparison.ranges.audience:>12,}")
    click.echo(f"  {'':<10}{'ranges':>12}{'record':>12}")
    for kind in OUTCOMES:
        ranges, record = getattr(comparison.ranges, kind.value), comparison.record.get(kind.value, 0)
        click.echo(f"  {kind.value:<10}{ranges:>12,}{record:>12,}{'' if ranges == record else '   <- differs'}")
    click.echo(f"  {'open':<10}{comparison.ranges.open:>12,}")
    if not comparison.kept:
        click.echo("Its first events are not kept any more: the record is not compared, and nothing can be mended.")
    if not comparison.faults:
        click.echo("These add up." if comparison.kept else "The ranges add up.")
        return
    click.echo("THESE DO NOT ADD UP.")
    for fault in comparison.faults:
        click.echo(f"  {fault}")
    if comparison.ranges.open and found.state == "sending":
        click.echo("It is sending: the counts were read one after the other, and may be a page apart. Look again.")
    for each in differences[:FEW]:
        click.echo(f"  {_sentence(each)}")
    if len(differences) > FEW:
        click.echo(f"  … and {len(differences) - FEW:,} more leads; --json prints all.")
    if not differences and comparison.kept:
        click.echo("  No lead differs: what the ranges count is wrong.")


def _sentence(each: Difference) -> str:
    """What is said of one lead, and where."""
    said = " and ".join(
        f"call {handoff_id} says {COUNTS_AS[letter].value}"
        for letter, handoff_id in zip(each.letters, each.handoff_ids, strict=True)
    )
    record = ", ".join(f"{kind} {weight:+d}" for kind, weight in sorted(each.kinds.items()))
    parts = [said or "no call has it", f"the record says {record or 'nothing'}"]
    if each.open:
        parts.append(f"it waits in {each.open} place{'' if each.open == 1 else 's'}")
    if not each.asked:
        parts.append("it is not of the audience")
    return f"lead {each.lead_id}: {'; '.join(parts)}"


def _said(mended: Mended) -> str:
    done = {
        f"{mended.queued:,} leads queued again": mended.queued,
        f"{mended.written:,} events written again": mended.written,
        f"{mended.recounted:,} ranges counted anew": mended.recounted,
        f"{len(mended.surplus):,} of the leads stood in the record as sent twice": mended.surplus,
        f"{len(mended.doubled):,} leads were mailed twice, which cannot be mended": mended.doubled,
        f"{len(mended.strange):,} leads left as they are": mended.strange,
    }
    return ", ".join(sentence for sentence, any_of in done.items() if any_of) or "nothing"
