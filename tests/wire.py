"""A wire between us and a server, that a test holds for a while, or has lose the replies to some commands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Reach = Callable[[], Awaitable[Streams]]


@dataclass(slots=True)
class Wire:
    """A port of this machine that leads to a server. Set what it does from any thread."""

    port: int = 0
    loses: bytes = b""  # what a request holds whose reply is lost: it arrives and is obeyed, then the connection is cut
    unless: bytes = b"-NOSCRIPT"  # a reply that begins so is let through: it was not obeyed
    lost: int = 0
    held: threading.Event = field(default_factory=threading.Event)  # set: nothing passes, and nobody hangs up

    def hold(self) -> None:
        """Swallow nothing, forward nothing: both ends believe in the connection."""
        self.held.set()

    def let_go(self) -> None:
        """Forward what was kept, and go on."""
        self.held.clear()

    async def serve(self, reach: Reach, ready: threading.Event, ended: asyncio.Event) -> None:
        connections: set[asyncio.Task[None]] = set()

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(asyncio.current_task())  # type: ignore[arg-type]
            far_reader, far_writer = await reach()
            doomed = asyncio.Event()
            pumps = [
                asyncio.create_task(self._carry(reader, far_writer, doomed, asks=True)),
                asyncio.create_task(self._carry(far_reader, writer, doomed, asks=False)),
            ]
            with suppress(asyncio.CancelledError):
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            for end in (writer, far_writer):
                end.close()
                with suppress(ConnectionError):
                    await end.wait_closed()

        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await ended.wait()
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event, *, asks: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if asks and self.loses and self.loses in data:
                    doomed.set()
                elif not asks and doomed.is_set():
                    doomed.clear()
                    if not data.startswith(self.unless):
                        self.lost += 1
                        return
                while self.held.is_set():
                    await asyncio.sleep(0.02)
                writer.write(data)
                await writer.drain()


@contextmanager
def wire(reach: Reach) -> Iterator[Wire]:
    """A wire to where `reach` connects to, in a thread of its own."""
    ready, line = threading.Event(), Wire()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        loops.append((asyncio.get_running_loop(), ended := asyncio.Event()))
        await line.serve(reach, ready, ended)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10), "the wire did not start"
    try:
        yield line
    finally:
        line.let_go()
        [(loop, ended)] = loops
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
