"""Reconciling: a campaign's audience against what its ranges count and what its record says, and mending what differs.

The sums are compared for every campaign that ends; its leads one by one only where the sums differ. A lead that nobody
served is queued again. A fact that is missing from the record is written again from its hand-off: that costs no mail. A
lead that was mailed twice cannot be mended, and is alarmed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from app.errors import Conflict
from app.flows.resolve import source_of
from app.mail import OUTCOMES, Kind
from app.models import addressee, campaign, event, handoff, ledger, outbox, rollup
from app.models.event import Fact
from app.models.handoff import COUNTS_AS
from app.models.ledger import Difference, Marks
from app.models.outbox import Progress
from app.runtime import Runtime

log = logging.getLogger(__name__)

MOST: Final = 20_000  # differences mended at a time: more are mended the next time


@dataclass(frozen=True, slots=True)
class Comparison:
    """A campaign's three counts. `marks` tell whether the outcomes are those of the audience's leads and no others.

    `kept`: its record is kept from its first event on; otherwise the record cannot be compared with anything.
    """

    ranges: Progress
    record: Mapping[str, int]
    audience_marks: Marks
    record_marks: Marks
    kept: bool = True

    @property
    def faults(self) -> list[str]:
        """What does not add up, in words; nothing where all agree. Leads that are open have no outcome to compare."""
        faults = [] if self.ranges.adds_up else [f"audience {self.ranges.audience} is not the sum of its outcomes"]
        if not self.kept:
            return faults
        for kind in OUTCOMES:
            ranges, record = getattr(self.ranges, kind.value), self.record.get(kind.value, 0)
            if ranges != record:
                faults.append(f"{kind.value}: ranges count {ranges}, events {record}")
        if not faults and not self.ranges.open and self.audience_marks != self.record_marks:
            faults.append("some lead has two outcomes, and another none")
        return faults


@dataclass(frozen=True, slots=True)
class Mended:
    """What was done, in leads (`recounted`: in ranges).

    `surplus` were recorded as sent more than once, by a single call: the record is right again. `doubled` stand in two
    calls, and `strange` are not of the audience, or in a way that no fault explains: both are left as they are.
    """

    queued: int = 0
    written: int = 0
    recounted: int = 0
    surplus: Sequence[int] = ()
    doubled: Sequence[int] = ()
    strange: Sequence[int] = ()


def compare(conn: Connection, campaign_id: int) -> Comparison:
    """The three counts of a launched campaign as they are now."""
    since = campaign.lock_state(conn, campaign_id).launched_at
    return Comparison(*ledger.sum_all(conn, campaign_id, since), _is_kept(conn, since))


def find(runtime: Runtime, campaign_id: int) -> tuple[Comparison, list[Difference]]:
    """The counts, and the leads that differ where they do; nothing is changed."""
    with runtime.db.begin() as conn:
        comparison = compare(conn, campaign_id)
        if not comparison.faults or not comparison.kept:
            return comparison, []
        since = campaign.lock_state(conn, campaign_id).launched_at
        return comparison, ledger.find_differences(conn, campaign_id, since, MOST)


def mend(conn: Connection, campaign_id: int) -> Mended:
    """Mend what can be mended of a campaign of which no page is under way. Its row and its ranges are locked: what was
    resolved while they are counted anew would be undone.

    Raises Conflict where its first events are not kept any more: whoever was skipped has no call, and would be taken
    for lost, and mailed.
    """
    since = campaign.lock_state(conn, campaign_id).launched_at
    if not _is_kept(conn, since):
        raise Conflict(
            f"The campaign was launched on {since:%d %B %Y}, and events of that time are not kept any more: whom it"
            " skipped cannot be told from whom it never served, so nothing is mended."
        )
    lost, surplus, doubled, strange, written = [], [], [], [], 0
    for each in ledger.find_differences(conn, campaign_id, since, MOST):
        if not each.asked or each.open:
            strange.append(each.lead_id)
        elif len(each.letters) > 1:
            doubled.append(each.lead_id)
        elif each.letters:
            written += write_again(conn, each)
            if each.kinds.get(Kind.SENT, 0) > 1:
                surplus.append(each.lead_id)
        elif not each.kinds:
            lost.append(each.lead_id)
        else:
            strange.append(each.lead_id)
    queued = _queue_again(conn, campaign_id, lost)
    recounted = ledger.recount(conn, campaign_id, since)
    mended = Mended(queued, written, recounted, surplus, doubled, strange)
    log.warning("campaign %s was reconciled: %s", campaign_id, mended)
    return mended


def _is_kept(conn: Connection, since: datetime) -> bool:
    return since >= rollup.horizon(conn)


def write_again(conn: Connection, each: Difference) -> int:
    """Make the record say what the hand-off says. Who resolves it meanwhile changes both: they differ by the same."""
    [standing] = handoff.lock(conn, each.handoff_ids)
    domain = addressee.find_domains(conn, standing.campaign_id, [each.lead_id]).get(each.lead_id, 0)
    right: Counter[Kind] = Counter({COUNTS_AS[each.letters]: 1})
    right.subtract({Kind(kind): weight for kind, weight in each.kinds.items()})
    detail = {"reason": "written again from its hand-off"}
    facts = [
        Fact(each.lead_id, domain, kind, detail, 1 if weight > 0 else -1)
        for kind, weight in right.items()
        for _ in range(abs(weight))
    ]
    event.append(conn, source_of(conn, standing), facts)
    return 1


def _queue_again(conn: Connection, campaign_id: int, lead_ids: Sequence[int]) -> int:
    by_range: dict[int, list[int]] = {}
    for lead_id in lead_ids:
        by_range.setdefault(ledger.find_first_range(conn, campaign_id, lead_id), []).append(lead_id)
    for range_id, leads in by_range.items():
        outbox.put_off(conn, range_id, leads, seconds=0.0)
        campaign.reopen(conn, campaign_id, 1)
    return len(lead_ids)
