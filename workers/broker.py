"""The broker, and the bell that any process may ring through it.

Bells carry no work, no delay and no retry: a lost one is rung again by the clock, a doubled one finds nothing to do.
"""

from __future__ import annotations

from typing import Final

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware
from redis.backoff import NoBackoff
from redis.retry import Retry

QUEUES: Final = ("send", "import", "ingest", "upkeep")
# So many waiting bells wake everybody; more would only have to be heard later, one by one.
ENOUGH: Final = 64


def open_broker(redis_url: str, middleware: list[Middleware] | None = None) -> RedisBroker:
    """A broker for bells. Sockets time out, and nothing is retried under our feet: a lost reply doubles no bell."""
    client = redis.Redis.from_url(
        redis_url, socket_timeout=5, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0), health_check_interval=15
    )
    broker: RedisBroker = RedisBroker(  # type: ignore[no-untyped-call]
        client=client, middleware=middleware or [], maintenance_chance=100_000
    )
    for queue in QUEUES:
        broker.declare_queue(queue)
    return broker


class Bell:
    """Rings: `bell("send")` wakes a worker to look for due ranges. Raises what the broker raises."""

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker

    def __call__(self, queue: str) -> None:
        if self.broker.client.llen(f"{self.broker.namespace}:{queue}") < ENOUGH:
            message: dramatiq.Message[None] = dramatiq.Message(
                queue_name=queue, actor_name=queue, args=(), kwargs={}, options={}
            )
            self.broker.enqueue(message)
