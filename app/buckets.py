"""Token buckets in Redis, several taken from in one trip; and the same in this process while Redis is away.

Each is a GCRA: one number, the time at which the bucket would be full again, on the server's own clock. A bucket that
is not there is a new or a flushed one, and begins empty: a flush lets nothing out that the rate would not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

log = logging.getLogger(__name__)

PATIENCE: Final = 0.3  # seconds that Redis is given
AWAY_FOR: Final = 2.0  # seconds in which it is not asked again once it did not answer
KEPT_FOR: Final = 3600  # seconds that a bucket which nobody takes from is kept, at the least
# KEYS: the buckets. ARGV: how many are wanted, then for each bucket its interval (microseconds a token), its burst, how
# many tokens are worth waking up for, and 1 where it must begin empty. Gives how many were taken from each, and for
# each the microseconds until it is worth asking again, 0 where it has enough.
TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local taken = tonumber(ARGV[1])
local full = {}
for i, key in ipairs(KEYS) do
  local interval, burst = tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1])
  local empty = now + burst * interval
  local kept = redis.call('GET', key)
  full[i] = empty
  if kept and ARGV[4 * i + 1] == '0' then
    full[i] = math.min(math.max(tonumber(kept), now), empty)
  end
  taken = math.min(taken, math.floor((empty - full[i]) / interval + 0.000001))
end
local answer = {taken}
for i, key in ipairs(KEYS) do
  local interval, burst, worth = tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  full[i] = full[i] + taken * interval
  redis.call('SET', key, string.format('%.0f', full[i]), 'EX', KEPT + math.ceil(2 * burst * interval / 1000000))
  answer[i + 1] = math.max(0, math.ceil(full[i] + (worth - burst) * interval - now))
end
return answer
""".replace("KEPT", str(KEPT_FOR))


@dataclass(frozen=True, slots=True)
class Bucket:
    """`per_second` tokens flow in, and it holds `burst` of them at the most: never more than both leave in a second."""

    key: str
    per_second: float
    burst: int

    @property
    def worth(self) -> int:
        """So many tokens are worth waking up for: a second's, and no more than half of what it holds."""
        return max(1, int(min(self.per_second, self.burst / 2)))

    def shared(self, takers: int) -> Bucket:
        """One of so many takers' part, where they cannot ask each other."""
        return Bucket(self.key, self.per_second / takers, max(1, self.burst // takers))


@dataclass(frozen=True, slots=True)
class Taken:
    """How many tokens were taken from each bucket; `waits` are the seconds until each is worth asking again, in order.

    `shared`: Redis knows of them; otherwise this process has taken its part.
    """

    tokens: int
    waits: tuple[float, ...]
    shared: bool


class Buckets:
    """The buckets at one Redis; nothing is opened before the first is taken from. Threads may share it."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._client: redis.Redis | None = None
        self._script: Script | None = None
        self._lock = Lock()
        self._full: dict[str, float] = {}  # this process's own, while Redis is away; by key
        self._away_until = 0.0

    def take(self, wanted: int, buckets: Sequence[Bucket], takers: Callable[[], int]) -> Taken:
        """Take up to `wanted` tokens, as many from each bucket. `takers` counts the processes that take, if need be."""
        if time.monotonic() >= self._away_until:
            try:
                return self._take_shared(wanted, buckets)
            except (redis.RedisError, OSError) as error:
                self._away_until = time.monotonic() + AWAY_FOR
                log.warning("Redis is away, and each process keeps to its part of the limits: %s", error)
        parts = max(1, takers())
        return self._take_own(wanted, [bucket.shared(parts) for bucket in buckets])

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _take_shared(self, wanted: int, buckets: Sequence[Bucket]) -> Taken:
        values: list[float | int] = [wanted]
        with self._lock:  # what this process has just let go alone, Redis knows nothing of: it begins empty
            empty = [self._full.pop(bucket.key, None) is not None for bucket in buckets]
        for bucket, anew in zip(buckets, empty, strict=True):
            values += [1e6 / bucket.per_second, bucket.burst, bucket.worth, int(anew)]
        tokens, *waits = self._ask([bucket.key for bucket in buckets], values)
        return Taken(tokens, tuple(wait / 1e6 for wait in waits), shared=True)

    def _ask(self, keys: list[str], values: list[float | int]) -> list[int]:
        with self._lock:
            if self._client is None or self._script is None:
                self._client = redis.Redis.from_url(
                    self._url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
                )
                self._script = self._client.register_script(TAKE)
            script = self._script
        answer: list[int] = script(keys=keys, args=values)
        return answer

    def _take_own(self, wanted: int, buckets: Sequence[Bucket]) -> Taken:
        with self._lock:
            now, tokens, full = time.monotonic(), wanted, []
            for bucket in buckets:
                empty = now + bucket.burst / bucket.per_second
                full.append(min(max(self._full.get(bucket.key, empty), now), empty))
                tokens = min(tokens, int((empty - full[-1]) * bucket.per_second + 1e-6))
            waits = []
            for bucket, at in zip(buckets, full, strict=True):
                self._full[bucket.key] = at + tokens / bucket.per_second
                worth = (bucket.worth - bucket.burst) / bucket.per_second
                waits.append(max(0.0, self._full[bucket.key] + worth - now))
        return Taken(tokens, tuple(waits), shared=False)
