"""The strangers of the providers' tests: a scripted peer on a loopback port, a sink process, a real SMTP server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from app.mail import Batch, Content, Letter, Parts

KEY = UUID("0190c7b2-3f60-7e60-8a51-0c4c5e0d9a11")
Scene = Callable[[socket.socket], None]


def letters_to(*addresses: str, values: tuple[str, ...] = ("Ada",)) -> list[Letter]:
    return [
        Letter(lead_id, address, values, f"https://mail.example.com/u/{lead_id}-abcdefgh")
        for lead_id, address in enumerate(addresses, 1)
    ]


def batch_of(letters: list[Letter], *, handoff: int = 7, key: UUID = KEY, content: Content | None = None) -> Batch:
    return Batch(
        handoff_id=handoff,
        key=key,
        campaign_id=3,
        run=1,
        from_name="Ada's Letters",
        from_address="news@example.com",
        reply_to="answers@example.com",
        content=content
        or Content(1, Parts(("Hello ", "!"), (0,)), Parts(("<p>", "</p>"), (0,)), Parts(("Hi ", "\n"), (0,))),
        letters=letters,
    )


class Peer:
    """Plays one scene per connection, in order; the last one again for every further connection."""

    def __init__(self, *scenes: Scene) -> None:
        self.scenes = list(scenes)
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            scene = self.scenes[min(self.connections, len(self.scenes) - 1)]
            self.connections += 1
            self.open.append(connection)
            thread = threading.Thread(target=self._play, args=(scene, connection), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _play(self, scene: Scene, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            scene(connection)

    def stop(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)


@contextmanager
def peer(*scenes: Scene) -> Iterator[Peer]:
    playing = Peer(*scenes)
    try:
        yield playing
    finally:
        playing.stop()


@contextmanager
def sink_process(*options: str) -> Iterator[str]:
    """A `millrace sink` of its own on a free port; gives its URL, http://127.0.0.1:PORT."""
    command = [sys.executable, "-m", "cli.sink", "--port", "0", "--latency", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.rpartition(" ")[2].strip()
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
