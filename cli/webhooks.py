"""`millrace webhooks`: what providers have posted: listed, shown, read anew, kept for longer or shorter."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from sqlalchemy import Connection

from app.flows import replay as replays
from app.models import kept_post
from app.models import unread as unreads
from app.models.kept_post import Choice, KeptPost
from app.models.unread import UnreadType
from cli.arguments import as_json, echo_list
from cli.process import runtime_of_command

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Since(click.ParamType[datetime]):
    """A date, a time (UTC unless it says otherwise), or how long ago: 2026-11-20, 2026-11-20T10:00, 90m, 6h, 3d."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if ago := re.fullmatch(r"(\d{1,6})([mhd])", value):
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail("write a date (2026-11-20), a time (2026-11-20T10:00) or how long ago (90m, 6h, 3d)", param, ctx)
        return at if at.tzinfo else at.replace(tzinfo=UTC)


def chosen(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which posts are meant."""
    options = (
        click.option("--pool", "pool_id", type=click.IntRange(1, 32767), help="Of one pool, by its number."),
        click.option("--since", type=Since(), help="Received since: a date, a time, or how long ago as in 6h or 3d."),
        click.option("--failed", is_flag=True, help="Only those that could not be read."),
        click.option("--unmatched", is_flag=True, help="Only those with events of emails that we do not know."),
        click.option("--unread", is_flag=True, help="Only those with events of a type that we have no word for."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group("webhooks")
def webhooks() -> None:
    """What providers have posted about emails."""


@webhooks.command("list")
@chosen
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@as_json
def list_posts(
    pool_id: int | None,
    since: datetime | None,
    failed: bool,
    unmatched: bool,
    unread: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List kept posts, the newest first."""
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        found = kept_post.find_posts(conn, Choice(pool_id, since, failed, unmatched, unread), limit)
    echo_list(found, _facts, _print, "No such post is kept.", as_json=as_json)


@webhooks.command("show")
@click.argument("post_id", metavar="POST", type=click.IntRange(1, 2**63 - 1))
def show(post_id: int) -> None:
    """Print what was posted, byte for byte. It holds addresses of people."""
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        body = kept_post.find_body(conn, post_id)
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


@webhooks.command("replay")
@chosen
@click.option("--yes", is_flag=True, help="Do not ask, where all posts are meant.")
@as_json
def replay(
    pool_id: int | None,
    since: datetime | None,
    failed: bool,
    unmatched: bool,
    unread: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Read kept posts anew. No figure is changed twice; what matches an email by now is counted."""
    choice = Choice(pool_id, since, failed, unmatched, unread)
    if choice == Choice() and not yes:
        click.confirm("Read every kept post anew?", abort=True)
    with runtime_of_command() as runtime:
        done = replays.replay(runtime, choice)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    click.echo(f"{done.posts:,} posts were read anew: {done.events:,} events in them were new.")
    if done.unmatched_before or done.unmatched:
        click.echo(f"Events of emails that we do not know: {done.unmatched_before:,} before, {done.unmatched:,} now.")
    if done.failed:
        click.echo(f"{done.failed:,} could not be read; `millrace webhooks list --failed` says why.", err=True)
        raise SystemExit(1)


@webhooks.command("unread")
@click.option("--pool", "pool_id", type=click.IntRange(1, 32767), help="Of one pool, by its number.")
@click.option("--forget", metavar="TYPE", help="Forget a type of that pool until its next event comes.")
@as_json
def unread(pool_id: int | None, forget: str | None, as_json: bool) -> None:
    """Types of events that providers have added and we have no word for, with the newest of each.

    They change no figure. After an upgrade that knows them: millrace webhooks replay --unread. The raw events hold
    addresses of people.
    """
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        if forget is not None:
            _forget(conn, pool_id, forget)
            return
        found = unreads.find_unread(conn, pool_id)
    none = "Providers have said nothing that we have no word for."
    echo_list(found, asdict, _print_unread, none, as_json=as_json)


def _forget(conn: Connection, pool_id: int | None, kind: str) -> None:
    if pool_id is None:
        raise click.BadParameter("name the pool as well (--pool)")
    if not unreads.forget(conn, pool_id, kind):
        raise click.ClickException("There is no such type at that pool.")
    click.echo("Forgotten.")


@webhooks.command("keep")
@click.argument("days", required=False)
def keep(days: str | None) -> None:
    """Keep posts for so many DAYS after they were read (1 to 400); "default": as MILLRACE_WEBHOOK_DAYS says.

    Without DAYS: say how long it is now. What could not be read, or matches no email, stays for 30 days at least.
    """
    wanted = _days(days)
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        if days is not None:
            kept_post.keep_for(conn, wanted)
        now = kept_post.find_retention(conn, runtime.settings.webhook_days)
    click.echo(f"Posts are kept for {now:,} days after they were read.")


def _days(given: str | None) -> int | None:
    if given is None or given == "default":
        return None
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= 400:
        raise click.BadParameter('a number of days from 1 to 400, or "default"')
    return int(given)


def _facts(each: KeptPost) -> dict[str, object]:
    return asdict(each) | {
        "state": each.state,
        "received_at": each.received_at.astimezone(UTC).isoformat(),
        "read_at": each.read_at.astimezone(UTC).isoformat() if each.read_at else None,
    }


def _print_unread(each: UnreadType) -> None:
    days = f"{each.first_at.astimezone(UTC):%Y-%m-%d %H:%M} to {each.last_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    events = f"{each.events:,} event{'' if each.events == 1 else 's'}"
    click.echo(f"pool {each.pool_id} {each.pool} ({each.provider})  {each.type}: {events}, {days}")
    for shown in each.shown:
        click.echo(f"    post {shown.post_id}: {_plain(shown.raw)}")


def _plain(said: str) -> str:
    """On one line, with nothing in it that would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in said).split())


def _print(each: KeptPost) -> None:
    came = f"{each.received_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    unmatched = f", {each.unmatched:,} of unknown emails" if each.unmatched else ""
    pool = f"pool {each.pool_id} ({each.provider or 'gone'})"
    click.echo(f"{each.id}  {came}  {pool}  {each.state}: {each.events:,} events were new{unmatched}")
    if each.error:
        click.echo(f"    {_plain(each.error)[:300]}")
