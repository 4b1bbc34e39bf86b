"""Messages: emails asked for one by one. A store that is only added to, and what of it waits for its time.

Who asks for a thousand at once for the same time makes one row of `message_due`, a slip. When it is due, slips are cut
into ranges of the messages' stream, and from there on a message goes the way of a lead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection

from app.db import Statements, array, copy, copying, fetch, json_list
from app.message_ids import LONGEST_ID
from app.models import campaign
from app.models.campaign import Sending
from app.models.outbox import PageLead, page_leads
from app.shelves import last_of, shelf_of, shelves_of

SQL = Statements("message")
TARGET: Final = "message (id, due_at, organisation_id, campaign_id, domain_id, email, data, metadata)"
SLIPS: Final = "message_due (due_at, first_id, campaign_id, size, shelf, message_ids)"
MOST: Final = 500_000  # messages that are cut in one transaction
RANGE: Final = 5_000  # messages in a range
OWN_RANGE: Final = 500  # of those that bring their own content: 2 MB each at the most
FEW: Final = 16  # messages that are taken by one statement: COPY takes six trips more than it, and less for each
BLOCK: Final = 128  # messages that the server is given at a time: it stores them while the next ones are written
NULL: Final = "\\N"  # as COPY reads it


class Row(NamedTuple):
    """A message as it is stored; `data` and `metadata` are JSON, `metadata` may be None."""

    id: int
    due_at: datetime
    organisation_id: int
    campaign_id: int
    domain_id: int
    email: str
    data: bytes
    metadata: bytes | None


class Slip(NamedTuple):
    """Messages of a stream that are due at the same time, in order of their ids."""

    due_at: datetime
    campaign_id: int
    message_ids: Sequence[int]


class Due(NamedTuple):
    """What is due of a shelf (app/shelves.py)."""

    shelf: int
    slips: int
    messages: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it was asked for. `template` is None where it brought its own content, `sender` an address."""

    id: int
    email: str
    created_at: datetime
    due_at: datetime
    campaign_id: int
    metadata: Mapping[str, Any] | None
    template: str | None
    sender: str


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """Something that happened to a message; a `weight` of -1 takes an earlier one of its kind back."""

    message_id: int
    time: datetime
    kind: str
    machine: bool
    weight: int
    url: str | None
    reason: str | None


class Facts(NamedTuple):
    """Who a message goes to."""

    id: int
    organisation_id: int
    email: str
    domain_id: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where a message belongs, for an event of it."""

    organisation_id: int
    owner_id: int
    pool_id: int
    domain_id: int


class Left(NamedTuple):
    """The range that a message was taken out of. `ends_crashed`: it was the last one, and workers have died on it."""

    run: int
    ends_crashed: bool


# -- Accepting ---------------------------------------------------------------------------------------------------------


def take_few(conn: Connection, rows: Sequence[Row], now: datetime) -> list[int]:
    """Store a handful of messages, accepted now, and let each wait for its time: one statement, one trip.

    Their ids, in order: the rows' own have no numbers in them yet.
    """
    values = {
        "minutes": array(row.id for row in rows),
        "due_at": [row.due_at for row in rows],
        "shelves": array(shelf_of(row.due_at, now) for row in rows),
        "organisation_ids": array(row.organisation_id for row in rows),
        "campaign_ids": array(row.campaign_id for row in rows),
        "domain_ids": array(row.domain_id for row in rows),
        "emails": [row.email for row in rows],
        "data": [row.data.decode() for row in rows],
        "metadata": [row.metadata and row.metadata.decode() for row in rows],
    }
    return [message_id for (message_id,) in fetch(conn, SQL.take_few, values)]


@contextmanager
def appending(conn: Connection, rows: Sequence[Row]) -> Iterator[None]:
    """Add messages to the store, by COPY, while what is within is done. Addresses are what `read_address` gave."""
    with copying(conn, TARGET, map(_lines, (rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK)))):
        yield


def _lines(rows: Sequence[Row]) -> bytes:
    """Rows as COPY reads them."""
    times = {due_at: due_at.isoformat().encode() for due_at in {row.due_at for row in rows}}
    return b"".join(
        [
            b"%d\t%b\t%d\t%d\t%d\t%b\t%b\t%b\n"
            % (
                row.id,
                times[row.due_at],
                row.organisation_id,
                row.campaign_id,
                row.domain_id,
                _escaped(row.email.encode()),
                _escaped(row.data),
                b"\\N" if row.metadata is None else _escaped(row.metadata),
            )
            for row in rows
        ]
    )


def _escaped(written: bytes) -> bytes:
    """JSON of orjson's and addresses hold no tab and no line break: only backslashes mean something to COPY."""
    return written.replace(b"\\", b"\\\\")


def wait(conn: Connection, slips: Sequence[Slip], now: datetime) -> None:
    """Let messages wait for their time, accepted now."""
    lines = [
        f"{slip.due_at.isoformat()}\t{slip.message_ids[0]}\t{slip.campaign_id}\t{len(slip.message_ids)}"
        f"\t{shelf_of(slip.due_at, now)}\t{array(slip.message_ids) if len(slip.message_ids) > 1 else NULL}\n"
        for slip in slips
    ]
    copy(conn, SLIPS, ["".join(lines)])


def cut_now(conn: Connection, campaign_id: int, message_ids: Sequence[int]) -> None:
    """Make a range of messages of a stream that are due now, in order of their ids."""
    conn.execute(SQL.cut_now, {"campaign_id": campaign_id, "message_ids": array(message_ids)})


def add_keys(conn: Connection, organisation_id: int, keys: Mapping[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """Keep key -> (digest, message) where the key is new, digests in hexadecimal; what each key has now.

    Waits for a transaction under way that brings the same ones.
    """
    if not keys:
        return {}
    written = "{" + ",".join(keys) + "}"
    values = {
        "organisation_id": organisation_id,
        "keys": written,
        "digests": "{" + ",".join(digest for digest, _ in keys.values()) + "}",
        "message_ids": array(message_id for _, message_id in keys.values()),
    }
    conn.execute(SQL.add_keys, values)
    rows = conn.execute(SQL.find_keys, {"organisation_id": organisation_id, "keys": written})
    return {row.key.hex: (row.digest.hex, row.message_id) for row in rows}


# -- Cutting -----------------------------------------------------------------------------------------------------------


def find_due(conn: Connection) -> list[Due]:
    """How much is due on each shelf that something is due on, those of the earliest times first."""
    values = {"last": last_of(campaign.now(conn))}
    return [Due(*row) for row in fetch(conn, SQL.find_due, values, prepare=False)]


def cut(conn: Connection, shelf: int, slips: int, size: int = RANGE) -> int:
    """Cut due slips of a shelf, up to so many, into ranges of at most `size`; the number of messages.

    Any number of processes may do it at once: each takes what no other has.
    """
    values = {"shelf": shelf, "slips": slips, "size": size, "own_size": min(size, OWN_RANGE)}
    [(messages,)] = fetch(conn, SQL.cut, values, prepare=False)
    return int(messages)


# -- Sending -----------------------------------------------------------------------------------------------------------


def is_ready(conn: Connection) -> bool:
    """Whether some range of messages is due."""
    return bool(conn.execute(SQL.is_ready).scalar_one())


def load_page(conn: Connection, sending: Sending, message_ids: Sequence[int]) -> list[PageLead]:
    """The messages of a stream's page as leads, in the order asked; one that was dropped since has skip "erased".

    `attributes` is what the message brings. Of a transactional one an unsubscribed address is not left out.
    """
    there = sorted(message_ids)
    values = {
        "organisation_id": sending.organisation_id,
        "sender_id": sending.sender_id,
        "transactional": sending.transactional,
        "first": there[0],
        "last": there[-1],
        "message_ids": array(there),
        "few": len(there) // 4,
    }
    emails, domain_ids, data, size, suppressed = fetch(conn, SQL.load_page, values, prepare=False)[0]
    if size != len(there):  # hardly ever; nothing of it is dropped until this transaction ends
        there = sorted(each.id for each in find_facts(conn, [(sending.campaign_id, each) for each in message_ids]))
    rows = _leads(there, emails, domain_ids, data) if there else []
    is_tracked = sending.track_opens != "off" or sending.track_clicks != "off"
    if not is_tracked and not suppressed and there == list(message_ids):  # nearly always: all are there, in their order
        return rows
    found = {row.id: row for row in rows}
    for each in suppressed or ():
        found[each] = found[each]._replace(skip="suppressed")
    if is_tracked:
        for each in find_untracked(conn, [(sending.campaign_id, each) for each in message_ids]):
            found[each] = found[each]._replace(untracked=True)
    return [found.get(each) or PageLead(each, "", 0, None, {}, "erased") for each in message_ids]


def _leads(ids: Sequence[int], emails: str, domain_ids: str, data: str) -> list[PageLead]:
    """A page came as three values, not as a row for each message: in a third of the time."""
    nothing = [None] * len(ids)
    tracked = [False] * len(ids)
    return page_leads(ids, emails.split("\n"), json_list(domain_ids), nothing, json_list(data), nothing, tracked)


# -- Looking -----------------------------------------------------------------------------------------------------------


def find(conn: Connection, organisation_id: int, message_id: int) -> Stored | None:
    """One message; None where there is none, or it is another organisation's."""
    row = conn.execute(SQL.find, {"organisation_id": organisation_id, "message_id": message_id}).one_or_none()
    return None if row is None else Stored(**row._mapping)


def find_page(
    conn: Connection,
    organisation_id: int,
    *,
    before: int | None = None,
    campaign_ids: Sequence[int] | None = None,
    limit: int = 50,
) -> list[Stored]:
    """Messages, those due latest first, at most `limit` below the id `before`; of all streams, or of these."""
    values = {
        "organisation_id": organisation_id,
        "before": before or LONGEST_ID,
        "campaign_ids": None if campaign_ids is None else list(campaign_ids),
        "limit": limit,
    }
    return [Stored(**row._mapping) for row in conn.execute(SQL.find_page, values)]


def find_waiting(conn: Connection, stored: Sequence[Stored]) -> set[int]:
    """Those of some messages that wait for their time."""
    values = {
        "message_ids": [each.id for each in stored],
        "campaign_ids": [each.campaign_id for each in stored],
        "due_at": [each.due_at for each in stored],
        "shelves": array({shelf for each in stored for shelf in shelves_of(each.due_at)}),
    }
    return {row[0] for row in fetch(conn, SQL.find_waiting, values, prepare=False)} if stored else set()


def find_events(conn: Connection, stored: Sequence[Stored]) -> dict[int, list[MessageEvent]]:
    """message -> what happened to it, in time's order; of some messages."""
    if not stored:
        return {}
    values = {
        "campaign_ids": array({each.campaign_id for each in stored}),
        "message_ids": array(each.id for each in stored),
        "since": min(each.created_at for each in stored),
    }
    found: dict[int, list[MessageEvent]] = {}
    for message_id, time, kind, machine, weight, url, reason in fetch(conn, SQL.find_events, values, prepare=False):
        event = MessageEvent(message_id, time, kind, machine, weight, url, reason)
        found.setdefault(message_id, []).append(event)
    return found


# -- Looking up by id, for what hand-offs, events and webhooks speak of ------------------------------------------------


def find_facts(conn: Connection, asked: Sequence[tuple[int, int]]) -> list[Facts]:
    """Who messages go to, for (stream, message) pairs; those that were dropped are left out."""
    return [Facts(*row) for row in fetch(conn, SQL.find_facts, _asked(asked), prepare=False)]


def find_places(conn: Connection, asked: Sequence[tuple[int, int]]) -> list[tuple[int, int, int, int, int]]:
    """(stream, message, range, size of the range, place in it from 0) for (stream, message) pairs."""
    values = {
        "campaign_ids": array(campaign_id for campaign_id, _ in asked),
        "message_ids": array(message_id for _, message_id in asked),
    }
    return fetch(conn, SQL.find_places, values)


def find_untracked(conn: Connection, asked: Sequence[tuple[int, int]]) -> set[int]:
    """Of (stream, message) pairs the messages that go to a lead who asked not to be tracked."""
    return {row[0] for row in fetch(conn, SQL.find_untracked, _asked(asked), prepare=False)}


def find_stand_ins(conn: Connection, organisation_id: int, message_ids: Sequence[int]) -> list[tuple[int, str, int]]:
    """(message, address, who stands for that): the lead who has it, or a number below zero that it alone gives."""
    values = {
        "organisation_id": organisation_id,
        "first": min(message_ids),
        "last": max(message_ids),
        "message_ids": array(message_ids),
    }
    return fetch(conn, SQL.find_stand_ins, values, prepare=False)


def _asked(asked: Sequence[tuple[int, int]]) -> dict[str, object]:
    ids = [message_id for _, message_id in asked]
    campaigns = {campaign_id for campaign_id, _ in asked}
    return {"campaign_ids": array(campaigns), "first": min(ids), "last": max(ids), "message_ids": array(ids)}


# -- Taking out --------------------------------------------------------------------------------------------------------


def take_out(conn: Connection, stored: Stored) -> bool:
    """Let a message wait no longer; False where it was cut into a range, or taken out, already."""
    values = {
        "shelves": array(shelves_of(stored.due_at)),
        "due_at": stored.due_at,
        "campaign_id": stored.campaign_id,
        "message_id": stored.id,
    }
    left_a_slip = fetch(conn, SQL.leave_slip, values, prepare=False)
    return bool(left_a_slip or fetch(conn, SQL.end_slip, values, prepare=False))


def find_range(conn: Connection, stored: Stored) -> int | None:
    """The range that a message is still to be handed over from; None where there is none."""
    found: int | None = conn.execute(
        SQL.find_range, {"campaign_id": stored.campaign_id, "message_id": stored.id}
    ).scalar()
    return found


def leave_range(conn: Connection, range_id: int, message_id: int) -> Left | None:
    """Count a message of a range as cancelled: nobody hands it over. Waits for whoever is just taking the range.

    None where somebody has the range in hand, or it has the message no more, or the message may have left already.
    """
    row = conn.execute(SQL.leave_range, {"range_id": range_id, "message_id": message_id}).one_or_none()
    return None if row is None else Left(*row)


def find_source(conn: Connection, organisation_id: int, message_id: int) -> Source:
    """What an event of a message belongs to."""
    return Source(*conn.execute(SQL.find_source, {"organisation_id": organisation_id, "message_id": message_id}).one())


def to_json(value: object) -> bytes:
    """JSON as it is stored. Raises TypeError (orjson's) for what is none: numbers beyond 64 bits, broken characters."""
    written: bytes = orjson.dumps(value)
    return written
