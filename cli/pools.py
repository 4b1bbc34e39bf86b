"""`millrace pools`: provider accounts as the operator sees them; those added here may be at any address."""

from __future__ import annotations

import json
import sys

import click

from app.errors import ConfigError
from app.flows import pools as flow
from app.flows import try_pool
from app.models import sender
from app.models import user as users
from app.models.sender import PoolLine
from app.runtime import Runtime
from cli.arguments import as_json, echo_list
from cli.process import runtime_of_command

which = click.argument("pool_id", metavar="POOL", type=click.IntRange(1, 2**15 - 1))
organisation = click.option("--organisation", type=int, help="Its number; the oldest user's unless given.")


@click.group("pools")
def pools() -> None:
    """Add provider accounts, list them, ask whether they work."""


@pools.command("list")
@organisation
@as_json
def list_pools(organisation: int | None, as_json: bool) -> None:
    """List an organisation's pools: where they send, and what they do now."""
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        lines = sender.list_pools(conn, _organisation(runtime, organisation))
    echo_list(lines, _facts, _print, "There is no pool yet.", as_json=as_json)


@pools.command("add")
@click.argument("name")
@click.option("--batch", type=int, default=50, show_default=True, help="Emails per call, at most.")
@organisation
@as_json
def add(name: str, batch: int, organisation: int | None, as_json: bool) -> None:
    """Add a pool whose URL is read from standard input, so that no list of processes shows its key."""
    url = click.prompt("URL", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().strip()
    with runtime_of_command() as runtime:
        pool_id = flow.add_pool(runtime, _organisation(runtime, organisation), name, url, batch)
    click.echo(json.dumps({"id": pool_id}) if as_json else f"The pool {name} has the number {pool_id}.")


@pools.command("check")
@which
@organisation
@as_json
def check(pool_id: int, organisation: int | None, as_json: bool) -> None:
    """Ask the provider whether it knows the account; nothing is sent. Ends with 1 where it does not."""
    with runtime_of_command() as runtime:
        answer = try_pool.check_pool(runtime, _organisation(runtime, organisation), pool_id)
    click.echo(json.dumps({"good": answer.good, "said": answer.said}) if as_json else answer.said)
    if not answer.good:
        sys.exit(1)


def _print(line: PoolLine) -> None:
    click.echo(f"{line.id:>4}  {line.name}  {line.breaker}  {line.shown_url}")
    if line.reason:
        click.echo(f"      {line.reason}")


def _organisation(runtime: Runtime, number: int | None) -> int:
    if number is not None:
        return number
    with runtime.db.session() as session:
        owner = users.oldest(session)
    if owner is None:
        raise ConfigError("There is no user yet: millrace user create makes the first one.")
    return owner.organisation_id


def _facts(line: PoolLine) -> dict[str, object]:
    return {
        "id": line.id,
        "name": line.name,
        "provider": line.provider,
        "url": line.shown_url,
        "batch": line.batch,
        "state": line.breaker,
        "reason": line.reason,
        "senders": line.senders,
        "check": None
        if line.checked_at is None
        else {"at": line.checked_at.isoformat(), "good": line.check_good, "said": line.check_said},
    }
