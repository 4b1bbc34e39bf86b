"""An unsubscribe link's lead and campaign, as the two that press it need them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from app.db import Statements
from app.message_ids import is_message

SQL = Statements("unsubscribe")


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Who may be unsubscribed, through which campaign, and whether that was done already: from all, from its sender."""

    lead_id: int
    email: str
    domain_id: int
    done: bool
    organisation_id: int
    organisation: str
    campaign_id: int
    user_id: int
    run: int
    pool_id: int | None
    sender_id: int | None
    sender: str | None
    left_sender: bool
    untracked: bool
    person: int | None  # the lead; of a message the one who has its address
    tested: bool  # the campaign has several contents


def find(conn: Connection, lead_id: int, campaign_id: int) -> Unsubscribe | None:
    """The lead, or the message, and the campaign of a link; None where one of them was erased since."""
    if is_message(lead_id):
        values = {"message_id": lead_id, "campaign_id": campaign_id}
        row = conn.execute(SQL.find_message, values).one_or_none()
        return None if row is None else Unsubscribe(**row._mapping)
    row = conn.execute(SQL.find, {"lead_id": lead_id, "campaign_id": campaign_id}).one_or_none()
    return None if row is None else Unsubscribe(**row._mapping)


def lock(conn: Connection, lead_id: int, campaign_id: int) -> Unsubscribe | None:
    """The same; whoever else presses it for this lead waits until the transaction ends."""
    conn.execute(SQL.lock, {"lead_id": lead_id})
    return find(conn, lead_id, campaign_id)
