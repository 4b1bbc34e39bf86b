"""Doing what a program asks for once, however often it asks under the same Idempotency-Key.

After draft-ietf-httpapi-idempotency-key-header: the answer is kept in the transaction of what it answers for, so that
there is never one without the other. What was refused is not kept, since nothing was done: it may be mended and sent
again under the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from app.errors import Invalid, UnderWay
from app.models import api_answer
from app.models.api_answer import Answer, Request
from app.runtime import Inside, Runtime

BATCH: Final = 10_000  # answers dropped in one short transaction
SAME: Final = "A request under this Idempotency-Key is being worked on: wait, then send it again."
OTHER: Final = "This Idempotency-Key was used for another request within the last day: choose a new one."


@dataclass(frozen=True, slots=True)
class Given:
    """An answer; `again`: it was given before, and nothing was done now."""

    answer: Answer
    again: bool


def identify(api_key_id: int, key: str, method: str, address: str, body: bytes) -> Request:
    """What a request is known by. `address` is its path with the query, as it was sent."""
    mine = blake2b(key.encode(), digest_size=16, salt=api_key_id.to_bytes(16, "big")).digest()
    asked = blake2b(f"{method} {address}\n".encode(), digest_size=16)
    asked.update(body)
    place = int.from_bytes(blake2b(mine, digest_size=8, person=b"api answer").digest(), "big", signed=True)
    return Request(api_key_id, mine, asked.digest(), place)


def answer_once(
    runtime: Runtime, request: Request, work: Callable[[Runtime], Answer], *, secret: bool = False
) -> Given:
    """Do `work` in one transaction with the keeping of its answer, or give the answer that it had.

    `work` is given a runtime whose transactions are parts of that one; its bells ring after the commit. `secret`: the
    answer is encrypted where it is kept. Raises UnderWay while the same is being done, Invalid ("Idempotency-Key")
    where the key was used for something else, and whatever `work` raises.
    """
    with runtime.db.begin() as conn:
        if not api_answer.try_lock(conn, request):
            raise UnderWay(SAME)
        known = api_answer.find(conn, request)
        if known is not None:
            return _repeat(runtime, request, *known)
        inside = Inside(runtime, conn)
        answer = work(inside)
        api_answer.keep(conn, request, _sealed(runtime, answer) if secret else answer)
    inside.ring_kept()
    return Given(answer, again=False)


def tidy(runtime: Runtime) -> int:
    """Drop the answers that are older than a day; how many."""
    dropped = 0
    while not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            found = api_answer.drop_old(conn, BATCH)
        dropped += found
        if found < BATCH:
            break
    return dropped


def _repeat(runtime: Runtime, request: Request, digest: bytes, kept: Answer) -> Given:
    if digest != request.digest:
        raise Invalid.one("Idempotency-Key", OTHER)
    if kept.sealed:
        kept = replace(kept, body=runtime.vault.decrypt(kept.body).encode(), sealed=False)
    return Given(kept, again=True)


def _sealed(runtime: Runtime, answer: Answer) -> Answer:
    return replace(answer, body=runtime.vault.encrypt(answer.body.decode()), sealed=True)
