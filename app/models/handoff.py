"""Hand-offs: provider calls, each written down before it is made, with one outcome a lead afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from app.db import Statements, array
from app.errors import LeaseLost
from app.mail import Kind
from app.models import refs
from app.models.outbox import Lease

SQL = Statements("handoff")

# Every state that a call may go to from another, and why; docs/reliability.md draws it.
MOVES: Final[Mapping[str, Mapping[str, str]]] = {
    "handed": {
        "settled": "answered, or known by webhooks when its worker died",
        "unknown": "the answer was lost, or the worker died",
    },
    "unknown": {"settled": "a late answer, the same call again, a webhook, a person or a policy"},
    "settled": {},
}
# One letter a lead in `handoff.outcomes`. "d" is put off: the lead stands in a later range.
LETTERS: Final = {Kind.SENT: "s", Kind.REFUSED: "r", Kind.FAILED: "f", Kind.DEFERRED: "d", Kind.UNKNOWN: "u"}
LEFT: Final = "l"  # unknown, and given up: it counts as failed, and evidence may still show that it was sent
AGAIN: Final = "a"  # unknown or failed, and sent again: the lead stands in a later range
# What a letter counts as; the others are counted where their lead stands now.
COUNTS_AS: Final = {"s": Kind.SENT, "r": Kind.REFUSED, "f": Kind.FAILED, "u": Kind.UNKNOWN, LEFT: Kind.FAILED}

REPEAT_IN: Final = 5.0  # seconds until a call whose reply was lost is made again under its key
LOOK_UP_IN: Final = 30.0  # seconds until the provider is asked what became of one, where it can be


@dataclass(frozen=True, slots=True)
class HandOff:
    """One call about to be made."""

    id: int
    key: UUID
    lead_ids: list[int]


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of one call: `letters` one a lead, `refs` one a lead or one for all, `answer` when it failed whole."""

    handoff_id: int
    letters: str
    refs: Sequence[str]
    answer: str | None = None
    lead_ids: Sequence[int] = ()
    whole: bool = False  # it was one call, under its own key, whose reply was lost: it may be made again


@dataclass(frozen=True, slots=True)
class Standing:
    """A call and what is known of it; `repeats` while it will be made again under its key, `tries` how often it was."""

    id: int
    range_id: int
    campaign_id: int
    run: int
    variant: int
    pool_id: int
    lead_ids: list[int]
    letters: str
    repeats: bool
    tries: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an email came from: what a webhook about it needs to know. `outcomes` is None while it is handed over."""

    id: int
    range_id: int
    campaign_id: int
    organisation_id: int
    owner_id: int
    pool_id: int
    run: int
    variant: int
    state: str
    outcomes: str | None
    lead_ids: list[int]
    handed_at: datetime


@dataclass(frozen=True, slots=True)
class Repeat:
    """A frozen call that is to be made again; `age` is in seconds since it was handed over, `lives` until its key dies.

    `probe`: its pool was found down, and this call tries whether it is back.
    """

    id: int
    range_id: int
    campaign_id: int
    run: int
    variant: int
    pool_id: int
    key: UUID = field(repr=False)
    lead_ids: list[int] = field(repr=False)
    letters: str
    tries: int
    frozen: bytes = field(repr=False)  # b"" where its parts have left
    age: float
    lives: float
    probe: bool
    campaign_state: str


@dataclass(frozen=True, slots=True)
class Question:
    """A call of which its provider may be asked; `age` is in seconds since it was handed over, `pool_url` encrypted."""

    id: int
    campaign_id: int
    pool_id: int
    pool_url: bytes = field(repr=False)
    key: UUID = field(repr=False)
    lead_ids: list[int] = field(repr=False)
    age: float


def write(
    conn: Connection,
    lease: Lease,
    lead_ids: Sequence[int],
    *,
    pool_id: int,
    variant: int,
    batch: int,
    frozen: Sequence[bytes] | None = None,
    repeat_for: float = 0.0,
) -> list[HandOff]:
    """Write one hand-off for every `batch` leads, in order.

    `frozen` holds each call where it may be repeated, for `repeat_for` seconds.
    """
    values = {
        "range_id": lease.range_id,
        "campaign_id": lease.campaign_id,
        "run": lease.run,
        "pool_id": pool_id,
        "variant": variant,
        "lead_ids": array(lead_ids),
        "batch": batch,
        "frozen": None if frozen is None else list(frozen),
        "repeat_for": repeat_for,
    }
    rows = sorted(conn.execute(SQL.write, values), key=lambda row: row.id)  # ids are given out in the page's order
    firsts = range(0, len(lead_ids), batch)
    return [
        HandOff(row.id, row.key, list(lead_ids[first : first + batch])) for row, first in zip(rows, firsts, strict=True)
    ]


def settle(conn: Connection, settled: Sequence[Settled], *, unspoken: bool = False) -> None:
    """Close the calls of a page; raises LeaseLost where one of them was settled by somebody else meanwhile.

    `unspoken`: also where a webhook has spoken of one, which these outcomes do not heed.
    """
    values = {
        "ids": [each.handoff_id for each in settled],
        "letters": [each.letters for each in settled],
        "refs": [refs.pack(each.refs) for each in settled],
        "answers": [each.answer for each in settled],
        "whole": [each.whole for each in settled],
        "repeat_in": REPEAT_IN,
        "look_up_in": LOOK_UP_IN,
        "unspoken": unspoken,
    }
    if conn.execute(SQL.settle, values).rowcount != len(settled):
        raise LeaseLost("a hand-off was settled by somebody else, or a webhook has spoken of it")


def find_evidence(conn: Connection, range_id: int) -> dict[int, dict[int, Kind]]:
    """hand-off -> lead -> SENT or REFUSED, as webhooks said of a range's calls that are not settled yet."""
    rows = conn.execute(SQL.find_evidence, {"range_id": range_id})
    return {
        row.id: dict.fromkeys((lead_id for lead_id in row.evidence if lead_id > 0), Kind.SENT)
        | dict.fromkeys((-lead_id for lead_id in row.evidence if lead_id < 0), Kind.REFUSED)
        for row in rows
    }


