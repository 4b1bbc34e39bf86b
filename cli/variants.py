"""`millrace campaign test`: what the variants of a campaign came to; `choose`: which of them the rest gets."""

from __future__ import annotations

import json

import click

from app.flows import choose_winner
from app.flows.variant_words import conclude
from app.models import variant
from app.models.variant import LETTERS, Heading, Standing, Tally
from cli.arguments import as_json, owner_of, which
from cli.process import runtime_of_command


@click.command("test")
@which
@as_json
def show_test(campaign_id: int, as_json: bool) -> None:
    """What each variant of an A/B test came to, and what that tells."""
    with runtime_of_command() as runtime:
        owner_of(runtime, campaign_id)
        with runtime.db.begin() as conn:
            found = variant.find(conn, campaign_id)
            headings = variant.find_headings(conn, campaign_id)
            tallies = variant.tally(conn, campaign_id)
    if found is None:
        raise click.ClickException(f"Campaign {campaign_id} has one content, and no test.")
    if as_json:
        click.echo(json.dumps(_facts(found, headings, tallies)))
        return
    conclusion = conclude(found, tallies)
    tested = variant.tested(tallies, found.variants)
    for heading in headings:
        share = tested[heading.variant].share(found.goal)
        low, high = share.interval
        chosen = "  (the rest gets it)" if found.winner == heading.variant else ""
        figures = f"{share.hits:>9,} of {share.of:>9,}  {share.rate:6.1%}  ({low:.1%} to {high:.1%})"
        click.echo(f"{heading.letter}  {figures}  {heading.subject[:60]}{chosen}")
    for sentence in (conclusion.said, *conclusion.why):
        click.echo(sentence)


@click.command("choose")
@which
@click.argument("letter", type=click.Choice(list(LETTERS), case_sensitive=False))
def choose(campaign_id: int, letter: str) -> None:
    """Send variant LETTER to all who wait for the winner of a test, now."""
    with runtime_of_command() as runtime:
        organisation_id = owner_of(runtime, campaign_id)
        choose_winner.choose(runtime, organisation_id, None, campaign_id, LETTERS.index(letter.upper()))
    click.echo(f"The rest of campaign {campaign_id} gets variant {letter.upper()}.")


def _facts(found: Standing, headings: list[Heading], tallies: list[Tally]) -> dict[str, object]:
    conclusion = conclude(found, tallies)
    tested = variant.tested(tallies, found.variants)
    return {
        "goal": found.goal,
        "share": found.share,
        "decide_at": found.decide_at.isoformat() if found.decide_at else None,
        "winner": None if found.winner is None else LETTERS[found.winner],
        "by_hand": found.by_hand,
        "waiting": sum(each.open for each in tallies if each.variant == variant.WAITS),
        "certain": conclusion.level == "clear",
        "said": conclusion.said,
        "variants": [
            {
                "variant": heading.letter,
                "subject": heading.subject,
                "sent": tested[heading.variant].sent,
                "opened": tested[heading.variant].opened,
                "clicked": tested[heading.variant].clicked,
                "interval": tested[heading.variant].share(found.goal).interval,
            }
            for heading in headings
        ],
    }
