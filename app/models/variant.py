"""Variants of a campaign's content, the test that compares them on a part of the audience, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Statements
from app.models.outbox import Test
from app.models.significance import Share

SQL = Statements("variant")

LETTERS: Final = "ABCDE"  # a variant's name, by its number
MOST: Final = len(LETTERS)
WAITS: Final = -1  # the variant of those who wait for the winner
EVERYBODY: Final = 100  # percent: all are in the test, and nobody waits for its winner
GOALS: Final = ("clicked", "opened")
LONGEST_WAIT: Final = timedelta(days=30)


class VariantTest(Base):
    """A campaign's test, as its form knows it."""

    __tablename__ = "variant_test"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    share: Mapped[int]
    wait: Mapped[timedelta]
    goal: Mapped[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """A test as it stands. `decide_at` is None while emails of it have still to go, `winner` until one is chosen.

    `chosen_by` is who chose it by hand, None where that was an operator; `figures` are what they were then.
    """

    campaign_id: int
    share: int
    wait: timedelta
    goal: str
    decide_at: datetime | None
    winner: int | None
    chosen_at: datetime | None
    by_hand: bool
    chosen_by: str | None
    figures: Sequence[Tally]
    variants: int

    @property
    def has_rest(self) -> bool:
        """Whether some wait for a winner."""
        return self.share < EVERYBODY


@dataclass(frozen=True, slots=True)
class Tally:
    """What the leads of a variant came to: in the test, or as the `rest` that got the winner. All are leads.

    `opened` and `clicked` count people, each lead once.
    """

    variant: int
    rest: bool
    leads: int
    sent: int
    open: int
    opened: int
    clicked: int

    def share(self, goal: str) -> Share:
        """Those who did what the test is about, of those sent to."""
        return Share(self.clicked if goal == "clicked" else self.opened, self.sent)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The winner, and who was as good: itself among them. `nothing`: nobody did what the test is about."""

    winner: int
    best: tuple[int, ...]
    nothing: bool


@dataclass(frozen=True, slots=True)
class Heading:
    """A variant as lists name it; `own`: it has HTML of its own, and not the first one's."""

    variant: int
    subject: str
    own: bool

    @property
    def letter(self) -> str:
        return LETTERS[self.variant]


def judge(shares: Mapping[int, Share]) -> Verdict:
    """Who wins: the greatest share; of several as great, the first by letter. Compared as fractions, not rounded."""
    rates = {variant: Fraction(min(share.hits, share.of), max(1, share.of)) for variant, share in shares.items()}
    most = max(rates.values(), default=Fraction(0))
    best = tuple(sorted(variant for variant, rate in rates.items() if rate == most)) or (0,)
    return Verdict(best[0], best, nothing=not most)


def find(conn: Connection, campaign_id: int) -> Standing | None:
    """A campaign's test; None where it has one content only."""
    row = conn.execute(SQL.find_test, {"campaign_id": campaign_id}).first()
    if row is None:
        return None
    return Standing(**dict(row._mapping) | {"figures": [Tally(**each) for each in row.figures or ()]})


def find_cut(conn: Connection, campaign_id: int) -> Test | None:
    """How a campaign's audience is parted among its variants; None where all get the same."""
    found = find(conn, campaign_id)
    return None if found is None else Test(found.share, found.variants)


def find_headings(conn: Connection, campaign_id: int) -> list[Heading]:
    """A campaign's variants, in order."""
    return [Heading(*row) for row in conn.execute(SQL.find_subjects, {"campaign_id": campaign_id})]


def tally(conn: Connection, campaign_id: int) -> list[Tally]:
    """What every variant came to so far, in the test and as the rest; those who still wait are variant WAITS."""
    rows = conn.execute(SQL.tally, {"campaign_id": campaign_id})
    return [Tally(row.variant, row.rest, *map(int, row[2:])) for row in rows]


def tested(tallies: Sequence[Tally], variants: int) -> dict[int, Tally]:
    """The test's own, by variant: all of them, those that chance gave nobody too."""
    found = {each.variant: each for each in tallies if not each.rest and each.variant != WAITS}
    return {number: found.get(number, Tally(number, False, 0, 0, 0, 0, 0)) for number in range(variants)}


def note_sent(conn: Connection) -> None:
    """The wait begins for every test whose last email has gone."""
    conn.execute(SQL.note_sent)


def find_due(conn: Connection) -> list[int]:
    """Campaigns whose winner is to be chosen now."""
    return list(conn.execute(SQL.find_due).scalars())


def choose(
    conn: Connection,
    campaign_id: int,
    winner: int,
    figures: Sequence[Tally],
    *,
    by_hand: bool = False,
    user_id: int | None = None,
) -> bool:
    """Give the rest the winner; False where there is one already, or by the clock before its time.

    The campaign's row must be locked. It is due when the campaign's time is spread anew.
    """
    kept: list[dict[str, Any]] = [asdict(each) for each in figures]
    values = {"campaign_id": campaign_id, "winner": winner, "by_hand": by_hand, "chosen_by": user_id}
    if conn.execute(SQL.note_winner, values | {"figures": Jsonb(kept)}).first() is None:
        return False
    conn.execute(SQL.give_rest, {"campaign_id": campaign_id, "winner": winner})
    return True
