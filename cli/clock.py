"""`millrace clock`: the process that does what is due and rings for the rest."""

from __future__ import annotations

import signal

import click

from cli.process import open_runtime
from workers import clock as task
from workers.logs import configure


@click.command("clock")
def clock() -> None:
    """Start campaigns at their time, free what dead workers held, refresh reports, ring workers. Many may run."""
    runtime = open_runtime(name="millrace clock", connections=task.CONNECTIONS)
    configure(runtime.settings.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.stopping.set())
    task.run(runtime)
    runtime.close()
