"""What of the house is not alive, said on the pages where somebody would wait for it in vain."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock
from typing import Final

import redis
from flask import current_app

from app.models import process
from web.context import runtime

LASTS: Final = 3.0  # seconds that an answer is good for
PATIENCE: Final = 0.3  # seconds that Redis is given


@dataclass(frozen=True, slots=True)
class Warnings:
    """Sentences for people, the gravest first; `at` is when they were found (monotonic)."""

    sentences: tuple[str, ...]
    at: float


_lock = Lock()


def warnings() -> tuple[str, ...]:
    """What is wrong with the house now, looked at every few seconds at most."""
    kept: Warnings | None = current_app.extensions.get("pulse")
    if kept is None or time.monotonic() - kept.at > LASTS:
        with _lock:
            kept = Warnings(_look(), time.monotonic())
            current_app.extensions["pulse"] = kept
    return kept.sentences


def _look() -> tuple[str, ...]:
    with runtime().db.begin() as conn:
        workers, clocks = process.alive(conn, "worker"), process.alive(conn, "clock")
    found = []
    if not workers:
        found.append("No worker is running: nothing is sent and nothing is imported until one is started.")
    if not clocks:
        found.append("The clock is not running: scheduled campaigns do not start, and nobody is rescued from a crash.")
    if not _redis_answers():
        found.append("Redis is away: workers look for work by themselves, so everything begins a few seconds later.")
    return tuple(found)


def _redis_answers() -> bool:
    try:
        with redis.Redis.from_url(
            runtime().settings.redis_url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE, retry=None
        ) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError, ValueError):
        return False
