"""The standing of senders: what came back, what was complained of, and where a sender belongs because of that.

A sender is good; trusted, and carried by a better pool; quarantined, and carried by a pool apart; or paused. `judge`
says which way it goes. It never flaps: after a move what was before counts no more, the way back is longer than the way
in, and asks for half of what is still put up with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from app.db import Statements
from app.errors import Fault, Invalid, NotFound

SQL = Statements("standing")

# Every way that a sender may go, and why. People may take it back to good from wherever it is, and may pause it.
MOVES: Final[Mapping[str, Mapping[str, str]]] = {
    "good": {
        "quarantined": "too much came back or was complained of, and there is a pool for that",
        "paused": "the same, and there is no such pool, or by a person",
        "trusted": "it has been in good standing for long",
    },
    "trusted": {
        "quarantined": "too much came back or was complained of",
        "paused": "the same, or by a person",
        "good": "by a person",
    },
    "quarantined": {
        "good": "it did well there for days, or by a person",
        "paused": "it did no better there, or by a person",
    },
    "paused": {"good": "by a person"},
}
WELL: Final = 0.5  # of the share that is put up with: below that a sender does well
GRACE: Final = (
    24 * 3600.0
)  # seconds after a sender was quarantined in which what is sent is not judged: it comes back late


@dataclass(frozen=True, slots=True)
class Policy:
    """When a sender is moved, and where to. Shares are of what was sent within the last `days`.

    More than `bounced_share` after `bounced_after` emails, or `complained_share` and more after `complained_after`: to
    the pool for quarantine or, without one, paused. Back after `back_after_days` there. Trusted, where there is a
    better pool, after `better_after_days` in good standing and `better_after` emails within the last `days`.
    """

    days: int = 7
    bounced_after: int = 500
    bounced_share: float = 0.05
    complained_after: int = 1000
    complained_share: float = 0.003
    quarantine_pool_id: int | None = None
    back_after_days: int = 7
    better_pool_id: int | None = None
    better_after_days: int = 30
    better_after: int = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """A sender's figures since it was last judged, within its policy's days."""

    sender_id: int
    organisation_id: int
    name: str
    state: str
    moved_to: int | None
    moved_at: datetime
    days_in_state: float
    sent: int
    bounced: int
    complained: int

    @property
    def bounced_share(self) -> float:
        return self.bounced / self.sent if self.sent else 0.0

    @property
    def complained_share(self) -> float:
        return self.complained / self.sent if self.sent else 0.0


@dataclass(frozen=True, slots=True)
class Move:
    """Where a sender goes, and why, in a sentence. `pool_id`: the pool that carries it then, whatever it names."""

    went_to: str
    reason: str
    pool_id: int | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """A move that was made, with the figures that it was made for; `moved_by`: None where a rule made it."""

    moved_at: datetime
    came_from: str
    went_to: str
    pool: str | None
    moved_by: str | None
    reason: str
    sent: int
    bounced: int
    complained: int


def judge(policy: Policy, standing: Standing) -> Move | None:
    """Where the rules send a sender now; None: it stays."""
    state, days = standing.state, standing.days_in_state
    bad = _trouble(policy, standing)
    if bad and state in ("good", "trusted"):
        quarantine = policy.quarantine_pool_id
        return Move("paused", bad) if quarantine is None else Move("quarantined", bad, quarantine)
    if bad and state == "quarantined":
        return Move("paused", f"It does no better in quarantine. {bad}")
    if bad or not _does_well(policy, standing):
        return None
    if state == "quarantined" and days >= policy.back_after_days and standing.sent >= policy.bounced_after:
        return Move("good", f"It did well in quarantine. {_figures(standing)}")
    better = policy.better_pool_id
    if state == "good" and better and days >= policy.better_after_days and standing.sent >= policy.better_after:
        return Move("trusted", f"It has been in good standing for {int(days)} days.", better)
    return None


def find_policy(conn: Connection, organisation_id: int) -> Policy:
    """An organisation's thresholds: its own, or those that everybody begins with."""
    row = conn.execute(SQL.find_policy, {"organisation_id": organisation_id}).first()
    return Policy() if row is None else Policy(*row)


