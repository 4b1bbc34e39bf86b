"""`millrace leads`: files of leads, read straight from the disk or from a pipe."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from app.flows import import_leads
from app.flows.import_leads import Options
from app.models import lead_import
from app.models.lead_import import LeadImport, Progress
from cli.arguments import organisation_of
from cli.process import runtime_of_command

SAY_EVERY = 5.0  # seconds, where nobody watches a bar
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}

Watch = Callable[[Progress, int], None]


@click.group("leads")
def leads() -> None:
    """Leads, many at a time."""


@leads.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--organisation", type=int, help="The organisation's number; needed once there are several.")
@click.option(
    "--column", "columns", multiple=True, metavar="HEADER=NAME", help="What a column is; HEADER= leaves it out."
)
@click.option("--encoding", help="How the file is written, as utf-8 or cp1252; found by itself otherwise.")
@click.option("--delimiter", type=click.Choice(list(DELIMITERS)), help="Found by itself otherwise.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Where to write rows that were not taken.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_file(
    file: Path,
    organisation: int | None,
    columns: tuple[str, ...],
    encoding: str | None,
    delimiter: str | None,
    rejects: Path | None,
    as_json: bool,
) -> None:
    """Add the leads of a CSV FILE, or of standard input (-), and update those that are known.

    Its first line names the columns; one is the address, time_zone is optional, every other is an attribute. Running it
    again, or after an interruption, changes nothing twice.
    """
    _collect_seldom()
    options = Options(mapping=_mapping(columns), encoding=encoding, delimiter=DELIMITERS.get(delimiter or ""))
    began = time.monotonic()
    if rejects is not None:
        rejects.touch()  # before an hour's work, not after it
    with runtime_of_command() as runtime, _opened(file) as (stream, size), _watched(size, as_json) as watch:
        import_id = import_leads.import_stream(
            runtime.db,
            organisation_of(runtime, organisation),
            None,
            file.name,
            stream,
            options,
            file_bytes=size,
            on_progress=watch,
        )
        with runtime.db.session() as session:
            found = session.get_one(LeadImport, import_id)
        if rejects is not None and found.rejected:
            with rejects.open("w", encoding="utf-8-sig", newline="") as out:
                out.writelines(import_leads.rejects_csv(runtime.db, import_id))
    _tell(found, time.monotonic() - began, as_json)
    if found.state != "finished":
        raise SystemExit(1)


def _collect_seldom() -> None:
    """Rows are lists by the hundred thousand, none in a cycle: to look for cycles is a quarter of reading them."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _mapping(columns: tuple[str, ...]) -> dict[str, str]:
    parts = [column.rpartition("=") for column in columns]
    if any(not equals for _, equals, _ in parts):
        raise click.BadParameter("write it as HEADER=NAME, for example --column 'E-Mail privat=email'")
    return {header: name for header, _, name in parts}


@contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its bytes; 0 where nobody knows them before the end."""
    if str(file) == "-":
        yield sys.stdin.buffer, 0
        return
    with file.open("rb") as stream:
        yield stream, file.stat().st_size


@contextmanager
def _watched(size: int, as_json: bool) -> Iterator[Watch]:
    """A bar for a person, a line every few seconds for a log, nothing for a program that reads JSON."""
    if as_json:
        yield lambda progress, file_bytes: None
    elif size and sys.stderr.isatty():
        with click.progressbar(length=size, label="Importing", file=sys.stderr, item_show_func=_rows) as bar:
            yield lambda progress, file_bytes: bar.update(progress.bytes_read - bar.pos, progress)
    else:
        yield _Lines().say


def _rows(progress: Progress | None) -> str | None:
    return None if progress is None else f"{progress.rows_read:,} rows"


class _Lines:
    """Says how far it is, now and then."""

    def __init__(self) -> None:
        self.began = self.said = time.monotonic()

    def say(self, progress: Progress, file_bytes: int) -> None:
        now = time.monotonic()
        if now - self.said >= SAY_EVERY:
            self.said = now
            part = f" ({progress.bytes_read * 100 // file_bytes} %)" if file_bytes else ""
            pace = progress.rows_read / (now - self.began)
            click.echo(f"{progress.rows_read:,} rows{part}, {pace:,.0f} a second", err=True)


def _tell(found: LeadImport, seconds: float, as_json: bool) -> None:
    counts = {name: getattr(found, name) for name in lead_import.PROGRESS}
    if as_json:
        facts = {"id": found.id, "state": found.state, "error": found.error, **counts, "seconds": round(seconds, 3)}
        click.echo(json.dumps(facts))
        return
    pace = found.rows_read / seconds if seconds else 0
    click.echo(f"{found.rows_read:,} rows in {seconds:,.1f} s ({pace:,.0f} a second), import {found.id} {found.state}")
    for name in ("added", "updated", "unchanged", "repeated", "rejected"):
        click.echo(f"{getattr(found, name):>13,}  {name}")
    if found.state != "finished":
        click.echo(found.error or import_leads.INTERRUPTED, err=True)
