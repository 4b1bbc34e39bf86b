"""Hand-offs: provider calls, each written down before it is made, with one outcome a lead afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from app.db import Statements, array
from app.errors import LeaseLost
from app.mail import Kind
from app.models.outbox import Lease

SQL = Statements("handoff")

# One letter a lead in `handoff.outcomes`. "d" is put off: the lead stands in a later range.
LETTERS: Final = {Kind.SENT: "s", Kind.REFUSED: "r", Kind.FAILED: "f", Kind.DEFERRED: "d", Kind.UNKNOWN: "u"}


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


@dataclass(frozen=True, slots=True)
class Standing:
    """A call that was handed over and never settled."""

    id: int
    campaign_id: int
    run: int
    variant: int
    pool_id: int
    lead_ids: list[int]


def write(
    conn: Connection, lease: Lease, lead_ids: Sequence[int], *, pool_id: int, variant: int, batch: int
) -> list[HandOff]:
    """Write one hand-off for every `batch` leads, in order."""
    values = {
        "range_id": lease.range_id,
        "campaign_id": lease.campaign_id,
        "run": lease.run,
        "pool_id": pool_id,
        "variant": variant,
        "lead_ids": array(lead_ids),
        "batch": batch,
    }
    rows = sorted(conn.execute(SQL.write, values), key=lambda row: row.id)  # ids are given out in the page's order
    firsts = range(0, len(lead_ids), batch)
    return [
        HandOff(row.id, row.key, list(lead_ids[first : first + batch])) for row, first in zip(rows, firsts, strict=True)
    ]


def settle(conn: Connection, settled: Sequence[Settled]) -> None:
    """Close the calls of a page; raises LeaseLost where one of them was settled by somebody else meanwhile."""
    values = {
        "ids": [each.handoff_id for each in settled],
        "letters": [each.letters for each in settled],
        "refs": ["\n".join(each.refs) for each in settled],
        "answers": [each.answer for each in settled],
    }
    if conn.execute(SQL.settle, values).rowcount != len(settled):
        raise LeaseLost("a hand-off was settled by somebody else")


def stand_unknown(conn: Connection, range_id: int) -> list[Standing]:
    """Turn the unsettled calls of a range into unknown ones and give them."""
    return [Standing(*row) for row in conn.execute(SQL.stand_unknown, {"range_id": range_id})]


def read_handed(conn: Connection, range_id: int) -> list[HandOff]:
    """The calls of a range that were written and not settled, in order."""
    return [HandOff(*row) for row in conn.execute(SQL.read_handed, {"range_id": range_id})]


def resolve(conn: Connection, settled: Sequence[Settled]) -> set[int]:
    """Write the outcomes of calls that stand unknown; the ids of those that still did."""
    values = {
        "ids": [each.handoff_id for each in settled],
        "letters": [each.letters for each in settled],
        "refs": ["\n".join(each.refs) for each in settled],
    }
    return set(conn.execute(SQL.resolve, values).scalars())