def stand_unknown(conn: Connection, range_id: int) -> list[Standing]:
    """Turn the unsettled calls of a range into unknown ones, but for the leads that webhooks spoke of; give them."""
    values = {"range_id": range_id, "look_up_in": LOOK_UP_IN}
    return [Standing(*row) for row in conn.execute(SQL.stand_unknown, values)]


def read_handed(conn: Connection, range_id: int) -> list[HandOff]:
    """The calls of a range that were written and not settled, in order."""
    return [HandOff(*row) for row in conn.execute(SQL.read_handed, {"range_id": range_id})]


def find_ranges(conn: Connection, handoff_ids: Iterable[int]) -> list[int]:
    """The ranges that calls belong to."""
    return list(conn.execute(SQL.find_ranges, {"ids": array(handoff_ids)}).scalars())


def lock(conn: Connection, handoff_ids: Iterable[int]) -> list[Standing]:
    """Lock calls whose ranges are locked already, in order of their ids. An unsettled one has letters ""."""
    return [Standing(*row) for row in conn.execute(SQL.lock, {"ids": array(handoff_ids)})]


def resolve(conn: Connection, letters: Mapping[int, str]) -> None:
    """Write the letters of locked calls anew: hand-off -> one letter a lead."""
    conn.execute(SQL.resolve, {"ids": list(letters), "letters": list(letters.values())})


def remember_evidence(conn: Connection, spoken: Sequence[tuple[int, int, Kind]]) -> None:
    """Keep (hand-off, lead, SENT or REFUSED) of which webhooks spoke while the call was under way."""
    if spoken:
        ids = [lead_id if kind is Kind.SENT else -lead_id for _, lead_id, kind in spoken]
        conn.execute(SQL.remember_evidence, {"ids": [handoff_id for handoff_id, _, _ in spoken], "lead_ids": ids})


def find_origins(conn: Connection, handoff_ids: Iterable[int]) -> dict[int, Origin]:
    """hand-off -> where its emails came from; those that do not exist are left out."""
    return {row.id: Origin(*row) for row in conn.execute(SQL.find_origins, {"ids": array(handoff_ids)})}


def claim_repeat(conn: Connection, lease: float) -> Repeat | None:
    """Take one frozen call that is due, alone for `lease` seconds; None where none is."""
    row = conn.execute(SQL.claim_repeat, {"lease": lease}).first()
    return None if row is None else Repeat(*row)


def repeat_later(conn: Connection, call: Repeat, seconds: float, answer: str) -> bool:
    """Make a frozen call again in some seconds; False where somebody else has taken it meanwhile, or it was halved."""
    values = {"id": call.id, "tries": call.tries, "seconds": seconds, "answer": answer}
    return conn.execute(SQL.repeat_later, values).rowcount == 1


def halve(conn: Connection, handoff_id: int, tries: int) -> bool:
    """Note that a call leaves in parts, at its first making or as repeat `tries`; False: it must not any more."""
    return conn.execute(SQL.halve, {"id": handoff_id, "tries": tries}).rowcount == 1


def give_up_repeating(conn: Connection, call: Repeat, answer: str) -> None:
    """Never make a frozen call again; it stays unknown until evidence, a person or a policy resolves it."""
    conn.execute(SQL.give_up_repeating, {"id": call.id, "tries": call.tries, "answer": answer})


def claim_look_up(conn: Connection, lease: float) -> Question | None:
    """Take one call that is due to be asked about, alone for `lease` seconds; None where none is."""
    row = conn.execute(SQL.claim_look_up, {"lease": lease}).first()
    return None if row is None else Question(*row)


def look_up_later(conn: Connection, handoff_id: int, seconds: float | None) -> None:
    """Ask about a call again in some seconds; None: never."""
    conn.execute(SQL.look_up_later, {"id": handoff_id, "seconds": seconds})
