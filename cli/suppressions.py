"""`millrace suppressions`: addresses that are not mailed: entered, taken back, read from a file, written to one."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from app.errors import Invalid
from app.flows import suppressions as entering
from app.flows.import_suppressions import Options, import_file
from app.flows.read_csv import Reject
from app.models.suppression import EVERYBODY, REASONS
from app.runtime import Runtime
from cli.arguments import as_json, organisation_of
from cli.process import runtime_of_command

organisation = click.option("--organisation", type=int, help="The organisation's number; needed with several.")
sender = click.option(
    "--sender", "sender_id", type=click.IntRange(1, 2**31 - 1), help="Only for this sender, by its number."
)


@click.group("suppressions")
def suppressions() -> None:
    """Addresses that are not mailed."""


@suppressions.command("add")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option("--note", default="", help="Why, for whoever asks later.")
@sender
@organisation
def add(addresses: tuple[str, ...], note: str, sender_id: int | None, organisation: int | None) -> None:
    """Never mail these addresses again; or only never from one sender."""
    with runtime_of_command() as runtime:
        ours = organisation_of(runtime, organisation)
        whom = _sender(runtime, ours, sender_id)
        added = entering.add(runtime, ours, addresses, sender_id=whom, note=note or "by command")
    now = "address is" if added == 1 else "addresses are"
    click.echo(f"{added:,} {now} suppressed now; {len(addresses) - added:,} were already.")


@suppressions.command("remove")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option("--consented", is_flag=True, help="They have asked for it: needed where they unsubscribed or complained.")
@sender
@organisation
def remove(addresses: tuple[str, ...], consented: bool, sender_id: int | None, organisation: int | None) -> None:
    """Mail these addresses again."""
    with runtime_of_command() as runtime:
        ours = organisation_of(runtime, organisation)
        for address in addresses:
            try:
                entering.remove(runtime, ours, address, sender_id=sender_id or EVERYBODY, consent=consented)
            except Invalid as invalid:
                if invalid.faults[0].pointer != "consent":
                    raise
                raise click.ClickException(f"{invalid.faults[0].message} Where they have: --consented.") from None
            click.echo(f"{address} may be mailed again.")


@suppressions.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--reason", type=click.Choice(REASONS), default="manual", show_default=True, help="For rows without one.")
@click.option("--rejects", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Where to write those.")
@sender
@organisation
@as_json
def import_list(
    file: Path, reason: str, rejects: Path | None, sender_id: int | None, organisation: int | None, as_json: bool
) -> None:
    """Suppress the addresses of a CSV FILE, or of standard input (-).

    A plain list of addresses will do. Columns called reason, source, since and sender are read too, as the export has
    them. The same file may be read any number of times.
    """
    with runtime_of_command() as runtime, ExitStack() as open_files:
        ours = organisation_of(runtime, organisation)
        stream = sys.stdin.buffer if str(file) == "-" else open_files.enter_context(file.open("rb"))
        options = Options(reason, _sender(runtime, ours, sender_id), source="a file" if str(file) == "-" else file.name)
        done = import_file(runtime, ours, stream, options, _teller(rejects, open_files))
    if as_json:
        click.echo(json.dumps(asdict(done) | {"known": done.known}))
    else:
        click.echo(
            f"{done.rows:,} rows: {done.added:,} added, {done.known:,} known already, {done.rejected:,} not taken."
        )
    if done.rejected:
        raise SystemExit(1)


@suppressions.command("export")
@click.argument("file", type=click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=Path), default="-")
@organisation
def export(file: Path, organisation: int | None) -> None:
    """Write all suppressions as CSV to FILE, or to standard output."""
    with runtime_of_command() as runtime, click.open_file(str(file), "w", encoding="utf-8", lazy=False) as out:
        for block in entering.export(runtime, organisation_of(runtime, organisation)):
            out.write(block.replace("\r\n", "\n"))


def _sender(runtime: Runtime, organisation_id: int, sender_id: int | None) -> int:
    if sender_id is None:
        return EVERYBODY
    with runtime.db.begin() as conn:
        known = entering.senders_of(conn, organisation_id)
    if sender_id not in known:
        names = ", ".join(f"{number} ({each.name})" for number, each in known.items()) or "none: there is no sender"
        raise click.BadParameter(f"one of {names}", param_hint="--sender")
    return sender_id


def _teller(rejects: Path | None, open_files: ExitStack) -> Callable[[Reject], None]:
    """Writes rows that were not taken into a file, or the first of them to standard error."""
    if rejects is None:
        told = iter(range(20))
        return lambda each: (
            click.echo(f"line {each.line}: {each.reason}", err=True) if next(told, None) is not None else None
        )
    out = csv.writer(open_files.enter_context(rejects.open("w", encoding="utf-8-sig", newline="")))
    out.writerow(["line", "reason", "row"])
    return lambda each: out.writerow([each.line, each.reason, *each.cells])
