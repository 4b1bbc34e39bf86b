"""Ranges: a campaign's frozen slices of lead ids, claimed by one worker at a time.

`fence` grows with every claim and every rescue: who holds an older number can change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from app.db import Statements, array, fetch, json_list
from app.errors import LeaseLost

SQL = Statements("outbox")

# Every state that a range may go to from another, and why; docs/reliability.md draws it. The two ends have no way out.
MOVES: Final[Mapping[str, Mapping[str, str]]] = {
    "ready": {
        "leased": "claimed",
        "cancelled": "its campaign was cancelled",
        "done": "its last message was called back",
    },
    "leased": {
        "done": "settled, put together by receiver, or rescued when all of it was handed over",
        "ready": "given back, taken back, the rest of a page, or rescued",
        "quarantined": "the third worker died on it",
    },
    "quarantined": {
        "ready": "a person resumed or cancelled its campaign",
        "done": "its last message was called back",
    },
    "done": {},
    "cancelled": {},
}
WHOLE: Final = 1_000_000  # leads: more than any range has


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed range. `lead_ids` are the page: the first of those not handed over yet, from `position` on."""

    range_id: int
    campaign_id: int
    run: int
    fence: int
    attempts: int
    put_off_for: float  # seconds since the provider first put these leads off; 0 where it never did
    position: int
    lead_ids: list[int]
    waits_for: str | None = None  # all of them go to this receiver, and waited for its limit
    variant: int = 0  # the content that they get
    pool_id: int | None = None  # the pool that they go through; None: the sender's first
    probe: bool = False  # it tries whether its pool's provider is back
    limited: bool = False  # the pool has limits
    by_day: tuple[str, ...] = ()  # receivers whose limits by day its emails count for, from the hand-over on
    warms: bool = False  # the pool is warming up, or the sender's domain is
    warm_ups: tuple[int, ...] = ()  # those that its emails count for, from the hand-over on
    rated: bool = False  # the campaign has a rate of its own


class PageLead(NamedTuple):
    """A lead of a page as it is now; `skip` says why it must not be mailed any more, None where it may be."""

    id: int
    email: str
    domain_id: int
    time_zone: str | None
    attributes: Mapping[str, object]
    skip: str | None
    untracked: bool = False  # asked that nothing of what they open or click be recorded


# PageLead._make without the Python that it is written in: leads are made in three quarters of the time.
_page_lead: Final[Callable[[Iterable[Any]], PageLead]] = partial(tuple.__new__, PageLead)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many leads of a range came to which end; negative where an end is taken back."""

    sent: int = 0
    refused: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    unknown: int = 0
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """A campaign's sums in leads: audience = sent + refused + failed + skipped + cancelled + unknown + open."""

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


def claim(
    conn: Connection,
    campaign_id: int,
    owner: UUID,
    lease: float,
    *,
    pool_id: int | None = None,
    most: int = WHOLE,
    probe: bool = False,
    limited: bool = False,
    warms: bool = False,
    rated: bool = False,
    not_for: Sequence[str] = (),
) -> Lease | None:
    """Take the campaign's oldest due range for `lease` seconds, to go through a pool; None where every one is taken.

    The page is at most `most` leads of it. `not_for`: receivers whose ranges are left to other processes, "" for ranges
    that wait for none.
    """
    values = {"campaign_id": campaign_id, "owner": owner, "lease": lease, "most": most, "pool_id": pool_id}
    values |= {"not_for": list(not_for)}
    rows = fetch(conn, SQL.claim, values)
    if not rows:
        return None
    return replace(Lease(*rows[0]), pool_id=pool_id, probe=probe, limited=limited, warms=warms, rated=rated)


