"""`millrace user`: accounts of the people who log in."""

from __future__ import annotations

import json
import secrets
import sys

import click

from app.flows import login, seed
from app.models import user as users
from cli.process import runtime_of_command


@click.group("user")
def user() -> None:
    """Give people accounts."""


@user.command("create")
@click.argument("email")
@click.option("--name", help="What to call them; the address's first part unless given.")
@click.option("--role", type=click.Choice(users.ROLES), default="marketer", show_default=True)
@click.option("--organisation", type=int, help="The organisation's number; needed once there are several.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking.")
@click.option("--generate", is_flag=True, help="Make a password up and print it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(
    email: str,
    name: str | None,
    role: str,
    organisation: int | None,
    password_stdin: bool,
    generate: bool,
    as_json: bool,
) -> None:
    """Create an account for EMAIL."""
    password = secrets.token_urlsafe(12) if generate else _ask(password_stdin)
    with runtime_of_command() as runtime:
        made = login.create_user(
            runtime.db,
            email=email,
            name=name or email.partition("@")[0],
            password=password,
            role=role,
            organisation_id=organisation,
        )
        said = seed.seed_provider(runtime)
    facts: dict[str, object] = {"id": made.id, "email": made.email, "role": made.role}
    if generate:
        facts["password"] = password
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(f"{made.email} has an account now ({made.role}).")
    if said is not None:
        click.echo(said)
    if generate:
        click.echo(f"Password: {password}")


def _ask(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer
