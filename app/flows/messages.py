"""Messages: accepting what programs ask for, saying what became of it, and taking it back before it left.

Who calls owns the transaction: what a program is answered and what is kept for it are committed together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from app.errors import Conflict, Fault, Invalid, NotFound
from app.flows import range_messages
from app.flows.read_messages import Asked, NewMessage
from app.flows.read_messages import read as read_asked
from app.mail import Kind
from app.message_ids import from_public, id_of, to_public
from app.models import campaign, event, lead, message, stream
from app.models.event import Fact, Source
from app.models.message import MessageEvent, Row, Slip, Stored
from app.models.stream import Kind as Stream
from app.models.template_data import OWN_CONTENT
from app.runtime import Runtime

__all__ = ["Accepted", "MessageStatus", "NewMessage", "Step", "accept", "cancel", "find_page", "read", "take"]

# As many that are due now are a range at once. Fewer wait, for a moment, in the queue of what is due: whoever hears the
# bell cuts them together with all others of that moment. A range of one costs a worker as much as a range of hundreds.
ENOUGH: Final = 50

# What a message is by now, the word of the first of these kinds that it has; "queued" where it has none.
STATES: Final = (
    Kind.CANCELLED,
    Kind.SKIPPED,
    Kind.REFUSED,
    Kind.COMPLAINED,
    Kind.BOUNCED,
    Kind.DELIVERED,
    Kind.FAILED,
    Kind.SENT,
    Kind.UNKNOWN,
)
SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
FIRST_RUN: Final = 1
ON_ITS_WAY: Final = "A worker has the message in hand, or it may have left: it cannot be cancelled now."


@dataclass(frozen=True, slots=True)
class Accepted:
    """The messages' ids, in the order asked. `due_now`: some may go at once, so ring "send" after the commit."""

    ids: list[str]
    due_now: bool


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to a message; `machine`: opened or clicked by a program, as far as can be told."""

    at: datetime
    kind: str
    reason: str | None
    url: str | None
    machine: bool


@dataclass(frozen=True, slots=True)
class MessageStatus:
    """A message and what became of it.

    `state`: scheduled, queued (its time has come), sent, delivered, bounced, complained, refused, failed, skipped,
    unknown, cancelled. `events` are in time's order.
    """

    id: str
    to: str
    template: str | None
    sender: str
    state: str
    created_at: datetime
    send_at: datetime
    metadata: Mapping[str, Any] | None
    events: Sequence[Step] = ()


def take(runtime: Runtime, organisation_id: int, user_id: int, messages: Sequence[NewMessage]) -> Accepted:
    """Keep messages as `accept` does, in as few trips to the database as it can be; and wake a worker."""
    taken = _take_few(runtime, organisation_id, messages)
    if taken is None:
        with runtime.db.begin() as conn:
            taken = accept(conn, organisation_id, user_id, messages)
    if taken.due_now:
        runtime.ring_soon("send")
    return taken


def _take_few(runtime: Runtime, organisation_id: int, messages: Sequence[NewMessage]) -> Accepted | None:
    """Keep a few by one statement, and so all or none. None where it takes more: keys, a new domain, a stream's first.

    Each waits by itself, for a moment at least: of so few no range is made.
    """
    if len(messages) > message.FEW or any(each.idempotency_key is not None for each in messages):
        return None
    with runtime.db.each() as conn:
        known, asked = read_asked(conn, organisation_id, messages, numbers=0)
        if not all(each.domain in known.domains and each.kind in known.streams for each in asked):
            return None
        rows = _rows(organisation_id, known.now, known.streams, known.domains, asked, [0] * len(asked))
        found = message.take_few(conn, rows, known.now)
    return Accepted([to_public(each) for each in found], any(row.due_at <= known.now for row in rows))


def accept(conn: Connection, organisation_id: int, user_id: int, messages: Sequence[NewMessage]) -> Accepted:
    """Keep messages, all or none. `user_id` answers for streams that are opened for them.

    Raises Invalid naming every field that is wrong: "0.to", "17.template".
    """
    known, asked = read_asked(conn, organisation_id, messages, numbers=len(messages))
    streams, domains = dict(known.streams), dict(known.domains)
    if kinds := {each.kind for each in asked} - streams.keys():
        streams |= stream.find_or_open(conn, organisation_id, user_id, kinds, OWN_CONTENT)
    if names := {each.domain for each in asked} - domains.keys():
        domains |= lead.number_domains(conn, names)
    rows = _rows(organisation_id, known.now, streams, domains, asked, known.numbers)
    ids, new = _without_repeats(conn, organisation_id, asked, rows)
    with message.appending(conn, new):
        public = [to_public(each) for each in ids]
    return Accepted(public, due_now=_queue(conn, new, known.now))


def _rows(
    organisation_id: int,
    now: datetime,
    streams: Mapping[Stream, int],
    domains: Mapping[str, int],
    asked: Sequence[Asked],
    numbers: Sequence[int],
) -> list[Row]:
    at_once = id_of(now, 0)
    return [
        _row(each, number, organisation_id, streams[each.kind], domains[each.domain], now, at_once)
        for each, number in zip(asked, numbers, strict=True)
    ]


def _row(
    asked: Asked, number: int, organisation_id: int, campaign_id: int, domain_id: int, now: datetime, at_once: int
) -> Row:
    due_at, message_id = now, at_once | number
    if asked.send_at is not None and asked.send_at > now:
        due_at, message_id = asked.send_at, id_of(asked.send_at, number)
    return Row(message_id, due_at, organisation_id, campaign_id, domain_id, asked.email, asked.data, asked.metadata)


def _without_repeats(
    conn: Connection, organisation_id: int, asked: Sequence[Asked], rows: Sequence[Row]
) -> tuple[list[int], list[Row]]:
    """Each message's id, and those that are new: the key of a repeat stands for the message that had it first."""
    keys: dict[str, tuple[str, int]] = {}
    for each, row in zip(asked, rows, strict=True):
        if each.key is not None:
            keys.setdefault(each.key, (each.digest, row.id))
    known = message.add_keys(conn, organisation_id, keys)
    ids, new, faults = [], [], []
    for place, (each, row) in enumerate(zip(asked, rows, strict=True)):
        digest, message_id = known[each.key] if each.key is not None else (each.digest, row.id)
        if digest != each.digest:
            said = "Another message was asked for under this key: a key stands for one message."
            faults.append(Fault(f"{place}.idempotency_key", said))
        ids.append(message_id)
        if message_id == row.id:
            new.append(row)
    if faults:
        raise Invalid(faults)
    return ids, new


def _queue(conn: Connection, rows: Sequence[Row], now: datetime) -> bool:
    """Range by stream what is due now, and let the rest wait; whether any of it is due now."""
    together: defaultdict[tuple[int, datetime], list[int]] = defaultdict(list)
    for row in rows:
        together[row.campaign_id, row.due_at].append(row.id)
    slips = []
    for (campaign_id, due_at), message_ids in together.items():
        message_ids.sort()
        if due_at <= now and len(message_ids) >= ENOUGH:
            message.cut_now(conn, campaign_id, message_ids)
        else:
            slips.append(Slip(due_at, campaign_id, message_ids))
    if slips:
        message.wait(conn, slips, now)
    return any(due_at <= now for _, due_at in together)


def read(conn: Connection, organisation_id: int, public_id: str) -> MessageStatus:
    """What became of a message, with all that happened to it. Raises NotFound."""
    stored = _find(conn, organisation_id, public_id)
    return _describe(conn, [stored])[0]


def find_page(
    conn: Connection,
    organisation_id: int,
    *,
    before: str | None = None,
    campaign_ids: Sequence[int] | None = None,
    limit: int = 50,
) -> list[MessageStatus]:
    """Messages, those due latest first: at most `limit` behind the id `before`; of all streams or of these.

    Raises Invalid ("before") for an id that is none.
    """
    after = None
    if before is not None and (after := from_public(before)) is None:
        raise Invalid.one("before", "This is no id of a message.")
    stored = message.find_page(conn, organisation_id, before=after, campaign_ids=campaign_ids, limit=limit)
    return _describe(conn, stored)


def cancel(conn: Connection, organisation_id: int, public_id: str) -> None:
    """Take a message back before it left: while it waits for its time, or in a range that no worker has in hand.

    Raises NotFound, or Conflict where it is on its way or gone.
    """
    stored = _find(conn, organisation_id, public_id)
    run = FIRST_RUN
    if not message.take_out(conn, stored):
        left = range_messages.leave(conn, stored) if _state_of(conn, stored) == QUEUED else None
        if left is None:
            state = _state_of(conn, stored)
            raise Conflict(ON_ITS_WAY if state == QUEUED else f"The message is {state}: it can no longer be cancelled.")
        run = left.run
    found = message.find_source(conn, organisation_id, stored.id)
    source = Source(found.organisation_id, found.owner_id, stored.campaign_id, found.pool_id, run=run, message=True)
    event.append(conn, source, [Fact(stored.id, found.domain_id, Kind.CANCELLED)])


def _find(conn: Connection, organisation_id: int, public_id: str) -> Stored:
    message_id = from_public(public_id)
    stored = None if message_id is None else message.find(conn, organisation_id, message_id)
    if stored is None:
        raise NotFound("There is no such message.")
    return stored


def _state_of(conn: Connection, stored: Stored) -> str:
    return _describe(conn, [stored])[0].state


def _describe(conn: Connection, stored: Sequence[Stored]) -> list[MessageStatus]:
    waiting = message.find_waiting(conn, stored)
    events = message.find_events(conn, stored)
    now = campaign.now(conn)
    return [_status(each, events.get(each.id, []), waiting=each.id in waiting and each.due_at > now) for each in stored]


def _status(stored: Stored, events: Sequence[MessageEvent], *, waiting: bool) -> MessageStatus:
    return MessageStatus(
        id=to_public(stored.id),
        to=stored.email,
        template=stored.template,
        sender=stored.sender,
        state=SCHEDULED if waiting else _state(events),
        created_at=stored.created_at,
        send_at=stored.due_at,
        metadata=stored.metadata,
        events=[Step(each.time, each.kind, each.reason, each.url, each.machine) for each in events if each.weight > 0],
    )


def _state(events: Sequence[MessageEvent]) -> str:
    sums: Counter[str] = Counter()
    for each in events:
        sums[each.kind] += each.weight
    return next((kind.value for kind in STATES if sums[kind.value] > 0), QUEUED)
