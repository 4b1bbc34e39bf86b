"""Suppressions by hand: entered, taken back, written out as CSV.

To take one back makes the lead active again: nothing else would be meant by it. What somebody has asked for themselves
(they unsubscribed, or complained) is taken back only where they have asked for that too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Final

from sqlalchemy import Connection

from app.addresses import read_address
from app.csv_text import csv_line
from app.errors import Conflict, Fault, Invalid, NotFound
from app.models import bounce, lead, sender
from app.models import suppression as suppressions
from app.models.sender import SenderLine
from app.models.suppression import EVERYBODY, Row
from app.runtime import Runtime

MOST: Final = 1000  # addresses entered at a time; more of them are a file
PAGE: Final = 2000  # rows of an export in one short transaction
COLUMNS: Final = ("email", "sender", "reason", "source", "since")
CONSENT: Final = "They asked for this themselves: it is taken back only when they ask for that, too."


def add(
    runtime: Runtime,
    organisation_id: int,
    raw: Sequence[str],
    *,
    sender_id: int = EVERYBODY,
    note: str = "",
    user_id: int | None = None,
) -> int:
    """Suppress these addresses by hand; how many were not suppressed yet.

    Raises Invalid naming "emails", "sender" or "note"; nothing was changed then.
    """
    emails, faults = _read(raw)
    if len(note) > 200 or "\0" in note:
        faults.append(Fault("note", "Use at most 200 characters."))
    with runtime.db.begin() as conn:
        if sender_id != EVERYBODY and sender_id not in senders_of(conn, organisation_id):
            faults.append(Fault("sender", "There is no such sender."))
        if faults:
            raise Invalid(faults)
        source = note.strip() or "by hand"
        return suppressions.suppress(
            conn, organisation_id, emails, "manual", source, sender_id=sender_id, user_id=user_id
        )


def _read(raw: Sequence[str]) -> tuple[list[str], list[Fault]]:
    wanted = [each.strip() for each in raw if each.strip()]
    if not wanted:
        return [], [Fault("emails", "Enter at least one address.")]
    if len(wanted) > MOST:
        return [], [Fault("emails", f"Enter at most {MOST:,} addresses; import a file with more of them.")]
    emails, faults = [], []
    for each in wanted:
        try:
            emails.append(read_address(each)[0])
        except Invalid as invalid:
            faults.append(Fault("emails", f"{each[:80]}: {invalid.faults[0].message}"))
    return emails, faults[:10]


def remove(
    runtime: Runtime,
    organisation_id: int,
    email: str,
    *,
    sender_id: int = EVERYBODY,
    consent: bool = False,
    user_id: int | None = None,
) -> None:
    """Mail an address again; who has decided so is kept.

    `consent`: the person has asked for it. Raises NotFound, Invalid ("consent") where that is needed and missing, and
    Conflict where there is another reason since.
    """
    with runtime.db.begin() as conn:
        row = find(conn, organisation_id, email, sender_id)
        if not consent and needs_consent(conn, organisation_id, row):
            raise Invalid.one("consent", CONSENT)
        found = [row.email]
        # In the order of who reads webhooks: what is counted of bounces, the suppression, the lead.
        bounce.forget(conn, lead.find_ids(conn, organisation_id, found))
        if not suppressions.remove(
            conn, organisation_id, found, sender_id=sender_id, reason=row.reason, user_id=user_id
        ):
            raise Conflict("It has changed since you looked: look again.")
        if sender_id == EVERYBODY:
            suppressions.reopen_leads(conn, organisation_id, found, ["invalid", "unsubscribed"])


def find(conn: Connection, organisation_id: int, email: str, sender_id: int) -> Row:
    """The suppression of one address for one sender, or for everybody; raises NotFound."""
    rows = suppressions.find_all(conn, organisation_id, email.strip().lower().replace("\0", ""))
    for row in rows:
        if row.sender_id == sender_id:
            return row
    raise NotFound("This address is not suppressed.")


def needs_consent(conn: Connection, organisation_id: int, row: Row) -> bool:
    """Whether only the person mailed can take this back: by its reason, or since they have unsubscribed besides."""
    if row.is_wish:
        return True
    return row.sender_id == EVERYBODY and lead.find_status(conn, organisation_id, row.email) == "unsubscribed"


def senders_of(conn: Connection, organisation_id: int) -> dict[int, SenderLine]:
    """number -> sender, of an organisation."""
    return {each.id: each for each in sender.list_senders(conn, organisation_id)}


def export(runtime: Runtime, organisation_id: int) -> Iterator[str]:
    """Blocks of CSV lines, the header first, by address; safe to open in a spreadsheet. Times are UTC, ISO 8601.

    Each page is a short transaction of its own: what is added meanwhile may be missing.
    """
    with runtime.reports.begin() as conn:
        names = {number: call(each) for number, each in senders_of(conn, organisation_id).items()}
    after, full, header = ("", EVERYBODY), True, csv_line(COLUMNS)
    while full:
        with runtime.reports.begin() as conn:
            page = suppressions.find_page(conn, organisation_id, "", after, PAGE)
        yield header + "".join(_line(row, names) for row in page)
        header, full = "", len(page) == PAGE
        after = (page[-1].email, page[-1].sender_id) if page else after


def call(each: SenderLine) -> str:
    """A sender as files name it."""
    return f"{each.name} <{each.address}>"


def _line(row: Row, names: dict[int, str]) -> str:
    whom = names.get(row.sender_id, f"sender {row.sender_id}") if row.sender_id else ""
    since = row.happened_at.astimezone(UTC).isoformat()
    return csv_line([row.email, whom, row.reason, row.source, since])
