"""What the faults came to: three records that know nothing of each other, held against one another lead by lead.

The frozen audience (the arrays of the ranges that a launch made), the events (weights summed by lead and kind) and the
provider's own log, keyed by our ids. Every lead of an audience must have exactly one outcome: of the six kinds one
sums to 1, the others to 0. Then

lost        it has no outcome at all; or it is `sent` and the provider never accepted it; or the provider accepted it
            and its outcome is neither `sent` nor `unknown`: somebody was mailed, and we say that they were not
doubled     the provider accepted it more than once in one run, counted once for each time too many (a provider that
            honours idempotency keys answers a repeated key again: that is no acceptance)
unknown     its outcome is `unknown`, which is honest but not an end
miscounted  it has several outcomes, or a weight that is neither 0 nor 1, or stands in the audience twice
stranger    the record or the provider has it, and no audience does
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

Connection = psycopg.Connection[tuple[object, ...]]
Run = tuple[int, int]  # campaign, run
EXAMPLES = 5

AUDIENCE = "SELECT unnest(lead_ids) FROM outbox WHERE campaign_id = %s AND run = %s AND parent_id IS NULL"
OUTCOMES = """
SELECT lead_id, kind::text, sum(weight)
  FROM event
 WHERE campaign_id = %s
   AND run = %s
   AND kind IN ('sent', 'refused', 'failed', 'skipped', 'cancelled', 'unknown')
 GROUP BY lead_id, kind
HAVING sum(weight) <> 0
"""
# What the ranges count, as the campaign's page shows it: a fourth sum, which must be the same.
RANGES = """
SELECT sum(sent), sum(refused), sum(failed), sum(skipped), sum(cancelled), sum(unknown)
  FROM outbox
 WHERE campaign_id = %s
   AND run = %s
"""
KINDS = ("sent", "refused", "failed", "skipped", "cancelled", "unknown")


@dataclass(slots=True)
class Verdict:
    """Leads by what is wrong with them; `examples` names a few, with what each record says."""

    audience: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    unknown: int = 0
    unknown_accepted: int = 0
    miscounted: int = 0
    strangers: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def blame(self, fault: str, lead_id: int, says: str) -> None:
        found = self.examples.setdefault(fault, [])
        if len(found) < EXAMPLES:
            found.append(f"lead {lead_id}: {says}")

    def add(self, other: Verdict) -> None:
        """Sums over campaigns."""
        self.outcomes.update(other.outcomes)
        for name in ("audience", "accepted", "lost", "doubled", "unknown", "unknown_accepted", "miscounted"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.strangers += other.strangers
        for fault, found in other.examples.items():
            self.examples.setdefault(fault, []).extend(found)


def judge(audience: Iterable[int], outcomes: Mapping[int, Mapping[str, int]], accepted: Mapping[int, int]) -> Verdict:
    """Holds one run's audience, outcomes (lead -> kind -> weight) and acceptances (lead -> times) together."""
    verdict = Verdict()
    members: set[int] = set()
    for lead_id in audience:
        if lead_id in members:
            verdict.miscounted += 1
            verdict.blame("miscounted", lead_id, "is in the audience twice")
            continue
        members.add(lead_id)
        _judge_lead(verdict, lead_id, outcomes.get(lead_id, {}), accepted.get(lead_id, 0))
    verdict.audience = len(members)
    verdict.accepted = sum(accepted.values())
    for lead_id in (outcomes.keys() | accepted.keys()) - members:
        verdict.strangers += 1
        verdict.blame("strangers", lead_id, f"events {outcomes.get(lead_id)}, accepted {accepted.get(lead_id, 0)}")
    return verdict


def _judge_lead(verdict: Verdict, lead_id: int, kinds: Mapping[str, int], times: int) -> None:
    says = f"events {dict(kinds)}, accepted {times}"
    if times > 1:
        verdict.doubled += times - 1
        verdict.blame("doubled", lead_id, says)
    if not kinds:
        verdict.lost += 1
        verdict.blame("lost", lead_id, says)
        return
    if len(kinds) > 1 or set(kinds.values()) != {1}:
        verdict.miscounted += 1
        verdict.blame("miscounted", lead_id, says)
        return
    (outcome,) = kinds
    verdict.outcomes[outcome] += 1
    if outcome == "unknown":
        verdict.unknown += 1
        verdict.unknown_accepted += times > 0
    elif (outcome == "sent") != (times > 0):
        verdict.lost += 1
        verdict.blame("lost", lead_id, says)


def read_audience(conn: Connection, run: Run) -> list[int]:
    """The leads that a launch froze, as often as they stand there."""
    return [int(str(lead_id)) for (lead_id,) in conn.execute(AUDIENCE, run)]


def read_outcomes(conn: Connection, run: Run) -> dict[int, dict[str, int]]:
    """lead -> kind -> weight, where it is not 0."""
    found: dict[int, dict[str, int]] = {}
    for lead_id, kind, weight in conn.execute(OUTCOMES, run):
        found.setdefault(int(str(lead_id)), {})[str(kind)] = int(str(weight))
    return found


def read_ranges(conn: Connection, run: Run) -> Counter[str]:
    """kind -> leads, as the ranges count them."""
    row = conn.execute(RANGES, run).fetchone() or ()
    return Counter({kind: int(str(leads or 0)) for kind, leads in zip(KINDS, row, strict=True) if leads})


def read_log(path: Path) -> dict[Run, Counter[int]]:
    """What the provider accepted, by its log: run -> lead -> times. Lines: campaign run handoff key leads time."""
    found: dict[Run, Counter[int]] = {}
    if not path.exists():
        return found
    with path.open() as lines:
        for line in lines:
            campaign_id, run, _handoff, _key, leads, *_time = line.split()
            found.setdefault((int(campaign_id), int(run)), Counter()).update(map(int, leads.split(",")))
    return found


def count(conn: Connection, log: Path, campaigns: Iterable[int]) -> tuple[Verdict, list[str]]:
    """The verdict over the first run of `campaigns`, and in a sentence each where ranges and events differ."""
    accepted, whole, differences = read_log(log), Verdict(), []
    for campaign_id in campaigns:
        run = (campaign_id, 1)
        verdict = judge(read_audience(conn, run), read_outcomes(conn, run), accepted.pop(run, Counter()))
        whole.add(verdict)
        if (ranges := read_ranges(conn, run)) != verdict.outcomes:
            counted = f"ranges count {dict(ranges)}, events {dict(verdict.outcomes)}"
            differences.append(f"campaign {campaign_id}: {counted}")
    for run, leads in accepted.items():
        whole.strangers += len(leads)
        whole.blame("strangers", min(leads), f"accepted for campaign {run[0]}, run {run[1]}, which nobody launched")
    return whole, differences
