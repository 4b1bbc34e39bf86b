"""`millrace endpoints`: the users' programs that hear of events, for who runs the house."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from app.flows import endpoints as setting_up
from app.flows.endpoints import KINDS, Entry
from app.models import endpoint, endpoint_post
from app.models.endpoint import Line
from app.runtime import Runtime
from cli.arguments import as_json, echo_list, organisation_of
from cli.process import runtime_of_command

FEW = 20  # posts that are printed; more with --limit
which = click.argument("endpoint_id", metavar="ENDPOINT", type=click.IntRange(1, 2**31 - 1))


@click.group("endpoints")
def endpoints() -> None:
    """Programs of the users' own that are told of every event, by signed webhooks."""


@endpoints.command("list")
@as_json
def list_all(as_json: bool) -> None:
    """List them, of all organisations: state, what waits and since when, what was taken and given up."""
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        found = endpoint.find_lines(conn)
    echo_list(found, _facts, _print, "There is no endpoint.", as_json=as_json)


@endpoints.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--organisation", type=int, help="The organisation's number; needed once there are several.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help=f"Of {', '.join(KINDS)}; all unless given.")
@click.option("--campaign", type=click.IntRange(1, 2**31 - 1), help="Of one campaign only, by its number.")
@click.option("--with-email", is_flag=True, help="Tell the leads' addresses, too.")
@as_json
def add(
    name: str,
    url: str,
    organisation: int | None,
    kinds: tuple[str, ...],
    campaign: int | None,
    with_email: bool,
    as_json: bool,
) -> None:
    """Add an endpoint called NAME at URL, and print the secret that its posts are signed with."""
    with runtime_of_command() as runtime:
        entry = Entry(name, url, kinds or KINDS, campaign, with_email)
        added = setting_up.add(runtime, organisation_of(runtime, organisation), entry)
    if as_json:
        click.echo(json.dumps(asdict(added)))
        return
    click.echo(f"Endpoint {added.id} hears of events from now on.")
    _print_secret(added.secret)


@endpoints.command("test")
@which
@as_json
def test(endpoint_id: int, as_json: bool) -> None:
    """Post a signed test without events, once and now; fails where it is not taken."""
    with runtime_of_command() as runtime:
        reply = setting_up.send_test(runtime, _owner_of(runtime, endpoint_id), endpoint_id)
    if as_json:
        click.echo(json.dumps({"taken": reply.taken, "status": reply.status, "said": reply.said}))
    else:
        answer = " ".join(filter(None, [f"HTTP {reply.status}" if reply.status else "", reply.said]))
        click.echo(f"{'Taken' if reply.taken else 'Not taken'}: {answer}")
    if not reply.taken:
        raise SystemExit(1)


@endpoints.command("posts")
@which
@click.option("--limit", type=click.IntRange(1, 10_000), default=FEW, show_default=True, help="How many.")
@as_json
def posts(endpoint_id: int, limit: int, as_json: bool) -> None:
    """List the newest posts to an endpoint with what was answered."""
    with runtime_of_command() as runtime:
        _owner_of(runtime, endpoint_id)
        with runtime.db.begin() as conn:
            found = endpoint_post.find_page(conn, endpoint_id, None, limit)
    echo_list(found, _post, _print_post, "Nothing was posted to it yet.", as_json=as_json)


@endpoints.command("rotate")
@which
def rotate(endpoint_id: int) -> None:
    """Make a new secret and print it; the present one signs as well for a day."""
    with runtime_of_command() as runtime:
        secret = setting_up.rotate(runtime, _owner_of(runtime, endpoint_id), endpoint_id)
    _print_secret(secret)


@endpoints.command("disable")
@which
def disable(endpoint_id: int) -> None:
    """Post nothing until it is enabled; what it would hear is kept for a week."""
    with runtime_of_command() as runtime:
        setting_up.disable(runtime, _owner_of(runtime, endpoint_id), endpoint_id)
    click.echo("It is told nothing until it is enabled.")


@endpoints.command("enable")
@which
def enable(endpoint_id: int) -> None:
    """Post to it again, and all that was kept; also what was given up."""
    with runtime_of_command() as runtime:
        setting_up.enable(runtime, _owner_of(runtime, endpoint_id), endpoint_id)
        waiting = setting_up.find(runtime, None, endpoint_id).waiting_events
    click.echo(f"It is told again; {waiting:,} events wait for it.")


@endpoints.command("remove")
@which
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(endpoint_id: int, yes: bool) -> None:
    """Remove an endpoint, with what waits for it."""
    with runtime_of_command() as runtime:
        found = setting_up.find(runtime, None, endpoint_id)
        if not yes:
            click.confirm(f"Remove {found.name}, and drop {found.waiting_events:,} events that wait?", abort=True)
        setting_up.remove(runtime, found.organisation_id, endpoint_id)
    click.echo(f"{found.name} is removed.")


def _owner_of(runtime: Runtime, endpoint_id: int) -> int:
    """Operators stand above organisations: the endpoint says whose it is. Raises NotFound."""
    return setting_up.find(runtime, None, endpoint_id).organisation_id


def _facts(each: Line) -> dict[str, Any]:
    """For programs: counts of events, and ages in seconds; never the address, whose path is often a key."""
    return {
        "id": each.id,
        "organisation_id": each.organisation_id,
        "name": each.name,
        "host": each.host,
        "state": each.state,
        "disabled_why": each.disabled_why,
        "kinds": list(each.kinds),
        "campaign_id": each.campaign_id,
        "with_email": each.with_email,
        "waiting_posts": each.waiting_posts,
        "waiting_events": int(each.waiting_events),
        "oldest_seconds": _age(each.oldest),
        "failing_seconds": _age(each.failing_since),
        "taken": each.told,
        "given_up": each.given_up,
        "dropped": each.dropped,
    }


def _post(each: endpoint_post.Line) -> dict[str, Any]:
    return {
        "id": str(each.key),
        "test": each.test,
        "state": each.state,
        "events": each.events,
        "made_at": each.created_at.astimezone(UTC).isoformat(),
        "tries": each.tries,
        "status": each.status,
        "said": each.said,
        "seconds": each.took,
    }


def _print_post(each: endpoint_post.Line) -> None:
    what = "a test" if each.test else f"{each.events:,} events"
    click.echo(f"{_said(each.created_at)}  {each.state:<8}  {what}, tries: {each.tries}  {each.key}")
    if each.status or each.said:
        click.echo(f"    {' '.join(filter(None, [f'HTTP {each.status}' if each.status else '', each.said]))}")


def _print(each: Line) -> None:
    click.echo(f"{each.id}  {each.name} at {each.host}: {each.state}")
    age = _age(each.oldest)
    since = f", the oldest for {age:,.0f} s" if age is not None else ""
    click.echo(f"     events waiting: {each.waiting_events:,}{since}; taken {each.told:,}; given up {each.given_up:,}")
    if each.disabled_why:
        click.echo(f"     {each.disabled_why}")


def _print_secret(secret: str) -> None:
    click.echo(f"Secret: {secret}")
    click.echo("It is shown this once.")


def _age(moment: datetime | None) -> float | None:
    return None if moment is None else round(max(0.0, (datetime.now(UTC) - moment).total_seconds()), 1)


def _said(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
