"""The `millrace` command: finds each command in its file, and says errors in a sentence instead of a traceback."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from app.errors import MillraceError

# Loaded when they are called: `millrace sink` needs no database driver, and a start costs what it uses.
COMMANDS = {
    "up": "cli.up:up",
    "migrate": "cli.migrate:migrate",
    "doctor": "cli.doctor:doctor",
    "user": "cli.users:user",
    "pools": "cli.pools:pools",
    "leads": "cli.leads:leads",
    "campaign": "cli.campaigns:campaign",
    "reconcile": "cli.reconcile:reconcile",
    "alerts": "cli.alerts:alerts",
    "bounces": "cli.bounces:bounces",
    "suppressions": "cli.suppressions:suppressions",
    "webhooks": "cli.webhooks:webhooks",
    "endpoints": "cli.endpoints:endpoints",
    "api-key": "cli.api_keys:api_key",
    "clock": "cli.clock:clock",
    "sink": "cli.sink:sink",
}


class Commands(click.Group):
    """The commands by name, in the order of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MillraceError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="millrace", prog_name="millrace")
def main() -> None:
    """Millrace: email campaigns to millions of leads, with a record that adds up."""
