"""Peers on loopback: a sink whose faults a test sets, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from cli.sink_behaviour import Behaviour
from cli.sink_server import Sink


@dataclass(frozen=True, slots=True)
class Peer:
    """A running sink: its address as a pool's URL, and the sink itself to look into and to change."""

    url: str
    sink: Sink

    def behave(self, **wishes: object) -> None:
        """Answer differently from now on."""
        self.sink.behaviour = self.sink.behaviour.changed(wishes)


@contextmanager
def running_sink(seed: int = 1, log: str | None = None, secret: str = "", **wishes: object) -> Iterator[Peer]:
    """A sink on a free port, without latency unless asked for; `secret` signs its webhooks."""
    sink = Sink(Behaviour().changed({"latency": 0.0} | wishes), seed, log, secret)
    config = uvicorn.Config(sink, host="127.0.0.1", port=0, log_level="error", lifespan="off", http="httptools")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive(), "the sink did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Peer(f"sink+http://127.0.0.1:{port}", sink)
    finally:
        server.should_exit = True
        thread.join(10)
        sink.webhooks.close()
