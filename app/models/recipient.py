"""Recipients: the leads that a campaign was sent to, and what happened to each; and the same from the lead's side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row

from app.db import Statements
from app.mail import OUTCOMES, Kind
from app.models import refs, report
from app.models.figures import Figures

SQL = Statements("recipient")
LOOKED_BACK = 300  # campaigns that are looked through for a lead at a time
MOST_ASKED = 5000  # leads in one question, where few of them are of the kind that is looked for


@dataclass(frozen=True, slots=True)
class Recipient:
    """A lead of a campaign. `outcome` is its newest run's, with its time and reason; `email` is None once it is erased.

    `figures` count what happened in all runs.
    """

    lead_id: int
    email: str | None
    run: int
    outcome: Kind | None
    at: datetime | None
    reason: str | None
    figures: Figures

    def is_of(self, kind: Kind) -> bool:
        """Whether the list filtered by this kind shows it: an outcome must be the one that holds now."""
        return self.outcome == kind if kind in OUTCOMES else getattr(self.figures, kind.value) > 0


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to one lead; `url` is the link of a click."""

    time: datetime
    kind: Kind
    run: int
    machine: bool
    url: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """A provider call that had a lead; `ref` is the provider's own id of the email, "" where it gave none."""

    pool: str
    provider: str
    run: int
    handed_at: datetime
    ref: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """One campaign in a lead's timeline, its moments and calls the newest first."""

    campaign_id: int
    campaign: str
    moments: Sequence[Moment]
    calls: Sequence[Call]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A piece of what happened to a lead. `older`: the campaign below which to go on, None where nothing is older."""

    chapters: Sequence[Chapter]
    older: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """Days outside of which nothing happened to a campaign's emails."""

    since: datetime
    until: datetime


def find_spans(conn: Connection, organisation_id: int, campaign_ids: Sequence[int]) -> dict[int, Span]:
    """campaign id -> its days; one that was not launched, of which nothing is known, or that is not yours has none."""
    values = {"organisation_id": organisation_id, "campaign_ids": list(campaign_ids)}
    rows = conn.execute(SQL.find_span, values)
    return {row.campaign_id: Span(row.since, row.until) for row in rows}


def find_page(
    conn: Connection,
    organisation_id: int,
    campaign_id: int,
    *,
    kind: Kind | None = None,
    after: int = 0,
    limit: int = 50,
) -> list[Recipient]:
    """The campaign's recipients in the order of their ids, at most `limit` from behind the lead `after` on.

    With `kind`, those whose outcome it is, or to whom it happened; a shorter page is the last one. Raises NotFound.
    """
    report.find_campaign(conn, organisation_id, campaign_id)
    span = find_spans(conn, organisation_id, [campaign_id]).get(campaign_id)
    page: list[Recipient] = []
    asked = limit
    while span is not None and len(page) < limit:
        lead_ids = _find_leads(conn, campaign_id, span, kind, after, asked)
        found = _describe(conn, organisation_id, campaign_id, span, lead_ids)
        page += [recipient for recipient in found if kind is None or recipient.is_of(kind)]
        if len(lead_ids) < asked:
            break
        after = lead_ids[-1]
        asked = min(2 * asked, max(limit, MOST_ASKED))  # few of them are what is looked for
    return page[:limit]


def find_timeline(
    conn: Connection, organisation_id: int, lead_id: int, *, before: int | None = None, limit: int = 20
) -> Timeline:
    """What happened to a lead, campaign by campaign, the newest first: at most `limit` below the id `before`.

    No more than the newest `LOOKED_BACK` campaigns below it are looked at, however many there ever were.
    """
    values = {"organisation_id": organisation_id, "before": before or 2**31 - 1}
    looked = conn.execute(SQL.look_back, values | {"campaigns": LOOKED_BACK}).one()
    asked = values | {"lead_id": lead_id, "first": looked.first or 0, "limit": limit}
    campaigns = conn.execute(SQL.find_campaigns_of_lead, asked).all()
    behind = looked.first if looked.campaigns == LOOKED_BACK else None
    older = campaigns[-1].id if len(campaigns) == limit else behind
    return Timeline(_tell(conn, organisation_id, lead_id, campaigns), older)


