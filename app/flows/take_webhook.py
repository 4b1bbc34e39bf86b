"""Taking a webhook: verified by its provider's signature, kept, and only then acknowledged. Workers read it later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from app.errors import NotFound, Unverified
from app.models import alert, webhook
from app.models.webhook import Door
from app.providers import WEBHOOKS
from app.runtime import Runtime

log = logging.getLogger(__name__)

LARGEST: Final = 5 * 1024 * 1024  # bytes of one post
QUIET: Final = 600.0  # seconds without a good one, after which a bad signature means that the secret is wrong


def is_known(runtime: Runtime, token: str) -> bool:
    """Whether a pool has this address; some providers ask before they post there."""
    with runtime.db.begin() as conn:
        return webhook.find_door(conn, token) is not None


def take(runtime: Runtime, token: str, headers: Mapping[str, str], body: bytes) -> None:
    """Keep what a provider posted, and wake a worker; when this returns it is committed.

    Raises NotFound, Unverified (nothing was kept), Unavailable (the provider must come again).
    """
    with runtime.db.begin() as conn:
        door = webhook.find_door(conn, token)
    if door is None:
        raise NotFound("No webhooks come here.")
    try:
        delivery = _verify(runtime, door, headers, body)  # may fetch a certificate: no transaction is open meanwhile
    except Unverified as refusal:
        _tell(runtime, door, refusal)
        raise
    with runtime.db.begin() as conn:
        webhook.keep(conn, door.pool_id, delivery, body)
    runtime.ring("ingest")


def _verify(runtime: Runtime, door: Door, headers: Mapping[str, str], body: bytes) -> str:
    spoken = WEBHOOKS.get(door.provider)
    if spoken is None or door.secret is None:
        raise Unverified("The pool has no webhook secret yet.")
    try:
        return spoken.verify(headers, body, runtime.vault.decrypt(door.secret))
    except Unverified as error:
        error.provider = door.provider
        raise


def _tell(runtime: Runtime, door: Door, refusal: Unverified) -> None:
    """A person is told where good ones do not come either: one stranger's post among them is no fault of the pool."""
    log.warning("a webhook of pool %s was refused: %s", door.pool_id, refusal)
    with runtime.db.begin() as conn:
        if webhook.is_silent(conn, door.pool_id, QUIET):
            alert.raise_alert(conn, alert.Kind.WEBHOOK_REFUSED, door.pool_id, f"A webhook was refused. {refusal}")
