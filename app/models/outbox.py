"""Ranges: a campaign's frozen slices of lead ids, claimed by one worker at a time.

ready → leased → done, and from leased back to ready; ready → cancelled; leased → quarantined after a worker died on it
too often. `fence` grows with every claim and every rescue: who holds an older number can change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from app.db import Statements, array, fetch
from app.errors import LeaseLost

SQL = Statements("outbox")


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed range. `lead_ids` are those not handed over yet: the page."""

    range_id: int
    campaign_id: int
    run: int
    fence: int
    attempts: int
    put_off_for: float  # seconds since the provider first put these leads off; 0 where it never did
    lead_ids: list[int]


class PageLead(NamedTuple):
    """A lead of a page as it is now; `skip` says why it must not be mailed any more, None where it may be."""

    id: int
    email: str
    domain_id: int
    time_zone: str | None
    attributes: Mapping[str, object]
    skip: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many leads of a range came to which end."""

    sent: int = 0
    refused: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    unknown: int = 0
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """A run's sums: audience = sent + refused + failed + skipped + cancelled + unknown + open, in leads."""

    audience: int
    sent: int
    refused: int
    failed: int
    skipped: int
    cancelled: int
    unknown: int
    open: int

    @property
    def adds_up(self) -> bool:
        parts = (self.sent, self.refused, self.failed, self.skipped, self.cancelled, self.unknown, self.open)
        return self.audience == sum(parts)


def claim(conn: Connection, campaign_id: int, owner: UUID, lease: float) -> Lease | None:
    """Take the campaign's oldest due range for `lease` seconds; None where every due one is taken."""
    row = conn.execute(SQL.claim, {"campaign_id": campaign_id, "owner": owner, "lease": lease}).first()
    return None if row is None else Lease(*row)


def load_page(conn: Connection, organisation_id: int, lead_ids: Sequence[int]) -> list[PageLead]:
    """The leads of a page, in the order asked; a lead erased since has skip "erased" and domain 0."""
    rows = fetch(conn, SQL.load_page, {"organisation_id": organisation_id, "lead_ids": array(lead_ids)})
    return list(map(PageLead._make, rows))


def hand_over(conn: Connection, lease: Lease, seconds: float, skipped: int) -> bool:
    """Renew the lease and mark the page handed over; False where the campaign no longer sends.

    Raises LeaseLost where another worker, or the rescuer, has the range now.
    """
    values = {"range_id": lease.range_id, "fence": lease.fence, "lease": seconds, "skipped": skipped}
    row = conn.execute(SQL.hand_over, values).first()
    if row is None:
        raise LeaseLost(f"range {lease.range_id} was taken away")
    return bool(row.sends)


def is_handed_over(conn: Connection, lease: Lease) -> bool:
    """Whether a hand-over whose reply was lost has been committed. Raises LeaseLost."""
    done = conn.execute(SQL.is_handed_over, {"range_id": lease.range_id, "fence": lease.fence}).scalar()
    if done is None:
        raise LeaseLost(f"range {lease.range_id} was taken away")
    return bool(done)


def put_back(conn: Connection, lease: Lease, seconds: float) -> None:
    """Give a range back that was not handed over, due again in `seconds`; nothing happens to any other."""
    conn.execute(SQL.put_back, {"range_id": lease.range_id, "fence": lease.fence, "seconds": seconds})


def settle(conn: Connection, lease: Lease, counts: Counts) -> None:
    """Count a page's outcomes and close the range; raises LeaseLost where the fence has moved on."""
    values = {"range_id": lease.range_id, "fence": lease.fence} | asdict(counts)
    if conn.execute(SQL.settle, values).first() is None:
        raise LeaseLost(f"range {lease.range_id} was taken away")


def resolve(conn: Connection, range_id: int, counts: Counts) -> None:
    """Count leads that stood as unknown by what became of them."""
    sums = {"sent": counts.sent, "refused": counts.refused, "failed": counts.failed}
    conn.execute(SQL.resolve, {"range_id": range_id} | sums)


def put_off(
    conn: Connection, lease: Lease, lead_ids: Sequence[int], *, seconds: float, attempts: int, deferred: bool
) -> None:
    """Make a later range of leads, due in `seconds`, after that many attempts.

    `deferred`: the provider put these leads off, and the day after which they fail begins; not where it was down.
    """
    values = {"parent_id": lease.range_id, "lead_ids": array(lead_ids), "seconds": seconds}
    conn.execute(SQL.put_off, values | {"attempts": attempts, "deferred": deferred})


def progress(conn: Connection, campaign_id: int, run: int | None = None) -> Progress:
    """The sums of a campaign's run (None: its newest), over its ranges."""
    return Progress(*conn.execute(SQL.progress, {"campaign_id": campaign_id, "run": run}).one())


def has_open(conn: Connection, campaign_id: int) -> bool:
    """Whether any range waits or is held."""
    return bool(conn.execute(SQL.has_open, {"campaign_id": campaign_id}).scalar_one())


def expired(conn: Connection) -> list[int]:
    """Ranges whose lease ran out, oldest first."""
    return list(conn.execute(SQL.expired).scalars())


def lock_expired(conn: Connection, range_id: int) -> bool:
    """Lock a range whose lease ran out; False where it is in other hands by now."""
    return conn.execute(SQL.lock_expired, {"range_id": range_id}).first() is not None


def release(conn: Connection, campaign_id: int) -> None:
    """Let the quarantined ranges of a campaign go on."""
    conn.execute(SQL.release, {"campaign_id": campaign_id})


def hurry(conn: Connection, pool_id: int) -> None:
    """Make everything due that waits for a pool."""
    conn.execute(SQL.hurry, {"pool_id": pool_id})


def rescue(conn: Connection, range_id: int, unknown: int, most_crashes: int) -> str | None:
    """Take an expired range from its worker; its new state, None where it was not expired any more."""
    values = {"range_id": range_id, "unknown": unknown, "most_crashes": most_crashes}
    return conn.execute(SQL.rescue, values).scalar()


def cancel_open(conn: Connection, campaign_id: int, ranges: int) -> tuple[int, int]:
    """Close up to `ranges` waiting ranges of a cancelled campaign, with an event a lead; (ranges, leads) closed."""
    row = conn.execute(SQL.cancel_open, {"campaign_id": campaign_id, "ranges": ranges}).one()
    return int(row.ranges), int(row.leads)


def campaign_of(conn: Connection, range_id: int) -> int:
    """The campaign that a range belongs to."""
    return int(conn.execute(SQL.campaign_of, {"range_id": range_id}).scalar_one())


def domains(conn: Connection, lead_ids: Sequence[int]) -> dict[int, int]:
    """lead -> domain id, for those that still exist."""
    return {row.id: row.domain_id for row in conn.execute(SQL.domains, {"lead_ids": list(lead_ids)})}


def cut(conn: Connection, campaign_id: int, run: int, size: int) -> int:
    """Cut the leads of `audience.choose` into ranges of `size`, due now; the number of leads."""
    values = {"campaign_id": campaign_id, "run": run, "size": size}
    return int(conn.execute(SQL.cut, values).scalar_one())
