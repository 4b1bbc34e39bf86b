"""What `dramatiq workers.main` imports: the worker process, put together from its environment."""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType

import dramatiq

from app.config import read
from app.runtime import Runtime
from workers.actors import declare
from workers.broker import Bell, open_broker
from workers.logs import configure
from workers.looking import LOOKS, Looking

# What was imported stays: the collector need not walk it. A page makes ten thousand objects that die by themselves;
# looking for cycles among them every 700 cost a sixth of a worker's time.
gc.freeze()
gc.set_threshold(100_000, 50, 100)


def end_once() -> None:
    """Make the second SIGTERM mean nothing: Dramatiq would drop the pages in hand, and end at once.

    A platform that asks every process of a container (Heroku) makes two of one request: Dramatiq's first process
    passes its own on to this one.
    """
    first = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if callable(first):
            first(number, frame)

    if callable(first):
        signal.signal(signal.SIGTERM, end)


def stand_back(nice: int) -> None:
    """Let the web process of the same machine go first: somebody waits for it, and nobody for a campaign's next page.

    Threads have it from the one that starts them. Nobody may take it back, so it is only ever added to.
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


end_once()
settings = read(os.environ)
configure(settings.log_level)
stand_back(settings.worker_nice)
# a page holds a connection for moments only; the looking threads need theirs beside the actors'
runtime = Runtime(settings, name="millrace worker", connections=settings.worker_threads + len(LOOKS))
broker = open_broker(settings.redis_url, [Looking(runtime)])
runtime.use_bell(Bell(broker))
dramatiq.set_broker(broker)
declare(broker, runtime)
