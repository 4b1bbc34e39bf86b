"""Sending: claim a range, hand its leads over, let the provider speak, settle what came of it.

Each step is a transaction of its own, and none is open while a provider speaks. What was written before a crash
says what may have left: docs/architecture.md draws the states.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

from app.errors import LeaseLost, ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure
from app.flows import finish, settle
from app.flows.compose import Composer
from app.mail import Batch, Kind, Letter, Outcome
from app.models import campaign, event, handoff, outbox
from app.models.campaign import Sending
from app.models.event import Fact, Source
from app.models.outbox import Lease, PageLead
from app.models.template import Compiled, LeadView
from app.providers import Provider
from app.runtime import Runtime

log = logging.getLogger(__name__)

# Compiled content by campaign, variant and version; a handful at a time in one process.
_composers: dict[tuple[str, Sending], Composer] = {}
_composers_lock = Lock()
_MOST_COMPOSERS = 32


@dataclass(frozen=True, slots=True)
class Page:
    """A claimed range with its leads as they are now."""

    lease: Lease
    sending: Sending
    leads: list[PageLead]

    @property
    def source(self) -> Source:
        sending = self.sending
        return Source(
            organisation_id=sending.organisation_id,
            user_id=sending.owner_id,
            campaign_id=sending.campaign_id,
            pool_id=sending.pool_id,
            variant=sending.variant,
            run=self.lease.run,
        )


def drain(runtime: Runtime, seconds: float = 30.0) -> int:
    """Send due ranges until none is left, `seconds` have passed or the process must stop; the number of pages sent."""
    until = time.monotonic() + seconds
    pages = 0
    while time.monotonic() < until and not runtime.stopping.is_set():
        page = claim(runtime)
        if page is None:
            break
        send(runtime, page)
        pages += 1
    return pages


def claim(runtime: Runtime) -> Page | None:
    """Lease one due range of the campaign that is served least; None where nothing is due."""
    with runtime.db.begin() as conn:
        for campaign_id in campaign.pick(conn):
            lease = outbox.claim(conn, campaign_id, runtime.id, runtime.settings.lease)
            if lease is None:
                continue
            sending = campaign.load_sending(conn, campaign_id)
            return Page(lease, sending, outbox.load_page(conn, sending.organisation_id, lease.lead_ids))
    return None


def send(runtime: Runtime, page: Page) -> None:
    """Take one page all the way; a lost lease drops it, since somebody else answers for it then."""
    try:
        composer = composer_of(runtime, page.sending)
        letters, skipped = compose_page(composer, page)
        handoffs = hand_over(runtime, page, letters, skipped)
        if handoffs is None:
            return
        answers = _call(runtime, page, composer, handoffs, letters)
        settle.settle_page(runtime, page.lease, page.sending, page.source, page.leads, answers)
    except LeaseLost as error:
        log.warning("dropped a page of campaign %s: %s", page.sending.campaign_id, error)
        return
    finish.try_finish(runtime, page.sending.campaign_id)


def compose_page(composer: Composer, page: Page) -> tuple[list[Letter], list[Fact]]:
    views = [LeadView(lead.id, lead.email, lead.time_zone, lead.attributes) for lead in page.leads if lead.skip is None]
    letters, unrenderable = composer.compose(views)
    reasons = {lead.id: lead.skip for lead in page.leads if lead.skip is not None}
    reasons.update((lead_id, f"unrenderable: {reason}") for lead_id, reason in unrenderable)
    if not reasons:
        return letters, []
    domains = {lead.id: lead.domain_id for lead in page.leads}
    return letters, [Fact(lead_id, domains[lead_id], Kind.SKIPPED, {"reason": r}) for lead_id, r in reasons.items()]


def hand_over(
    runtime: Runtime, page: Page, letters: Sequence[Letter], skipped: Sequence[Fact]
) -> list[handoff.HandOff] | None:
    """Write the intention: from its commit on, the page's leads may have left. None where the campaign stands still."""
    with runtime.db.begin() as conn:
        if not outbox.hand_over(conn, page.lease, runtime.settings.lease, len(skipped)):
            return None
        event.append(conn, page.source, skipped)
        return handoff.write(
            conn,
            page.lease,
            [letter.lead_id for letter in letters],
            pool_id=page.sending.pool_id,
            variant=page.sending.variant,
            batch=min(page.sending.batch, _provider(runtime, page.sending).capabilities.batch),
        )


def _call(
    runtime: Runtime, page: Page, composer: Composer, handoffs: Sequence[handoff.HandOff], letters: Sequence[Letter]
) -> list[settle.Answer]:
    """Make the page's calls at once; one answer a hand-off, in order."""
    provider = _provider(runtime, page.sending)
    started = time.monotonic()
    calls: list[Future[list[Outcome] | ProviderError]] = []
    first = 0
    for each in handoffs:
        last = first + len(each.lead_ids)
        batch = composer.batch(each.id, each.key, page.lease.run, letters[first:last])
        calls.append(runtime.calls.submit(_speak, provider, batch, started + runtime.settings.lease / 3))
        first = last
    return [settle.Answer(each, call.result()) for each, call in zip(handoffs, calls, strict=True)]


def _speak(provider: Provider, batch: Batch, latest: float) -> list[Outcome] | ProviderError:
    # A process that slept past its lease must not speak: its range may be another's by now.
    if time.monotonic() > latest:
        return ProviderDown("the call was not begun in time")
    try:
        outcomes = provider.send(batch)
    except (ProviderDown, ProviderUnsure, ProviderRefusesUs) as error:
        return error
    except Exception as error:  # a provider's code that breaks half-way may have sent: never guess
        log.exception("provider failed on hand-off %s", batch.handoff_id)
        return ProviderUnsure(f"{type(error).__name__}: {error}")
    if len(outcomes) != len(batch.letters):
        return ProviderUnsure(f"{len(outcomes)} outcomes for {len(batch.letters)} leads")
    return outcomes


def _provider(runtime: Runtime, sending: Sending) -> Provider:
    return runtime.provider(sending.pool_id, sending.pool_url)


def composer_of(runtime: Runtime, sending: Sending) -> Composer:
    key = (runtime.settings.base_url, sending)
    with _composers_lock:
        known = _composers.get(key)
    if known is not None:
        return known
    with runtime.db.begin() as conn:
        compiled = Compiled.from_json(campaign.load_compiled(conn, sending.campaign_id, sending.variant))
    composer = Composer(compiled, sending, runtime.settings.base_url, runtime.signer)
    with _composers_lock:
        while len(_composers) >= _MOST_COMPOSERS:
            _composers.pop(next(iter(_composers)))
        _composers[key] = composer
    return composer
