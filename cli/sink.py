"""`millrace sink`: a provider to try and to measure with, that accepts real calls and delivers nothing."""

from __future__ import annotations

import asyncio
import logging
import socket

import click
import uvicorn

from app.errors import Invalid
from app.providers.standard import check_secret
from cli.sink_behaviour import CUTS, Behaviour
from cli.sink_server import Sink

KEEP_ALIVE = 75  # seconds: longer than any caller keeps an idle connection, so that the caller always closes first


@click.command("sink")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9025, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--latency", default=0.2, show_default=True, help="Seconds before each reply.")
@click.option("--refuse", default=0.0, show_default=True, help="Share of addresses that are refused, always the same.")
@click.option("--defer", default=0.0, show_default=True, help="Share of emails that are put off.")
@click.option("--down", default=0.0, show_default=True, help="Share of calls answered 503: nothing is accepted.")
@click.option("--unsure", default=0.0, show_default=True, help="Share of calls that are accepted and not answered.")
@click.option("--unsure-how", type=click.Choice(CUTS), default="cut", show_default=True, help="How a reply is lost.")
@click.option("--retry-after", default=1, show_default=True, help="Seconds that a 503 asks for.")
@click.option("--batch", default=50, show_default=True, help="Most letters in a call.")
@click.option("--strict", is_flag=True, help="One refused address refuses its whole call.")
@click.option("--idempotent", is_flag=True, help="Same key and body: same reply, accepted once; other body: 409.")
@click.option("--drop", default=0.0, show_default=True, help="Share of accepted emails that are dropped afterwards.")
@click.option("--bounce", default=0.0, show_default=True, help="Share of accepted emails that bounce.")
@click.option("--complain", default=0.0, show_default=True, help="Share of delivered emails that are complained of.")
@click.option("--open", default=0.0, show_default=True, help="Share of delivered emails that are opened.")
@click.option("--click", default=0.0, show_default=True, help="Share of delivered emails whose first link is clicked.")
@click.option("--webhook", default="", help="Post what becomes of accepted emails to this address.")
@click.option("--webhook-secret", default="", envvar="MILLRACE_SINK_WEBHOOK_SECRET", help="whsec_…: signs the posts.")
@click.option("--webhook-delay", default=0.1, show_default=True, help="Seconds from a call to its first event.")
@click.option("--webhook-batch", default=500, show_default=True, help="Most events in a post.")
@click.option("--webhook-lose", default=0.0, show_default=True, help="Share of events that are never told.")
@click.option("--webhook-repeat", default=0.0, show_default=True, help="Share of posts that come twice.")
@click.option("--seed", default=1, show_default=True, help="The same seed draws the same fates.")
@click.option("--log", type=click.Path(dir_okay=False), help="Append each call's accepted leads, and its time, here.")
def sink(host: str, port: int, seed: int, log: str | None, webhook_secret: str, **wishes: object) -> None:
    """Accept email over HTTP, answer as told, count, deliver nothing.

    Figures are at /stats, the last letters at /messages. `POST /settings` changes any of the rates while it runs.
    """
    try:
        behaviour = Behaviour().changed(wishes)
        if webhook_secret:
            check_secret(webhook_secret)
    except (ValueError, Invalid) as error:
        raise click.UsageError(str(error)) from None
    if behaviour.webhook and not webhook_secret:
        raise click.UsageError("--webhook needs --webhook-secret.")
    application = Sink(behaviour, seed, log, webhook_secret)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=1,
        )
    )
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # a reply that is lost on purpose is no error
    with _listen(host, port) as listener:
        click.echo(f"The sink listens on http://{host}:{listener.getsockname()[1]}")
        asyncio.run(server.serve(sockets=[listener]))
    application.webhooks.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = f"Cannot listen on {host}:{port} ({error.strerror}): choose another --port."
        raise click.ClickException(reason) from None
    # Inherited by its connections. asyncio leaves it out for a socket made like this, and then every reply, which is
    # written in two pieces, waits 40 ms for a delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    sink()
