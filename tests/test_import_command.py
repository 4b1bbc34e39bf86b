"""`millrace leads import`: files and pipes, figures for people and for programs, exit codes that can be trusted."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from app.config import Settings
from app.runtime import Runtime

ROOT = Path(__file__).parent.parent
FILE = "E-Mail;Name;Alter\nanna@x.de;Anna;30\nANNA@x.de;Ann;\nben;Ben;4\n"


@pytest.fixture(autouse=True)
def organisation_id(runtime: Runtime) -> int:
    with runtime.db.begin() as conn:
        return int(conn.execute(text("INSERT INTO organisation (name) VALUES ('One') RETURNING id")).scalar_one())


def millrace(settings: Settings, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    environ = os.environ | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_HOME": str(settings.home),
    }
    command = [sys.executable, "-m", "cli", "leads", "import", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, input=given, capture_output=True, text=True, timeout=60)


def test_a_file_is_imported_and_its_rejects_are_written(settings: Settings, tmp_path: Path) -> None:
    file, rejects = tmp_path / "leads.csv", tmp_path / "rejects.csv"
    file.write_text(FILE)
    done = millrace(settings, str(file), "--json", "--rejects", str(rejects), "--column", "Alter=age")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {name: told[name] for name in ("state", "rows_read", "added", "repeated", "rejected")} == {
        "state": "finished",
        "rows_read": 3,
        "added": 1,
        "repeated": 1,
        "rejected": 1,
    }
    with rejects.open(encoding="utf-8-sig", newline="") as found:
        assert list(csv.reader(found)) == [
            ["line", "reason", "E-Mail", "Name", "Alter"],
            ["4", "An email address must have an @-sign.", "ben", "Ben", "4"],
        ]


def test_a_pipe_is_imported_with_figures_for_people(settings: Settings, runtime: Runtime) -> None:
    done = millrace(settings, "-", given=FILE)
    assert done.returncode == 0, done.stderr
    assert "3 rows in" in done.stdout
    assert "1  added" in done.stdout
    with runtime.db.begin() as conn:
        row = conn.execute(text("SELECT email, attributes FROM lead")).one()
    assert tuple(row) == ("anna@x.de", {"name": "Ann", "alter": 30})


@pytest.mark.parametrize(
    ("file", "arguments", "sentence"),
    [
        ("name\nAnna\n", (), "No column is called email"),
        (FILE, ("--organisation", "99"), "Name one of 1 (One)"),
        (FILE, ("--column", "Alter"), "write it as HEADER=NAME"),
        (FILE, ("--encoding", "klingon"), "There is no encoding called 'klingon'"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_an_exit_code(
    settings: Settings, file: str, arguments: tuple[str, ...], sentence: str
) -> None:
    done = millrace(settings, "-", *arguments, given=file)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
