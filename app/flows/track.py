"""Tracking: hits become events, machines told from people, and who was first is noted; the same from webhooks.

Hits of one email that came close together are read together, some seconds after the first: so what follows every link,
or one that nobody can see, is known for what it is however its hits arrived, and figures depend on no order.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, NamedTuple

from sqlalchemy import Connection

from app.mail import Kind
from app.message_ids import is_message
from app.models import event, rollup, track
from app.models.event import Fact, Source, Told
from app.models.track import HONEYPOT, PIXEL, Email, Hit, LeadFacts, Touch, Tracked
from app.runtime import Runtime

MOST: Final = 5_000  # hits in one transaction
TURN: Final = 5.0  # seconds that one look reads for
BURST: Final = 5.0  # seconds: hits of an email so close together are one visit
WAIT: Final = 8.0  # seconds until a hit is read: the rest of its visit is there by then
AT_ONCE: Final = timedelta(seconds=2)  # after it was sent or delivered: no person is as quick
MANY: Final = 3  # links; who follows all of so many within one visit is no person

KIND: Final = {True: Kind.OPENED, False: Kind.CLICKED}  # by whether it is the pixel


class Around(NamedTuple):
    """What hits need to be understood: campaigns, leads, emails, deliveries; and the time before which all is final."""

    campaigns: Mapping[int, Tracked]
    leads: Mapping[int, LeadFacts]
    emails: Mapping[tuple[int, int], Email]
    deliveries: Mapping[tuple[int, int], Sequence[datetime]]
    horizon: datetime


def read_hits(runtime: Runtime, *, wait: float = WAIT) -> int:
    """Read what is due, for some seconds at most; how many hits. One process does so at a time."""
    until, total = time.monotonic() + TURN, 0
    while time.monotonic() < until and not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            hits = track.claim(conn, most=MOST, wait=wait, burst=BURST) if track.take_turn(conn) else []
            _read(conn, hits)
        total += len(hits)
        if not hits:
            break
    return total


def _read(conn: Connection, hits: Sequence[Hit]) -> None:
    if not hits:
        return
    emails = {(hit.campaign_id, hit.lead_id) for hit in hits}
    places = track.find_places(conn, emails)
    around = Around(
        campaigns=track.find_campaigns(conn, (campaign_id for campaign_id, _ in emails)),
        leads=track.find_leads(conn, emails),
        emails=track.find_emails(conn, places),
        deliveries=track.find_deliveries(
            conn, emails, min(hit.at for hit in hits) - AT_ONCE, max(hit.at for hit in hits) + AT_ONCE
        ),
        horizon=rollup.horizon(conn),
    )
    told: list[Told] = []
    touches: list[Touch] = []
    for (campaign_id, lead_id), visit in groupby(hits, key=lambda hit: (hit.campaign_id, hit.lead_id)):
        for each in _understand(list(visit), around):
            told.append(each)
            touches.append(Touch(campaign_id, lead_id, each.fact.kind, each.source.machine))
    track.touch(conn, touches, places)  # before the events, as where webhooks are read: neither waits for the other
    told.sort(key=lambda each: each.time)
    event.append_told(conn, told)


def _understand(visit: Sequence[Hit], around: Around) -> Iterator[Told]:
    """The events of one email's hits; none of a lead who is not to be tracked, or of what was never sent."""
    one = (visit[0].campaign_id, visit[0].lead_id)
    campaign, email = around.campaigns.get(one[0]), around.emails.get(one)
    lead = around.leads.get(one[1], LeadFacts(0, 0, False))  # one who was erased is a number still
    if campaign is None or email is None or lead.untracked:
        return
    why = judge_visit(visit, campaign.count_links(email.variant))
    for hit in visit:
        if hit.position == HONEYPOT or hit.at < around.horizon:
            continue
        machine = hit.machine or why or judge_time(hit.at, email, around.deliveries.get(one, ()))
        source = Source(
            organisation_id=campaign.organisation_id,
            user_id=campaign.owner_id,
            campaign_id=hit.campaign_id,
            pool_id=email.pool_id,
            variant=email.variant,
            run=email.run,
            link_id=_link(campaign, hit.position),
            machine=machine is not None,
            message=is_message(hit.lead_id),
        )
        detail = {"machine": machine} if machine else None
        yield Told(hit.at, source, Fact(hit.lead_id, lead.domain_id, KIND[hit.position == PIXEL], detail))


def _link(campaign: Tracked, position: int) -> int:
    return campaign.link_ids[position - 1] if 0 < position <= len(campaign.link_ids) else 0


def judge_visit(visit: Iterable[Hit], links: int) -> str | None:
    """What gives a whole visit away as a machine's; `links` is how many the email has."""
    positions = {hit.position for hit in visit}
    if HONEYPOT in positions:
        return "hidden link"
    followed = len(positions - {PIXEL})
    return "every link" if followed >= MANY and followed == links else None


def judge_time(at: datetime, email: Email, deliveries: Iterable[datetime]) -> str | None:
    """Whether it came before anybody could have read: while the call was under way, or right after its answer, or
    around the delivery."""
    if email.handed_at <= at <= (email.settled_at or email.handed_at) + AT_ONCE:
        return "at once"
    return "at once" if any(abs(at - delivered) <= AT_ONCE for delivered in deliveries) else None


def sift(conn: Connection, provider: str, touches: Sequence[Touch]) -> set[Touch]:
    """Of opens and clicks that a provider's webhooks tell, those to be recorded; who was first is noted.

    Not those that we see by ourselves, which would count twice; nor any of a lead who is not to be tracked.
    """
    if not touches:
        return set()
    own = track.find_own(conn, (each.campaign_id for each in touches), provider)
    untracked = track.find_untracked(conn, ((each.campaign_id, each.lead_id) for each in touches))
    wanted = {each for each in touches if (each.campaign_id, each.kind) not in own and each.lead_id not in untracked}
    track.touch(conn, wanted)
    return wanted
