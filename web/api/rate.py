"""How often a key may ask: so many requests a minute, counted in Redis for all web processes together.

While Redis is away nobody is turned away: what is asked is answered, and the log says that nothing is counted.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.models.api_key import ApiKey

log = logging.getLogger(__name__)
WINDOW: Final = 60  # seconds
PATIENCE: Final = 0.3  # seconds that Redis is given
EXPIRES: Final = 64  # requests: with the first, and each so many later, it is said when the count ends
AWAY_FOR: Final = 2.0  # seconds in which it is not asked again once it did not answer


@dataclass(frozen=True, slots=True)
class Left:
    """What a key may still ask for: `remaining` requests in the next `seconds`; `over`: this one is too much."""

    quota: int
    remaining: int
    seconds: int
    over: bool

    @property
    def headers(self) -> dict[str, str]:
        """By draft-ietf-httpapi-ratelimit-headers-10."""
        headers = {
            "RateLimit-Policy": f'"minute";q={self.quota};w={WINDOW}',
            "RateLimit": f'"minute";r={self.remaining};t={self.seconds}',
        }
        return headers | ({"Retry-After": str(self.seconds)} if self.over else {})


class Rates:
    """The counters at one Redis; nothing is opened before the first is counted."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._client: redis.Redis | None = None
        self._lock = Lock()
        self._away_until = 0.0

    def count(self, key: ApiKey) -> Left | None:
        """Count one request; None where Redis is away and nothing is known."""
        if time.monotonic() < self._away_until:
            return None
        minute, second = divmod(int(time.time()), WINDOW)
        try:
            done = self._count(f"millrace-api:{key.id}:{minute}")
        except (redis.RedisError, OSError) as error:
            self._away_until = time.monotonic() + AWAY_FOR
            log.warning("Redis is away, and the API's requests are not counted: %s", error)
            return None
        return Left(key.per_minute, max(0, key.per_minute - done), WINDOW - second, done > key.per_minute)

    def _count(self, name: str) -> int:
        with self._lock:
            if self._client is None:
                self._client = redis.Redis.from_url(
                    self._url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
                )
        done = int(self._client.incr(name))
        if done % EXPIRES == 1:
            self._client.expire(name, 2 * WINDOW)
        return done
