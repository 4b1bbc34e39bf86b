"""Unsubscribing, by the link in an email or by the receiver's own button (RFC 8058): no login, and no way back to mail.

Looking changes nothing, since scanners follow every link that they see; only a POST does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from app.errors import NotFound
from app.mail import Kind
from app.message_ids import is_message
from app.models import event, track
from app.models import unsubscribe as unsubscribes
from app.models.event import Fact, Source
from app.models.suppression import EVERYBODY, suppress
from app.models.unsubscribe import Unsubscribe
from app.runtime import Runtime


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows. The address is shortened: links are forwarded. The texts are empty for an erased lead.

    `done`: nothing of the organisation comes any more; `left_sender`: nothing of this sender; `untracked`: nothing of
    what they open or click is recorded, None where that cannot be chosen, since they are no lead.
    """

    organisation: str
    address: str
    done: bool
    sender: str = ""
    left_sender: bool = False
    untracked: bool | None = None


def look(runtime: Runtime, token: str) -> View:
    """What a link is about, without changing anything. Raises NotFound for a token that we never signed."""
    lead_id, campaign_id = _read(runtime, token)
    with runtime.db.begin() as conn:
        found = unsubscribes.find(conn, lead_id, campaign_id)
    if found is None:
        return View("", "", done=True)
    address, sender = _shortened(found.email), found.sender or ""
    untracked = None if found.person is None else found.untracked
    return View(found.organisation, address, found.done, sender, found.left_sender, untracked)


def unsubscribe(runtime: Runtime, token: str, *, only_sender: bool = False) -> None:
    """Never mail this lead again; or only never from the campaign's sender.

    Doing it again changes nothing; nor does a lead who was erased since. Raises NotFound for a token that we never
    signed.
    """
    lead_id, campaign_id = _read(runtime, token)
    with runtime.db.begin() as conn:
        found = unsubscribes.lock(conn, lead_id, campaign_id)
        if found is None or found.done or (only_sender and found.left_sender):
            return
        sender_id = (found.sender_id or EVERYBODY) if only_sender else EVERYBODY
        source = f"campaign {found.campaign_id}"
        suppress(conn, found.organisation_id, [found.email], "unsubscribed", source, sender_id=sender_id)
        _record(conn, found, {"from": "sender"} if sender_id else None)


def set_tracking(runtime: Runtime, token: str, *, wanted: bool) -> None:
    """Whether anything of what this lead opens or clicks may be recorded from now on. Raises NotFound."""
    lead_id, campaign_id = _read(runtime, token)
    with runtime.db.begin() as conn:
        found = unsubscribes.lock(conn, lead_id, campaign_id)
        if found is not None and found.person is not None:
            track.set_untracked(conn, found.person, not wanted)


def _record(conn: Connection, found: Unsubscribe, detail: Mapping[str, object] | None) -> None:
    source = Source(
        found.organisation_id,
        found.user_id,
        found.campaign_id,
        found.pool_id or 0,
        run=found.run,
        message=is_message(found.lead_id),
    )
    if found.tested:
        source = replace(source, variant=_variant(conn, found.campaign_id, found.lead_id))
    event.append(conn, source, [Fact(found.lead_id, found.domain_id, Kind.UNSUBSCRIBED, detail)])


def _variant(conn: Connection, campaign_id: int, lead_id: int) -> int:
    """The content that a lead got."""
    emails = track.find_emails(conn, track.find_places(conn, [(campaign_id, lead_id)]))
    return emails[campaign_id, lead_id].variant if emails else 0


def _read(runtime: Runtime, token: str) -> tuple[int, int]:
    read = runtime.signer.read_unsubscribe(token)
    if read is None:
        raise NotFound("This link is not one of ours, or it is not whole.")
    return read


def _shortened(email: str) -> str:
    name, _, domain = email.rpartition("@")
    return f"{name[:1]}…@{domain}"
