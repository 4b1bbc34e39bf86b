"""Suppressions: addresses never to be mailed again, by anybody or by one sender, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, FetchedValue
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Statements

SQL = Statements("suppression")

EVERYBODY: Final = 0  # as a sender: no email at all, whoever it is from
# The gravest first: an address has the gravest of its reasons, and of equal ones the earliest. By hand is graver than
# soft bounces, which a delivery that becomes known later may take back.
REASONS: Final = ("complained", "unsubscribed", "bounced", "manual", "soft_bounced")
# What a suppression for everybody makes of the lead who has the address; by hand leaves the status alone.
STATUS: Final = {
    "unsubscribed": "unsubscribed",
    "complained": "unsubscribed",
    "bounced": "invalid",
    "soft_bounced": "invalid",
}
# What only the person mailed can take back.
WISHES: Final = ("complained", "unsubscribed")


class Suppression(Base):
    """An address that is not mailed. `source` says where that was learnt: a campaign, a provider, a person."""

    __tablename__ = "suppression"

    organisation_id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(primary_key=True)
    sender_id: Mapped[int] = mapped_column(primary_key=True, default=EVERYBODY)
    reason: Mapped[str]
    source: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    happened_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    user_id: Mapped[int | None]


class Entry(NamedTuple):
    """An address (in the form that `app.addresses` gives) to be suppressed; `at` is when it happened, None: now."""

    email: str
    reason: str
    source: str = ""
    sender_id: int = EVERYBODY
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A suppression as lists show it; `sender` and `entered_by` are names, None: any sender, not by a person."""

    email: str
    sender_id: int
    reason: str
    source: str
    created_at: datetime
    happened_at: datetime
    sender: str | None
    entered_by: str | None

    @property
    def is_wish(self) -> bool:
        """Whether only the person mailed can take it back."""
        return self.reason in WISHES


@dataclass(frozen=True, slots=True)
class Removed:
    """A suppression that was taken back: of whom, when and why. `removed_by` is a name, None where no user did it."""

    email: str
    sender_id: int
    reason: str
    source: str
    created_at: datetime
    removed_at: datetime
    note: str
    sender: str | None
    removed_by: str | None


def suppress(
    conn: Connection,
    organisation_id: int,
    emails: Iterable[str],
    reason: str,
    source: str = "",
    *,
    sender_id: int = EVERYBODY,
    user_id: int | None = None,
    at: datetime | None = None,
) -> int:
    """Suppress addresses (in the form that `app.addresses` gives) for one sender, or for all; how many were new.

    For all, their leads are closed too. An address keeps the gravest of its reasons, so doing it again, or in another
    order, changes nothing. `user_id`: the person who says so.
    """
    entries = [Entry(email, reason, source, sender_id, at) for email in emails]
    return suppress_each(conn, organisation_id, entries, user_id=user_id)


def suppress_each(
    conn: Connection, organisation_id: int, entries: Iterable[Entry], *, user_id: int | None = None
) -> int:
    """The same for addresses of which each has its own reason, source, sender and time; how many were new."""
    wanted = _gravest(entries)
    if not wanted:
        return 0
    values = {
        "organisation_id": organisation_id,
        "user_id": user_id,
        "gravest": list(REASONS),
        "emails": [each.email for each in wanted],
        "sender_ids": [each.sender_id for each in wanted],
        "reasons": [each.reason for each in wanted],
        "sources": [each.source for each in wanted],
        "times": [each.at for each in wanted],
    }
    new = int(conn.execute(SQL.insert_suppressions, values).scalar_one())
    closing = {each.email: STATUS[each.reason] for each in wanted if not each.sender_id and each.reason in STATUS}
    if closing:
        closed = {"emails": list(closing), "statuses": list(closing.values())}
        conn.execute(SQL.close_leads, {"organisation_id": organisation_id} | closed)
    return new


def _gravest(entries: Iterable[Entry]) -> list[Entry]:
    """One entry an address and sender, as the statement would choose among several of them."""
    best: dict[tuple[str, int], Entry] = {}
    for each in entries:
        known = best.get((each.email, each.sender_id))
        if known is None or _rank(each) < _rank(known):
            best[each.email, each.sender_id] = each
    return [best[key] for key in sorted(best)]


def _rank(entry: Entry) -> tuple[int, float, str]:
    return REASONS.index(entry.reason), entry.at.timestamp() if entry.at else float("inf"), entry.source


def remove(
    conn: Connection,
    organisation_id: int,
    emails: Sequence[str],
    *,
    sender_id: int = EVERYBODY,
    reason: str | None = None,
    user_id: int | None = None,
    note: str = "",
) -> list[str]:
    """Take suppressions back, only those of a `reason` where one is given; the addresses of which there was one.

    It is kept that they were there, and who removed them. Their leads are not touched.
    """
    values = {"organisation_id": organisation_id, "emails": sorted(emails), "sender_id": sender_id, "reason": reason}
    return list(conn.execute(SQL.remove, values | {"user_id": user_id, "note": note}).scalars())


def reopen_leads(conn: Connection, organisation_id: int, emails: Sequence[str], statuses: Sequence[str]) -> int:
    """Make leads of these addresses active again where they have one of `statuses`; how many."""
    values = {"organisation_id": organisation_id, "emails": list(emails), "statuses": list(statuses)}
    return conn.execute(SQL.reopen_leads, values).rowcount


def find(conn: Connection, organisation_id: int, email: str) -> Row | None:
    """The suppression of one address for everybody, if there is one."""
    found = find_all(conn, organisation_id, email)
    return found[0] if found and found[0].sender_id == EVERYBODY else None


def find_all(conn: Connection, organisation_id: int, email: str) -> list[Row]:
    """All suppressions of one address: that for everybody first, then those of single senders."""
    rows = conn.execute(SQL.find, {"organisation_id": organisation_id, "email": email})
    return [Row(**row._mapping) for row in rows]


def is_suppressed(conn: Connection, organisation_id: int, email: str, sender_id: int = EVERYBODY) -> bool:
    """Whether this sender may not mail this address; by default whether nobody may."""
    values = {"organisation_id": organisation_id, "email": email, "sender_id": sender_id}
    return bool(conn.execute(SQL.is_suppressed, values).scalar_one())


def find_page(conn: Connection, organisation_id: int, search: str, after: tuple[str, int], limit: int) -> list[Row]:
    """Suppressions by address and sender, at most `limit`, behind `after` (("", 0): from the first).

    `search`: the beginning of an address.
    """
    prefix = search.strip().lower().replace("\0", "")
    values = {"organisation_id": organisation_id, "prefix": prefix, "high": prefix + "\U0010ffff", "limit": limit}
    rows = conn.execute(SQL.find_page, values | {"after": after[0].replace("\0", ""), "after_sender": after[1]})
    return [Row(**row._mapping) for row in rows]


def find_removed(conn: Connection, organisation_id: int, email: str, limit: int = 20) -> list[Removed]:
    """What was taken back for one address, the latest first."""
    values = {"organisation_id": organisation_id, "email": email, "limit": limit}
    return [Removed(**row._mapping) for row in conn.execute(SQL.find_removed, values)]
