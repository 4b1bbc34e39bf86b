"""A transaction pooler of a test's own: every transaction may get another server connection, as behind PgBouncer.

It speaks PostgreSQL's protocol, version 3, without TLS, and knows nothing of prepared statements: what one transaction
left in its session, the next one finds or misses. https://www.postgresql.org/docs/current/protocol-flow.html
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg.conninfo

ENCRYPTION = (80877103, 80877104)  # SSLRequest, GSSENCRequest
SAID_TO_ALL = (b"R", b"S")  # AuthenticationOk, ParameterStatus: what a session begins with
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Gone(Exception):
    """Whoever was at the other end hung up."""


@dataclass(slots=True)
class Asked:
    """What a client has asked for, and the server has not answered to the end."""

    queries: int = 0
    syncs: int = 0

    def hear(self, kind: bytes) -> None:
        self.queries += kind in (b"Q", b"F")
        self.syncs += kind == b"S"

    def answer(self, kind: bytes, body: bytes) -> bool:
        """Whether this answer ends a transaction, and nothing else was asked for."""
        if kind == b"G":  # COPY FROM STDIN begins: a Sync that came with it is passed over, another one ends it
            self.syncs = 0
        elif kind == b"Z":
            self.syncs -= self.syncs > 0
            self.queries -= self.queries > 0 and self.syncs == 0
            return body == b"I" and not self.queries and not self.syncs
        return False


@dataclass(slots=True)
class Pooler:
    """So many server connections, shared by any number of clients; each transaction gets the one longest unused."""

    conninfo: str
    sessions: int
    url: str = ""
    transactions: int = 0
    _idle: deque[Streams] = field(default_factory=deque)
    _freed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _clients: set[asyncio.Task[None]] = field(default_factory=set)
    _greeting: bytes = b""

    async def serve(self, ready: threading.Event, ended: asyncio.Event) -> None:
        for _ in range(self.sessions):
            self._idle.append(await self._open())
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        known = psycopg.conninfo.conninfo_to_dict(self.conninfo)
        self.url = f"postgresql://{known['user']}@127.0.0.1:{port}/{known['dbname']}"
        ready.set()
        await ended.wait()
        server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for _, writer in self._idle:
            await _hang_up(writer)

    async def _open(self) -> Streams:
        known = psycopg.conninfo.conninfo_to_dict(self.conninfo)
        streams = await asyncio.open_unix_connection(f"{known['host']}/.s.PGSQL.{known.get('port') or 5432}")
        named = f"user\0{known['user']}\0database\0{known['dbname']}\0application_name\0pooled\0\0".encode()
        streams[1].write(struct.pack("!ii", 8 + len(named), 196608) + named)
        greeting = b""
        while (message := await _read(streams[0]))[:1] != b"Z":
            assert message[:1] != b"E", message
            greeting += message if message[:1] in SAID_TO_ALL else b""
        self._greeting = greeting
        return streams

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(asyncio.current_task())  # type: ignore[arg-type]
        hears: asyncio.Task[bytes] | None = None
        try:
            await self._greet(reader, writer)
            hears = asyncio.create_task(_read(reader))
            while (await asyncio.wait([hears])) and not hears.exception() and hears.result()[:1] != b"X":
                hears = await self._transact(hears, reader, writer)
        except (Gone, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if hears is not None:
                hears.cancel()
            self._clients.discard(asyncio.current_task())  # type: ignore[arg-type]
            await _hang_up(writer)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size, code) = struct.unpack("!ii", await _exactly(reader, 8))
            await _exactly(reader, size - 8)
            if code not in ENCRYPTION:
                break
            writer.write(b"N")
        if code != 196608:  # a request to cancel: nobody here sends one
            raise Gone
        writer.write(self._greeting + b"K" + struct.pack("!iii", 12, 1, 1) + b"Z" + struct.pack("!i", 5) + b"I")

    async def _transact(
        self, hears: asyncio.Task[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> asyncio.Task[bytes]:
        """Everything until the server is idle again; what the client says next, which nobody has heard yet."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._idle)
            streams = self._idle.popleft()
        self.transactions += 1
        asked, over = Asked(), False
        speaks = asyncio.create_task(_read(streams[0]))
        try:
            while not over:
                await asyncio.wait([hears, speaks], return_when=asyncio.FIRST_COMPLETED)
                if hears.done():
                    message = hears.result()
                    if message[:1] == b"X":
                        raise Gone
                    asked.hear(message[:1])
                    streams[1].write(message)
                    await streams[1].drain()
                    hears = asyncio.create_task(_read(reader))
                if speaks.done():
                    message = speaks.result()
                    over = asked.answer(message[:1], message[5:])
                    writer.write(message)
                    await writer.drain()
                    if not over:
                        speaks = asyncio.create_task(_read(streams[0]))
        finally:
            if not over:  # amid a transaction: nobody else may have that session
                speaks.cancel()
                hears.cancel()
                streams[1].close()
                streams = await self._open()
            async with self._freed:
                self._idle.append(streams)
                self._freed.notify()
        return hears


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> bytes:
    head = await _exactly(reader, 5)
    return head + await _exactly(reader, struct.unpack("!i", head[1:])[0] - 4)


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise Gone from None


@contextmanager
def pooling(conninfo: str, sessions: int) -> Iterator[Pooler]:
    """A pooler before the server behind a Unix socket, in a thread of its own."""
    ready, loops = threading.Event(), []
    pooler: list[Pooler] = []

    async def serve() -> None:
        pooler.append(Pooler(conninfo, sessions))
        loops.append((asyncio.get_running_loop(), ended := asyncio.Event()))
        await pooler[0].serve(ready, ended)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20), "the pooler did not start"
    try:
        yield pooler[0]
    finally:
        loop, ended = loops[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
