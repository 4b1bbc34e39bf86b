"""`millrace alerts`: what is open, of all organisations."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from app.models import alert
from app.models.alert import Alert
from cli.arguments import as_json, echo_list
from cli.process import runtime_of_command

COLOURS = {"bad": "red", "warn": "yellow", "info": "blue"}


@click.command("alerts")
@as_json
def alerts(as_json: bool) -> None:
    """List what is open, newest first: what is wrong, since when, what to do."""
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        found = alert.find_standing(conn)
    echo_list(found, _facts, _print, "No alert is open.", as_json=as_json)


def _facts(each: Alert) -> dict[str, object]:
    return {
        "id": each.id,
        "kind": each.kind.value,
        "gravity": each.meaning.gravity,
        "label": each.meaning.label,
        "message": each.message,
        "advice": each.meaning.advice,
        "campaign": {"id": each.campaign_id, "name": each.campaign} if each.campaign_id else None,
        "pool": {"id": each.pool_id, "name": each.pool} if each.pool_id else None,
        "endpoint": {"id": each.endpoint_id, "name": each.endpoint} if each.endpoint_id else None,
        "sender": {"id": each.sender_id, "name": each.sender} if each.sender_id else None,
        "raised_at": each.raised_at.astimezone(UTC).isoformat(),
        "seen_at": each.seen_at.astimezone(UTC).isoformat(),
        "times": each.times,
        "untold": each.untold,
    }


def _print(each: Alert) -> None:
    gravity = click.style(f"{each.meaning.gravity:<5}", fg=COLOURS[each.meaning.gravity])
    click.echo(f"{gravity}{each.meaning.label}: {_one_line(_subject(each))}")
    often = f", found {each.times:,} times, last {_said(each.seen_at)}" if each.times > 1 else ""
    click.echo(f"     since {_said(each.raised_at)}{often}")
    click.echo(f"     {_one_line(each.message)}")
    click.echo(f"     {each.meaning.advice}")
    if each.untold:
        click.echo(f"     Somebody could not be told of it: {each.untold}")


def _subject(each: Alert) -> str:
    if each.endpoint_id:
        return f"endpoint {each.endpoint_id} {each.endpoint}"
    if each.sender_id:
        return f"sender {each.sender_id} {each.sender}"
    return f"campaign {each.campaign_id} {each.campaign}" if each.campaign_id else f"pool {each.pool_id} {each.pool}"


def _one_line(text: str) -> str:
    """Without what would steer a terminal."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _said(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
