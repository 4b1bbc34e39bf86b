"""Notices: what is told about an alert to one reader by email, or to the operator's webhook."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from app.db import Statements
from app.models.alert import MEANINGS, Kind, Meaning

SQL = Statements("notice")


@dataclass(frozen=True, slots=True)
class Notice:
    """One message that is about to be sent, with the alert as it is now. `about` is raised or cleared.

    `key` is the same at every try. Of the names of what it is about one is there; `address` is None where
    it goes to the webhook.
    """

    id: int
    alert_id: int
    about: str
    key: UUID
    created_at: datetime
    tries: int
    kind: Kind
    message: str
    raised_at: datetime
    seen_at: datetime
    times: int
    cleared_at: datetime | None
    dismissed_by: str | None
    organisation_id: int
    organisation: str
    campaign_id: int | None
    campaign: str | None
    pool_id: int | None
    pool: str | None
    endpoint_id: int | None
    endpoint: str | None
    sender_id: int | None
    sender: str | None
    address: str | None

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self.kind]

    @property
    def dismissed(self) -> bool:
        """Whether a person ended it: a lasting one ends by itself, whoever has seen it."""
        return self.dismissed_by is not None and not self.meaning.lasting


def drop_moot(conn: Connection) -> None:
    """Forget what nobody needs to be told any more."""
    conn.execute(SQL.drop_moot)


def forgo(conn: Connection, *, by_mail: bool) -> None:
    """Forget what is due by mail, or by webhook: there is no such way out of this house."""
    conn.execute(SQL.forgo, {"by_mail": by_mail})


def claim(conn: Connection, *, by_mail: bool) -> Notice | None:
    """The next one that is due, no longer due for others; None where there is none.

    It is due again in a minute (then 5, 15, 60) unless it is `done`: commit first, then send within that minute.
    """
    row = conn.execute(SQL.claim, {"by_mail": by_mail}).one_or_none()
    return None if row is None else Notice(**row._asdict() | {"kind": Kind(row.kind)})


def done(conn: Connection, notice_id: int) -> None:
    """It was delivered."""
    conn.execute(SQL.done, {"id": notice_id})


def failed(conn: Connection, notice_id: int, error: str) -> datetime | None:
    """It was not, and why; when it is tried again, None where it was given up."""
    row = conn.execute(SQL.failed, {"id": notice_id, "error": error}).one_or_none()
    return None if row is None else row.due_at