def load_page(conn: Connection, organisation_id: int, campaign_id: int, lead_ids: Sequence[int]) -> list[PageLead]:
    """The leads of a campaign's page, in the order asked; a lead erased since has skip "erased" and domain 0."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id, "lead_ids": array(lead_ids)}
    if not lead_ids:
        return []
    ((emails, domain_ids, zones, attributes, skips, untracked),) = fetch(conn, SQL.load_page, values)
    reasons = [skip or None for skip in skips.split(",")]
    marks = map("u".__eq__, untracked)
    return page_leads(lead_ids, emails.split("\n"), json_list(domain_ids), zones, json_list(attributes), reasons, marks)


def page_leads(
    ids: Iterable[int],
    emails: Iterable[str],
    domain_ids: Iterable[int],
    time_zones: Iterable[str | None],
    attributes: Iterable[Mapping[str, object]],
    skips: Iterable[str | None],
    untracked: Iterable[bool],
) -> list[PageLead]:
    """Columns as leads. Raises ValueError where they are not equally long: nobody gets what was meant for another."""
    rows = zip(ids, emails, domain_ids, time_zones, attributes, skips, untracked, strict=True)
    return list(map(_page_lead, rows))


def hand_over(conn: Connection, lease: Lease, seconds: float, skipped: int) -> bool:
    """Renew the lease and mark the page handed over; False where the campaign no longer sends.

    Raises LeaseLost where another worker, or the rescuer, has the range now.
    """
    values = _held(lease) | {"lease": seconds, "leads": len(lease.lead_ids), "skipped": skipped}
    row = conn.execute(SQL.hand_over, values).first()
    if row is None:
        raise LeaseLost(f"range {lease.range_id} was taken away")
    return bool(row.sends)


def is_handed_over(conn: Connection, lease: Lease) -> bool:
    """Whether a hand-over whose reply was lost has been committed. Raises LeaseLost."""
    done = conn.execute(SQL.is_handed_over, _held(lease)).scalar()
    if done is None:
        raise LeaseLost(f"range {lease.range_id} was taken away")
    return bool(done)


def put_back(conn: Connection, lease: Lease, seconds: float) -> None:
    """Give a range back that was not handed over, due again in `seconds`; nothing happens to any other."""
    conn.execute(SQL.put_back, _held(lease) | {"seconds": seconds})


def let_wait(conn: Connection, lease: Lease) -> None:
    """Give a range back that was not handed over, as it was before the claim; nothing happens to any other."""
    conn.execute(SQL.let_wait, _held(lease))


def read_rest(conn: Connection, lease: Lease) -> list[int]:
    """All leads of a range that were not handed over yet, locked. Raises LeaseLost."""
    found = conn.execute(SQL.rest, _held(lease)).scalar()
    if found is None:
        raise LeaseLost(f"range {lease.range_id} was taken away")
    return list(found)


def move_rest(conn: Connection, lease: Lease, parts: Mapping[str, Sequence[int]]) -> None:
    """Put the rest of a range, read in this transaction, into ranges by receiver, due now; "" waits for none."""
    conn.execute(SQL.move_rest, _held(lease))
    for receiver, lead_ids in parts.items():
        put_off(conn, lease.range_id, lead_ids, seconds=0.0, attempts=lease.attempts, waits_for=receiver or None)


def take_back(conn: Connection, lease: Lease, seconds: float) -> None:
    """Undo a hand-over of which nothing left us: the page is due again in `seconds`. Raises LeaseLost."""
    if conn.execute(SQL.take_back, _held(lease) | {"seconds": seconds}).first() is None:
        raise LeaseLost(f"range {lease.range_id} was taken away")


def _held(lease: Lease) -> dict[str, int]:
    return {"range_id": lease.range_id, "fence": lease.fence, "position": lease.position}


def settle(conn: Connection, lease: Lease, counts: Counts) -> None:
    """Count a page's outcomes, and close the range with its last one; raises LeaseLost where the fence has moved on."""
    values = {"range_id": lease.range_id, "fence": lease.fence} | asdict(counts)
    if conn.execute(SQL.settle, values).first() is None:
        raise LeaseLost(f"range {lease.range_id} was taken away")


def recount(conn: Connection, range_id: int, change: Counts) -> None:
    """Add `change` to what a range counts."""
    conn.execute(SQL.recount, {"range_id": range_id} | asdict(change))


def lock(conn: Connection, range_ids: Sequence[int]) -> None:
    """Lock ranges, in order of their ids, before any hand-off of them is."""
    conn.execute(SQL.lock, {"range_ids": array(range_ids)})


