"""`millrace bounces`: reports that come back by mail, read from a pipe, a Maildir, or a pool's mailbox."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from app.errors import Invalid, Unavailable
from app.flows import returns
from app.models import mailbox
from app.models.mailbox import BoxLine, Taken
from app.providers import mbox
from cli.arguments import as_json, echo_list
from cli.process import runtime_of_command

AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h: a mail server that pipes a message to us tries again later


@click.group("bounces", invoke_without_command=True)
@as_json
@click.pass_context
def bounces(context: click.Context, as_json: bool) -> None:
    """Take reports of bounces and complaints: by itself from standard input, one message or an mbox.

    Exits with 75 where the database is away, so that a mail server which pipes to it tries again.
    """
    if context.invoked_subcommand is None:
        _take(mbox.messages(sys.stdin.buffer), as_json)


@bounces.command("maildir")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--delete", is_flag=True, help="Delete what was taken, instead of marking it as seen.")
@as_json
def maildir(folder: Path, delete: bool, as_json: bool) -> None:
    """Take what is new in a Maildir: messages in new/, and unseen ones in cur/."""
    waiting = [path for name in ("new", "cur") for path in sorted((folder / name).glob("*")) if _is_unseen(path)]
    _take((_beginning(path) for path in waiting), as_json)
    for path in waiting:
        _let_go(folder, path, delete)


@bounces.group("mailbox")
def box() -> None:
    """Mailboxes of SMTP pools, read every minute over IMAP or POP."""


@box.command("set")
@click.argument("pool")
@click.option("--url", envvar="MAILBOX_URL", prompt="The mailbox's URL", hide_input=True, help="Else it is asked for.")
def set_box(pool: str, url: str) -> None:
    """Read the reports of POOL (its name or number) from a mailbox of their own.

    imaps://user:password@host/INBOX?then=keep marks what was read, then=delete deletes it; pop3s://user:password@host
    deletes it. imap:// and pop3:// begin with STARTTLS.
    """
    with runtime_of_command() as runtime:
        pool_id = returns.find_pool(runtime, pool)
        try:
            returns.set_mailbox(runtime, pool_id, url.strip())
        except Invalid as error:
            raise click.ClickException(error.faults[0].message) from error
    click.echo(f"Set. Try it: millrace bounces mailbox read {pool_id}")


@box.command("remove")
@click.argument("pool")
def remove_box(pool: str) -> None:
    """Read the mailbox of POOL no more."""
    with runtime_of_command() as runtime:
        pool_id = returns.find_pool(runtime, pool)
        with runtime.db.begin() as conn:
            had = mailbox.remove(conn, pool_id)
    click.echo("Removed." if had else "It had none.")


@box.command("read")
@click.argument("pool")
@as_json
def read_box(pool: str, as_json: bool) -> None:
    """Read the mailbox of POOL now."""
    with runtime_of_command() as runtime:
        taken = returns.read_one(runtime, returns.find_pool(runtime, pool))
    _print(taken, as_json)


@box.command("list")
@as_json
def list_boxes(as_json: bool) -> None:
    """List the mailboxes, of all organisations, with what came out of them."""
    with runtime_of_command() as runtime, runtime.db.begin() as conn:
        found = mailbox.list_all(conn)
    echo_list(found, asdict, _print_box, "No pool has a mailbox.", as_json=as_json)


def _take(messages: Iterator[bytes], as_json: bool) -> None:
    try:
        with runtime_of_command() as runtime:
            taken = returns.take(runtime, messages)
    except Unavailable as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(AGAIN) from error
    _print(taken, as_json)


def _is_unseen(path: Path) -> bool:
    return path.is_file() and "S" not in path.name.partition(":2,")[2]


def _beginning(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(mbox.TOOK)


def _let_go(folder: Path, path: Path, delete: bool) -> None:
    """After the commit: taken again, a message changes nothing. Somebody else may have moved it meanwhile."""
    try:
        if delete:
            path.unlink()
        else:
            name, _, flags = path.name.partition(":2,")
            (folder / "cur").mkdir(exist_ok=True)
            path.rename(folder / "cur" / f"{name}:2,{''.join(sorted({*flags, 'S'}))}")
    except FileNotFoundError:
        return


def _print(taken: Taken, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(taken)))
        return
    click.echo(
        f"{taken.reports:,} reports about emails of ours, {taken.unmatched:,} about others; {taken.answers:,} answers "
        f"by machines and {taken.others:,} other messages were left alone."
    )


def _print_box(each: BoxLine) -> None:
    when = f"read {each.read_at:%Y-%m-%d %H:%M} UTC" if each.read_at else "never read"
    click.echo(f"pool {each.pool_id} {each.pool}: {each.shown_url}, {when}")
    counted = f"{each.reports:,} reports, {each.unmatched:,} of others; {each.answers:,} answers, {each.others:,} else"
    click.echo(f"     {counted}")
    if each.error:
        click.echo(f"     FAILED {each.failures} times in a row: {each.error}")
