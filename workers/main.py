"""What `dramatiq workers.main` imports: the worker process, put together from its environment."""

from __future__ import annotations

import gc
import os

import dramatiq

from app.config import read
from app.runtime import Runtime
from workers.actors import declare
from workers.broker import Bell, open_broker
from workers.logs import configure
from workers.looking import Looking

# What was imported stays: the collector need not walk it. A page makes ten thousand objects that die by themselves;
# looking for cycles among them every 700 cost a sixth of a worker's time.
gc.freeze()
gc.set_threshold(100_000, 50, 100)

settings = read(os.environ)
configure(settings.log_level)
# a page holds a connection for moments only; the looking threads need theirs beside the actors'
runtime = Runtime(settings, name="millrace worker", connections=settings.worker_threads + 6)
broker = open_broker(settings.redis_url, [Looking(runtime)])
runtime.use_bell(Bell(broker))
dramatiq.set_broker(broker)
declare(broker, runtime)
