"""Promises of the `millrace` command: every command is found, accounts are made, errors are sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.config import Settings
from app.db import Database
from app.flows import login
from cli.main import COMMANDS, main


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_HOME": str(settings.home),
    }


def test_every_command_is_there_and_says_what_it_does() -> None:
    told = CliRunner().invoke(main, ["--help"])
    assert told.exit_code == 0
    for name in COMMANDS:
        assert name in told.output
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_an_account_that_was_made_can_log_in(environment: dict[str, str]) -> None:
    arguments = ["user", "create", "Ann@Example.com", "--role", "admin", "--generate", "--json"]
    told = CliRunner().invoke(main, arguments, env=environment)
    made = json.loads(told.output)
    db = Database(environment["DATABASE_URL"])
    assert login.log_in(db, "ann@example.com", made["password"]) is not None
    db.close()


def test_a_password_is_asked_for_twice_or_read_from_standard_input(environment: dict[str, str]) -> None:
    asked = CliRunner().invoke(main, ["user", "create", "a@example.com"], "long enough\nlong enough\n", env=environment)
    assert asked.exit_code == 0
    assert "long enough" not in asked.output
    read = CliRunner().invoke(
        main, ["user", "create", "b@example.com", "--password-stdin"], "long enough\n", env=environment
    )
    assert read.exit_code == 0


def test_what_is_wrong_is_said_in_a_sentence(environment: dict[str, str], tmp_path: Path) -> None:
    short = CliRunner().invoke(main, ["user", "create", "a@example.com", "--password-stdin"], "short", env=environment)
    assert (short.exit_code, short.exception.__class__) == (1, SystemExit)
    assert "at least 10 characters" in short.output
    nowhere = {"DATABASE_URL": "", "REDIS_URL": "", "SECRET_KEY": "", "MILLRACE_HOME": str(tmp_path)}
    lost = CliRunner().invoke(main, ["user", "create", "a@example.com", "--generate"], env=nowhere)
    assert (lost.exit_code, lost.exception.__class__) == (1, SystemExit)
    assert "DATABASE_URL is not set" in lost.output