def lock_all(conn: Connection, campaign_id: int) -> set[str]:
    """Lock all ranges of a campaign whose row is locked; the states that they are in."""
    return set(conn.execute(SQL.lock_all, {"campaign_id": campaign_id}).scalars())


def put_off(
    conn: Connection,
    range_id: int,
    lead_ids: Sequence[int],
    *,
    seconds: float,
    attempts: int = 0,
    deferred: bool = False,
    resent: bool = False,
    later_run: bool = False,
    waits_for: str | None = None,
) -> None:
    """Make a later range of a range's leads, due in `seconds`, after that many attempts.

    `deferred`: the provider put these leads off, and the day after which they fail begins; not where it was down.
    `resent`: it may have taken them already, and a person or a policy wants them sent again. `later_run`: they failed,
    and this is the next pass over them. `waits_for`: all go to this receiver, and wait for its limit.
    """
    values: dict[str, object] = {"parent_id": range_id, "lead_ids": array(lead_ids), "seconds": seconds}
    values |= {"attempts": attempts, "deferred": deferred, "resent": resent, "later_run": int(later_run)}
    values |= {"waits_for": waits_for}
    conn.execute(SQL.put_off, values)


def progress(conn: Connection, campaign_id: int) -> Progress:
    """The sums of a campaign over its ranges. A lead that was sent again counts in its last range alone."""
    return Progress(*map(int, conn.execute(SQL.progress, {"campaign_id": campaign_id}).one()))


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
    """Make everything due that may go through a pool."""
    conn.execute(SQL.hurry, {"pool_id": pool_id})


def rescue(conn: Connection, range_id: int, counts: Counts, most_crashes: int) -> str | None:
    """Take an expired range from its worker; its new state, None where it was not expired any more.

    `counts` are the leads of its unsettled calls: sent or refused where webhooks spoke of them, and else unknown.
    """
    sums = {"sent": counts.sent, "refused": counts.refused, "unknown": counts.unknown}
    values = {"range_id": range_id, "most_crashes": most_crashes} | sums
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


@dataclass(frozen=True, slots=True)
class Test:
    """An A/B test: a share of the audience in percent, among so many variants. The rest waits for the winner."""

    __test__ = False  # pytest takes the name for its own

    share_percent: int
    variants: int


@dataclass(frozen=True, slots=True)
class Place:
    """Leads that are due at the same time, in ranges of `size`: those of these zones, as leads have them.

    The first of several is also for whom no zone is named. `due_at` None: now; `closes_at` None: any time from then on.
    """

    due_at: datetime | None
    closes_at: datetime | None
    size: int
    zones: tuple[str, ...] = ()


def parts_of(places: Sequence[Place] = (), test: Test | None = None) -> int:
    """How many parts a cut makes: of each place one a variant, and one for the rest of a test."""
    return max(len(places), 1) * _slots(test)


def _slots(test: Test | None) -> int:
    return 1 if test is None else test.variants + 1


def cut(
    conn: Connection,
    campaign_id: int,
    run: int,
    size: int,
    *,
    places: Sequence[Place] = (),
    test: Test | None = None,
) -> int:
    """Cut the leads of `audience.choose` into ranges; the number of leads.

    Of `size` and due now, unless `places` say otherwise. Those of a test's rest have variant -1, and are never due.
    Part n * slots + v holds the leads of place n that are in variant v, where slots is the number of variants and one.
    """
    values: dict[str, object] = {"campaign_id": campaign_id, "run": run}
    if len(places) < 2 and test is None:
        place = places[0] if places else Place(None, None, size)
        values |= {"size": place.size, "due_at": place.due_at, "closes_at": place.closes_at}
        return int(conn.execute(SQL.cut, values).scalar_one())
    places = places or [Place(None, None, size)]
    zones = [(zone, number) for number, place in enumerate(places) for zone in place.zones]
    values |= {"due_at": [each.due_at for each in places], "closes_at": [each.closes_at for each in places]}
    values |= {"sizes": [each.size for each in places], "slots": _slots(test)}
    values |= {"zones": [zone for zone, _ in zones], "zone_places": [number for _, number in zones]}
    values |= {"variants": test.variants if test else 0, "share": test.share_percent if test else 0}
    return int(conn.execute(SQL.cut_parts, values).scalar_one())
