"""Mailboxes: where reports of a pool's emails come back, and which emails of ours they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection

from app.db import Statements, array
from app.models import alert

SQL = Statements("mailbox")

EVERY: Final = 60.0  # seconds between two looks; twice as long after each failure, an hour at most
TELL_AFTER: Final = 4  # failures in a row until somebody is told: a quarter of an hour
LEASE: Final = 600.0  # seconds that one look may take


class Box(NamedTuple):
    """A pool's mailbox; `url` is encrypted."""

    pool_id: int
    url: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """Messages: reports and complaints of emails of ours, such of emails that are not, answers, and other mail."""

    reports: int = 0
    unmatched: int = 0
    answers: int = 0
    others: int = 0

    def __add__(self, more: Taken) -> Taken:
        return Taken(
            self.reports + more.reports,
            self.unmatched + more.unmatched,
            self.answers + more.answers,
            self.others + more.others,
        )

    @property
    def total(self) -> int:
        return self.reports + self.unmatched + self.answers + self.others


@dataclass(frozen=True, slots=True)
class BoxLine:
    """A mailbox as lists show it: `failures` in a row, and the last one's `error`; counts as in Taken."""

    organisation_id: int
    pool_id: int
    pool: str
    shown_url: str
    read_at: datetime | None
    failures: int
    error: str | None
    reports: int
    unmatched: int
    answers: int
    others: int


def find_pools(conn: Connection, emails: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """(hand-off, lead) -> the SMTP pool that it went through, of emails that exist."""
    values = {
        "handoff_ids": array(handoff_id for handoff_id, _ in emails),
        "lead_ids": array(lead_id for _, lead_id in emails),
    }
    return {(row.handoff_id, row.lead_id): row.pool_id for row in conn.execute(SQL.find_pools, values)}


def put(conn: Connection, pool_id: int, url: bytes, shown_url: str) -> None:
    """The pool's reports come to this mailbox from now on; it is read at the next turn."""
    conn.execute(SQL.set, {"pool_id": pool_id, "url": url, "shown_url": shown_url})


def remove(conn: Connection, pool_id: int) -> bool:
    """Read the pool's mailbox no more; whether it had one."""
    alert.clear(conn, alert.Kind.MAILBOX_FAILED, pool_id)
    return conn.execute(SQL.remove, {"pool_id": pool_id}).rowcount > 0


def claim(conn: Connection) -> Box | None:
    """A mailbox that is due, ours alone for `LEASE` seconds; None where none is."""
    row = conn.execute(SQL.claim, {"lease": LEASE}).first()
    return None if row is None else Box(*row)


def claim_one(conn: Connection, pool_id: int) -> Box | None:
    """This pool's mailbox, due or not; None where it has none."""
    row = conn.execute(SQL.claim_one, {"pool_id": pool_id, "lease": LEASE}).first()
    return None if row is None else Box(*row)


def note_read(conn: Connection, box: Box) -> None:
    """It was read to its end, and is due again in a minute."""
    conn.execute(SQL.note_read, {"pool_id": box.pool_id, "url": box.url, "every": EVERY})
    alert.clear(conn, alert.Kind.MAILBOX_FAILED, box.pool_id)


def note_taken(conn: Connection, pool_id: int, taken: Taken) -> None:
    """Count what came out of a pool's mailbox."""
    values = {
        "pool_id": pool_id,
        "reports": taken.reports,
        "unmatched": taken.unmatched,
        "answers": taken.answers,
        "others": taken.others,
    }
    conn.execute(SQL.note_taken, values)


def note_failed(conn: Connection, box: Box, error: str) -> None:
    """It could not be read: again later; a person is told where that goes on."""
    values = {"pool_id": box.pool_id, "url": box.url, "every": EVERY, "error": error[:1000].replace("\0", "")}
    failures = conn.execute(SQL.note_failed, values).scalar() or 0
    if failures >= TELL_AFTER:
        alert.raise_alert(conn, alert.Kind.MAILBOX_FAILED, box.pool_id, error)


def list_all(conn: Connection) -> list[BoxLine]:
    """The mailboxes of all pools of all organisations."""
    return [BoxLine(**row._mapping) for row in conn.execute(SQL.list, {"pool_id": None})]


def find_line(conn: Connection, pool_id: int) -> BoxLine | None:
    """A pool's mailbox as lists show it; None where it has none."""
    row = conn.execute(SQL.list, {"pool_id": pool_id}).first()
    return None if row is None else BoxLine(**row._mapping)


def find(conn: Connection, pool_id: int) -> Box | None:
    """A pool's mailbox, left as it is; None where it has none."""
    row = conn.execute(SQL.find, {"pool_id": pool_id}).first()
    return None if row is None else Box(*row)


def hurry(conn: Connection, pool_id: int) -> None:
    """Have it read at the next turn, unless somebody is at it."""
    conn.execute(SQL.hurry, {"pool_id": pool_id, "every": EVERY})


def find_named(conn: Connection, name: str) -> list[int]:
    """SMTP pools of this number or name, of all organisations."""
    number = int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else 0
    return list(conn.execute(SQL.find_named, {"pool_id": number, "name": name}).scalars())
