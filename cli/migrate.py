"""`millrace migrate`: brings the database to the newest schema."""

from __future__ import annotations

import click

from app import schema
from app.config import read
from cli.process import environment


@click.command("migrate")
def migrate() -> None:
    """Create or upgrade the schema. Safe to repeat, and from many machines at once."""
    settings = read(environment())
    schema.migrate(settings.database_url)
    click.echo(f"The database is at migration {schema.head()}.")
