"""`millrace migrate`: brings the database to the newest schema, and the environment's provider into it."""

from __future__ import annotations

import click

from app import schema
from app.config import read
from app.flows import seed
from app.runtime import Runtime
from cli.process import environment, runtime_of_command


@click.command("migrate")
def migrate() -> None:
    """Create or upgrade the schema. Safe to repeat, and from many machines at once.

    Where PROVIDER_URL is set and there is a user, its pool is made, or pointed to where the variable says now.
    """
    settings = read(environment())
    schema.migrate(settings.database_url)
    click.echo(f"The database is at migration {schema.head()}.")
    if settings.provider_url:
        with runtime_of_command() as runtime:
            seed_and_say(runtime)


def seed_and_say(runtime: Runtime) -> None:
    """Bring what PROVIDER_URL and PROVIDER_SENDER say into the database, and say so."""
    said = seed.seed_provider(runtime)
    if said is not None:
        click.echo(said)
