"""Importing leads from a CSV file of 5 columns, against the importer that every application has.

Ours is the command `millrace leads import`, on a file with one row in 100 repeated and one in 200 bad; then the same
file again, where nothing changes. The rival reads that file row by row: csv.DictReader, email-validator without DNS,
one INSERT … ON CONFLICT a row, a commit every 1,000. It is given a twentieth of the rows: its speed does not depend on
their number. Seconds are those from the file's opening to its end; CPU time is all that the command and server used,
and `rows_per_s_of_one_core` what one core alone would do with that.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from email_validator import EmailNotValidError, validate_email
from psycopg.types.json import Jsonb

from app.flows.demo_leads import COLUMNS, generate_rows
from bench import sending
from bench.harness import Answer, Figures, Server, Wal, Watch, reach, say, server
from bench.process import ROOT, cpu_seconds, postgres_pid

SIZES = {"rows": 1_000_000}
CHOSEN = ("email", "first_name", "country", "age", "signed_up")
AIM, MEMORY_MB = 100_000, 300
PART = 20  # the rival is given as many of the rows: one in so many
COMMIT = 1000

INSERT_DOMAIN = (
    "INSERT INTO domain (name) VALUES (%s) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id"
)
UPSERT = """
INSERT INTO lead (organisation_id, domain_id, email, attributes)
VALUES (%s, %s, %s, %s)
ON CONFLICT (organisation_id, email) DO UPDATE
   SET attributes = lead.attributes || excluded.attributes,
       updated_at = now()
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What one import came to."""

    counts: dict[str, int]
    seconds: float
    client_cpu: float
    server_cpu: float
    wal_bytes: int
    peak_rss_mb: float


def run(args: Namespace) -> Answer:
    """Ours into an empty table, ours again, then the rival for another organisation."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder, server(args.edition) as house:
        file = Path(folder) / "leads.csv"
        say(f"a file of {args.rows:,} rows")
        _write(file, args.rows)
        with psycopg.connect(house.database_url) as conn:
            conn.execute("INSERT INTO organisation (name) VALUES ('ours'), ('row by row')")
        say("ours")
        first = _import(house, file)
        assert first.counts["added"] + first.counts["repeated"] + first.counts["rejected"] == args.rows, first.counts
        say("ours again")
        again = _import(house, file)
        assert again.counts["unchanged"] == first.counts["added"], again.counts
        rival = _row_by_row(house, file, max(1, args.rows // PART))
    ours = _figures(first, args.rows) | {"again_rows_per_s": args.rows / again.seconds}
    return Answer(
        settings=house.settings
        | {"rows": args.rows, "columns": len(CHOSEN), "file_mb": first.counts["bytes_read"] / 1e6},
        ours=ours,
        rivals={"row_by_row": rival},
        reach={
            "rows_per_s": reach(AIM, ours["rows_per_s"]),
            "rows_per_s_vs_row_by_row": reach(5, ours["rows_per_s"] / rival["rows_per_s"]),
            "peak_rss_mb": reach(MEMORY_MB, ours["peak_rss_mb"]),
        },
    )


def _write(file: Path, rows: int) -> None:
    places = [COLUMNS.index(name) for name in CHOSEN]
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(CHOSEN)
        before: list[str] = []
        for number, row in enumerate(generate_rows(rows)):
            cells = [row[place] for place in places]
            if number % 200 == 199:
                cells[0] = cells[0].replace("@", " at ")
            elif number % 100 == 99:
                cells[0] = before[0]
            writer.writerow(cells)
            before = cells


def _import(house: Server, file: Path) -> Ran:
    """The command in a process of its own, with what it and the server used."""
    environment = dict(os.environ) | sending.environment(house)
    command = [sys.executable, "-m", "cli", "leads", "import", str(file), "--organisation", "1", "--json"]
    postgres = postgres_pid(house)
    with Wal(house.database_url) as wal:
        before = cpu_seconds(postgres)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        counts = json.loads(process.stdout.read())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        server_cpu = cpu_seconds(postgres) - before
    assert process.returncode == 0, counts
    client_cpu = used.ru_utime + used.ru_stime
    return Ran(counts, counts["seconds"], client_cpu, server_cpu, wal.bytes, used.ru_maxrss * 1024 / 1e6)


def _figures(ran: Ran, rows: int) -> Figures:
    return {
        "rows_per_s": rows / ran.seconds,
        "seconds": ran.seconds,
        "client_cpu_us_per_row": ran.client_cpu / rows * 1e6,
        "server_cpu_us_per_row": ran.server_cpu / rows * 1e6,
        "rows_per_s_of_one_core": rows / (ran.client_cpu + ran.server_cpu),
        "wal_bytes_per_row": ran.wal_bytes / rows,
        "peak_rss_mb": ran.peak_rss_mb,
    }


def _row_by_row(house: Server, file: Path, rows: int) -> Figures:
    say(f"row by row: {rows:,} rows")
    postgres, client = postgres_pid(house), os.times()
    before = cpu_seconds(postgres)
    with Wal(house.database_url) as wal, Watch() as watch, psycopg.connect(house.database_url) as conn:
        domains: dict[str, int] = {}
        for number, row in enumerate(_first_rows(file, rows), start=1):
            _upsert(conn, domains, row)
            if number % COMMIT == 0:
                conn.commit()
    used = os.times()
    client_cpu = used.user + used.system - client.user - client.system
    counts = {"rows_read": rows}
    figures = _figures(Ran(counts, watch.seconds, client_cpu, cpu_seconds(postgres) - before, wal.bytes, 0.0), rows)
    del figures["peak_rss_mb"]
    return figures


def _upsert(conn: psycopg.Connection[tuple[object, ...]], domains: dict[str, int], row: dict[str, str]) -> None:
    try:
        found = validate_email(row.pop("email").strip(), check_deliverability=False)
    except EmailNotValidError:
        return
    name = found.ascii_domain
    if name not in domains:
        made = conn.execute(INSERT_DOMAIN, [name]).fetchone()
        assert made is not None
        domains[name] = int(str(made[0]))
    attributes = {key: int(value) if key == "age" else value for key, value in row.items() if value}
    conn.execute(UPSERT, [2, domains[name], found.normalized.lower(), Jsonb(attributes)])


def _first_rows(file: Path, rows: int) -> Iterator[dict[str, str]]:
    with file.open(newline="") as source:
        for _, row in zip(range(rows), csv.DictReader(source), strict=False):
            yield row
