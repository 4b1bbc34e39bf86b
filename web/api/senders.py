"""Senders over the API: which there are, for campaigns and messages to name."""

from __future__ import annotations

from typing import Final

from app.models import sender
from web.api.cursors import Page
from web.api.route import Answering, Caller, Routes

routes: Final = Routes("senders")


class Sender(Answering):
    """Who an email is from. `pool_state`: active, or paused while its first pool does not send."""

    id: int
    name: str
    address: str
    reply_to: str | None
    pool: str
    pool_state: str


@routes.get("/senders", "senders:read", answer=Page[Sender])
def list_all(caller: Caller) -> Page[Sender]:
    """List all senders by name."""
    with caller.runtime.db.begin() as conn:
        found = sender.list_senders(conn, caller.organisation_id)
    return Page[Sender](items=[Sender.model_validate(each) for each in found], next=None)