def _tell(
    conn: Connection, organisation_id: int, lead_id: int, campaigns: Sequence[Row[tuple[Any, ...]]]
) -> list[Chapter]:
    spans = find_spans(conn, organisation_id, [row.id for row in campaigns])
    calls = _find_calls(conn, organisation_id, lead_id, [row.id for row in campaigns])
    return [
        Chapter(
            row.id,
            row.name,
            _moments(conn, row.id, lead_id, spans[row.id]) if row.id in spans else [],
            calls.get(row.id, []),
        )
        for row in campaigns
    ]


def _find_calls(
    conn: Connection, organisation_id: int, lead_id: int, campaign_ids: Sequence[int]
) -> dict[int, list[Call]]:
    """campaign -> the calls that took the lead's email, or may have, and have a ref; the newest first."""
    if not campaign_ids:
        return {}
    values = {"organisation_id": organisation_id, "lead_id": lead_id, "campaign_ids": list(campaign_ids)}
    calls: dict[int, list[Call]] = {}
    for row in conn.execute(SQL.find_calls, values):
        told = refs.unpack(row.refs)
        ref = told[row.place - 1] if len(told) >= row.place else told[0] if len(told) == 1 else ""
        if ref:
            calls.setdefault(row.campaign_id, []).append(Call(row.pool, row.provider, row.run, row.handed_at, ref))
    return calls


def _moments(conn: Connection, campaign_id: int, lead_id: int, span: Span) -> list[Moment]:
    values = {"campaign_id": campaign_id, "lead_id": lead_id, "since": span.since, "until": span.until}
    rows = conn.execute(SQL.find_moments, values)
    return [Moment(row.time, Kind(row.kind), row.run, row.machine, row.url, row.reason) for row in rows]


def _find_leads(
    conn: Connection, campaign_id: int, span: Span, kind: Kind | None, after: int, limit: int
) -> Sequence[int]:
    values: dict[str, object] = {"campaign_id": campaign_id, "after": after, "limit": limit}
    if kind is None or kind is Kind.SENT:
        return conn.execute(SQL.find_leads, values).scalars().all()
    values |= {"since": span.since, "until": span.until, "kind": kind.value}
    return conn.execute(SQL.find_leads_of_kind, values).scalars().all()


def _describe(
    conn: Connection, organisation_id: int, campaign_id: int, span: Span, lead_ids: Sequence[int]
) -> Iterator[Recipient]:
    if not lead_ids:
        return
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id, "lead_ids": list(lead_ids)}
    values |= {"first": lead_ids[0], "last": lead_ids[-1]}
    rows = conn.execute(SQL.find_facts, values | {"since": span.since, "until": span.until})
    for _, facts in groupby(rows, key=lambda row: row.lead_id):
        yield _recipient(list(facts))


def _recipient(facts: Sequence[Row[Any]]) -> Recipient:
    """From one lead's events in time's order."""
    held = _outcome(facts)
    return Recipient(
        lead_id=facts[0].lead_id,
        email=facts[0].email,
        run=held.run if held else max(fact.run for fact in facts),
        outcome=Kind(held.kind) if held else None,
        at=held.time if held else None,
        reason=held.reason if held else None,
        figures=Figures.fold((fact.kind, fact.machine, fact.weight) for fact in facts),
    )


def _outcome(facts: Iterable[Row[Any]]) -> Row[Any] | None:
    """The event of the outcome that holds: of the newest run, and not taken back by a weight of -1."""
    sums: Counter[tuple[int, str]] = Counter()
    told: dict[tuple[int, str], Row[Any]] = {}
    for fact in facts:
        if fact.kind in OUTCOMES:
            sums[fact.run, fact.kind] += fact.weight
            if fact.weight > 0:
                told[fact.run, fact.kind] = fact
    held = (fact for at, fact in told.items() if sums[at] > 0)
    return max(held, key=lambda fact: (fact.run, fact.time), default=None)
