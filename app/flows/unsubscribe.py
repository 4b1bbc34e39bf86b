"""Unsubscribing, by the link in an email or by the receiver's own button (RFC 8058): no login, and no way back to mail.

Looking changes nothing, since scanners follow every link that they see; only a POST does.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import NotFound
from app.mail import Kind
from app.models import event
from app.models import unsubscribe as unsubscribes
from app.models.event import Fact, Source
from app.models.suppression import suppress
from app.runtime import Runtime


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows. The address is shortened: links are forwarded. Both texts are empty for an erased lead."""

    organisation: str
    address: str
    done: bool


def look(runtime: Runtime, token: str) -> View:
    """What a link is about, without changing anything. Raises NotFound for a token that we never signed."""
    lead_id, campaign_id = _read(runtime, token)
    with runtime.db.begin() as conn:
        found = unsubscribes.find(conn, lead_id, campaign_id)
    if found is None:
        return View("", "", done=True)
    return View(found.organisation, _shortened(found.email), found.done)


def unsubscribe(runtime: Runtime, token: str) -> None:
    """Never mail this lead again. Doing it again changes nothing; nor does a lead who was erased since.

    Raises NotFound for a token that we never signed.
    """
    lead_id, campaign_id = _read(runtime, token)
    with runtime.db.begin() as conn:
        found = unsubscribes.lock(conn, lead_id, campaign_id)
        if found is None or found.done:
            return
        suppress(conn, found.organisation_id, [found.email], "unsubscribed", f"campaign {found.campaign_id}")
        source = Source(found.organisation_id, found.user_id, found.campaign_id, found.pool_id or 0, run=found.run)
        event.append(conn, source, [Fact(found.lead_id, found.domain_id, Kind.UNSUBSCRIBED)])


def _read(runtime: Runtime, token: str) -> tuple[int, int]:
    read = runtime.signer.read_unsubscribe(token)
    if read is None:
        raise NotFound("This link is not one of ours, or it is not whole.")
    return read


def _shortened(email: str) -> str:
    name, _, domain = email.rpartition("@")
    return f"{name[:1]}…@{domain}"
