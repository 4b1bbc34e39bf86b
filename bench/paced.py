"""Posts at a fixed rate, each begun at its time whatever became of the one before it: the clients of another machine.

One thread and plain sockets, so that what is measured is the server: a client of a thread a post took as much of two
processors as the server did. `late` says how far behind its times it fell itself.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

from app.errors import MillraceError

PATIENCE = 60.0  # seconds that the last answers are waited for
FIRST = -10  # nice: as far as this process may, its clients stand before what they are served by
MOST = 1 << 20  # bytes read at once


@dataclass(slots=True)
class Paced:
    """What became of each post, in seconds from when it was due: `took` until its answer, `late` until it was sent."""

    took: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    answers: list[tuple[float, bytes]] = field(default_factory=list)  # (when, what)

    def ms(self, share: float) -> float:
        """A percentile of `took` in milliseconds."""
        return _percentile(self.took, share) * 1000

    def late_ms(self, share: float) -> float:
        """A percentile of `late` in milliseconds."""
        return _percentile(self.late, share) * 1000

    def ids(self) -> dict[str, float]:
        """The first id in each answer, and when it came."""
        return {str(orjson.loads(body)["ids"][0]): at for at, body in self.answers}


@dataclass(slots=True)
class _Line:
    """A connection; `due` is that of the post it carries, None where it is free."""

    socket: socket.socket
    due: float | None = None
    read: bytes = b""


def post_at_rate(url: str, headers: Mapping[str, str], bodies: Sequence[bytes], rate: float) -> Paced:
    """Each body once, so many a second; `took` counts from when each was due. Raises MillraceError for a refusal."""
    parts = urlsplit(url)
    posts = [_encode(parts.path, parts.netloc, headers, body) for body in bodies]
    place = (parts.hostname or "", parts.port or 80)
    with _in_front(), selectors.DefaultSelector() as selector:
        return _Clients(selector, place).post(posts, rate)


class _Clients:
    def __init__(self, selector: selectors.BaseSelector, place: tuple[str, int]) -> None:
        self.selector = selector
        self.place = place
        self.free: list[_Line] = []
        self.found = Paced()

    def post(self, posts: Sequence[bytes], rate: float) -> Paced:
        begun = time.time() + 0.1
        waiting = deque((begun + number / rate, post) for number, post in enumerate(posts))
        until = waiting[-1][0] + PATIENCE
        while len(self.found.took) < len(posts):
            if time.time() > until:
                raise MillraceError(f"{len(posts) - len(self.found.took)} posts were not answered.")
            self._listen(waiting[0][0] - time.time() if waiting else 1.0)
            while waiting and waiting[0][0] <= time.time():
                self._send(*waiting.popleft())
        for line in self.free:
            line.socket.close()
        return self.found

    def _send(self, due: float, post: bytes) -> None:
        line = self.free.pop() if self.free else self._open()
        line.due, line.read = due, b""
        line.socket.sendall(post)
        self.found.late.append(time.time() - due)

    def _open(self) -> _Line:
        line = _Line(socket.create_connection(self.place, timeout=5))
        self.selector.register(line.socket, selectors.EVENT_READ, line)
        return line

    def _listen(self, seconds: float) -> None:
        for key, _ in self.selector.select(max(0.0, seconds)):
            line: _Line = key.data
            piece = line.socket.recv(MOST)
            line.read += piece
            if line.due is None or not piece:  # the server closes what nothing was asked on for a while
                self._close(line)
            elif (body := _body(line.read)) is not None:
                now = time.time()
                self.found.took.append(now - line.due)
                self.found.answers.append((now, body))
                line.due = None
                self.free.append(line)

    def _close(self, line: _Line) -> None:
        if line.due is not None:
            raise MillraceError("A connection was closed before its post was answered.")
        self.selector.unregister(line.socket)
        line.socket.close()
        self.free.remove(line)


def _encode(path: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    said = {"host": host, **headers, "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _body(read: bytes) -> bytes | None:
    """An answer's body, once all of it is there. Raises MillraceError where it is no 202."""
    head, mark, body = read.partition(b"\r\n\r\n")
    if not mark:
        return None
    named = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if len(body) < int(named[b"content-length"]):
        return None
    if not head.startswith(b"HTTP/1.1 202 "):
        raise MillraceError(f"A post was answered {head[9:12].decode()}: {body[:300].decode()}")
    return body


@contextmanager
def _in_front() -> Iterator[None]:
    """Before all others, where the system allows it: clients on a machine of their own would wait for nobody either."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