def set_policy(conn: Connection, organisation_id: int, policy: Policy) -> None:
    """Change the thresholds, in effect within a minute. Raises Invalid naming fields of Policy."""
    faults = _faults(policy)
    if faults:
        raise Invalid(faults)
    conn.execute(SQL.set_policy, {"organisation_id": organisation_id} | asdict(policy))


def find_standings(conn: Connection) -> list[Standing]:
    """All senders that sent something within the days that count, or that wait in quarantine."""
    conn.execute(SQL.add_policies)
    days = conn.execute(SQL.find_longest).scalar_one()
    return [Standing(*row) for row in conn.execute(SQL.find_standings, {"days": days, "sender_id": None})]


def find_standing(conn: Connection, organisation_id: int, sender_id: int) -> Standing:
    """One sender's. Raises NotFound."""
    days = find_policy(conn, organisation_id).days
    row = conn.execute(SQL.find_standings, {"days": days, "sender_id": sender_id}).first()
    if row is None or row.organisation_id != organisation_id:
        raise NotFound("There is no such sender.")
    return Standing(*row)


def move(conn: Connection, standing: Standing, to: Move, moved_by: int | None = None) -> bool:
    """Move a sender, and keep why; False, and nothing happens, where somebody else has moved it meanwhile."""
    assert to.went_to in MOVES[standing.state]
    grace = GRACE if to.went_to == "quarantined" else 0.0
    values = {"sender_id": standing.sender_id, "came_from": standing.state, "went_to": to.went_to}
    if conn.execute(SQL.move, values | {"pool_id": to.pool_id, "grace": grace}).first() is None:
        return False
    figures = {"sent": standing.sent, "bounced": standing.bounced, "complained": standing.complained}
    more = {"pool_id": to.pool_id, "moved_by": moved_by, "reason": to.reason}
    conn.execute(SQL.add_move, values | figures | more)
    return True


def find_moves(conn: Connection, sender_id: int, limit: int = 20) -> list[Moved]:
    """A sender's moves, the newest first."""
    return [Moved(*row) for row in conn.execute(SQL.find_moves, {"sender_id": sender_id, "limit": limit})]


def _trouble(policy: Policy, standing: Standing) -> str:
    """What is wrong, in a sentence; "" where nothing is."""
    if standing.sent >= policy.complained_after and standing.complained_share >= policy.complained_share:
        return (
            f"{standing.complained:,} of {standing.sent:,} emails were complained of"
            f" ({_percent(standing.complained_share)}; {_percent(policy.complained_share)} are put up with)."
        )
    if standing.sent >= policy.bounced_after and standing.bounced_share > policy.bounced_share:
        return (
            f"{standing.bounced:,} of {standing.sent:,} emails came back"
            f" ({_percent(standing.bounced_share)}; {_percent(policy.bounced_share)} are put up with)."
        )
    return ""


def _does_well(policy: Policy, standing: Standing) -> bool:
    return (
        standing.bounced_share <= WELL * policy.bounced_share
        and standing.complained_share <= WELL * policy.complained_share
    )


def _figures(standing: Standing) -> str:
    return f"Of {standing.sent:,} emails {standing.bounced:,} came back and {standing.complained:,} were complained of."


def _percent(share: float) -> str:
    return f"{100 * share:.2f}\u00a0%".replace(".00\u00a0", "\u00a0")


RANGES: Final[Mapping[str, tuple[float, float, str]]] = {
    "days": (1, 90, "Write 1 to 90 days."),
    "bounced_after": (1, 10**9, "Write how many emails, 1 or more."),
    "bounced_share": (0.0001, 1.0, "Write a share between 0.01 and 100 %."),
    "complained_after": (1, 10**9, "Write how many emails, 1 or more."),
    "complained_share": (0.0001, 1.0, "Write a share between 0.01 and 100 %."),
    "back_after_days": (1, 365, "Write 1 to 365 days."),
    "better_after_days": (1, 365, "Write 1 to 365 days."),
    "better_after": (1, 10**9, "Write how many emails, 1 or more."),
}


def _faults(policy: Policy) -> list[Fault]:
    values = asdict(policy)
    faults = [Fault(name, said) for name, (low, high, said) in RANGES.items() if not low <= values[name] <= high]
    if policy.better_pool_id is not None and policy.better_pool_id == policy.quarantine_pool_id:
        faults.append(Fault("better_pool_id", "Choose another pool than the one for quarantine."))
    return faults
