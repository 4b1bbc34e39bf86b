"""`millrace api-key`: keys of programs, for who runs the house."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from app.errors import Invalid
from app.flows import api_keys
from app.flows.api_keys import PER_MINUTE
from app.models import api_key as keys
from app.models import user as users
from app.models.api_key import SCOPES, Line
from app.runtime import Runtime
from cli.arguments import as_json, echo_list, organisation_of
from cli.process import runtime_of_command


@click.group("api-key")
def api_key() -> None:
    """Keys that let programs of the users' own use the API."""


@api_key.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What it may do; all unless given.")
@click.option("--per-minute", type=int, default=PER_MINUTE, show_default=True, help="Requests a minute.")
@click.option("--organisation", type=int, help="The organisation's number; needed once there are several.")
@click.option("--user", "email", help="Whose the campaigns are that it makes, by address; an admin's unless given.")
@as_json
def create(
    name: str, scopes: tuple[str, ...], per_minute: int, organisation: int | None, email: str | None, as_json: bool
) -> None:
    """Make a key called NAME, and print its secret: it is shown this once."""
    with runtime_of_command() as runtime:
        owner = _owner(runtime, organisation_of(runtime, organisation), email)
        made = api_keys.create(runtime, *owner, name, scopes or tuple(SCOPES), per_minute)
    if as_json:
        click.echo(json.dumps(asdict(made)))
        return
    click.echo(f"Key {made.id} is good from now on.")
    click.echo(f"Secret: {made.secret}")
    click.echo("It is shown this once.")


@api_key.command("list")
@as_json
def list_all(as_json: bool) -> None:
    """List them, of all organisations, without their secrets: what each may do, and when it was last used."""
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        found = keys.find_lines(conn, None)
    echo_list(found, _facts, _print, "There is no key.", as_json=as_json)


@api_key.command("revoke")
@click.argument("key_id", metavar="KEY", type=click.IntRange(1, 2**31 - 1))
def revoke(key_id: int) -> None:
    """End a key at once and for good."""
    with runtime_of_command() as runtime:
        name = api_keys.revoke(runtime, None, key_id)
    click.echo(f"{name} is revoked: nothing is answered to it any more.")


def _owner(runtime: Runtime, organisation_id: int, email: str | None) -> tuple[int, int]:
    """(organisation, user) that what it makes belongs to. Raises Invalid."""
    with runtime.db.session() as session:
        user_id = users.find_owner(session, organisation_id, email)
    if user_id is None:
        said = "There is no such user in this organisation." if email else "It has no admin: name a user."
        raise Invalid.one("--user", said)
    return organisation_id, user_id


def _facts(each: Line) -> dict[str, Any]:
    return asdict(each)


def _print(each: Line) -> None:
    used = f"last used {each.last_used_at:%Y-%m-%d %H:%M} UTC" if each.last_used_at else "never used"
    state = "revoked" if each.revoked_at else used
    click.echo(f"{each.id}  {each.name} ({each.shown}…): {state}; {each.per_minute:,} a minute, made by {each.made_by}")
    click.echo(f"     {' '.join(each.scopes)}")
