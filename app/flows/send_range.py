"""Sending: claim a range, hand its leads over, let the provider speak, settle what came of it.

Each step is a transaction of its own, and none is open while a provider speaks. What was written before a crash
says what may have left: docs/reliability.md draws the states.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.db import words_of
from app.errors import DayUsedUp, LeaseLost, ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure, Unavailable
from app.flows import finish, pace, range_messages, settle
from app.flows.answers import Answer
from app.flows.compose import Composer
from app.flows.frozen import MARGIN, freeze
from app.mail import Batch, Kind, Letter, Outcome
from app.models import alert, campaign, event, handoff, limit, message, outbox, pool, warm_up
from app.models.campaign import Choice, Sending
from app.models.event import Fact, Source
from app.models.outbox import Lease, PageLead
from app.models.template import Compiled
from app.providers import Provider
from app.runtime import Runtime
from app.uptime import uptime

log = logging.getLogger(__name__)

# Compiled content by campaign, variant and version; a handful at a time in one process.
_composers: dict[tuple[str, Sending], Composer] = {}
_composers_lock = Lock()
_MOST_COMPOSERS = 128
AGAIN_IN = 60.0  # seconds until a page that could not be handed over is tried again
FRESH = 5.0  # seconds that a page may have been read before it is handed over: then it is asked again who may be mailed


@dataclass(frozen=True, slots=True)
class Page:
    """A claimed range with its leads as they were at `read_at`, in seconds of `uptime`."""

    lease: Lease
    sending: Sending
    leads: list[PageLead]
    read_at: float

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
            message=sending.is_stream,
        )


def drain(runtime: Runtime, seconds: float = 30.0) -> int:
    """Send due ranges until none is left, `seconds` have passed or the process must stop; the number of pages sent.

    Messages that became due meanwhile go first, and are cut into ranges by whoever comes by.
    """
    range_messages.cut_due(runtime)
    return _drain(runtime, seconds, messages_only=False)


def drain_messages(runtime: Runtime, seconds: float = 30.0) -> int:
    """The same for messages alone: no message waits until somebody who sends is done with a campaign's page."""
    range_messages.cut_due(runtime)
    with runtime.db.begin() as conn:
        ready = message.is_ready(conn)
    return _drain(runtime, seconds, messages_only=True) if ready else 0


def _drain(runtime: Runtime, seconds: float, *, messages_only: bool) -> int:
    until = time.monotonic() + seconds
    pages = 0
    _put_back_kept(runtime)
    while time.monotonic() < until and not runtime.stopping.is_set():
        claimed = claim(runtime, messages_only=messages_only)
        if claimed is None:
            break
        pages += 1
        try:
            _work(runtime, claimed)
        except Unavailable:
            runtime.kept.append(claimed)
            raise
        except Exception as error:  # whatever it is, the other ranges must not wait for it
            _give_back(runtime, claimed, error)
    return pages


def _work(runtime: Runtime, claimed: Lease) -> None:
    """Send what may go of a claimed page now; one that somebody else has by then is dropped."""
    lease: Lease | None = claimed
    if claimed.limited or claimed.warms or claimed.rated:
        try:
            lease = pace.pace(runtime, claimed)
        except LeaseLost as error:
            log.warning("dropped a page of campaign %s: %s", claimed.campaign_id, error)
            return
    if lease is not None:
        send(runtime, load(runtime, lease))


def _put_back_kept(runtime: Runtime) -> None:
    """Give ranges back that this process held when the database went away: it lives, so that is no crash of theirs.

    One that was handed over all the same stays as it is, and is rescued when its lease has run out.
    """
    while True:
        try:
            lease = runtime.kept.popleft()  # taken first: another thread does the same at this moment
        except IndexError:
            return
        try:
            with runtime.db.begin() as conn:
                outbox.put_back(conn, lease, 0.0)
        except BaseException:
            runtime.kept.append(lease)
            raise


def claim(runtime: Runtime, *, messages_only: bool = False) -> Lease | None:
    """Lease one due range of the campaign that is served least, to go through one pool; None where nothing is due.

    Where all that come first go through pools whose connections other processes have, those behind them are looked at.
    """
    crowded: set[int] = set()
    with runtime.db.begin() as conn:
        while True:
            choices, before = campaign.pick(conn, crowded), len(crowded)
            for choice in choices:
                if messages_only and not choice.is_stream:
                    continue
                not_for = runtime.crowded(conn, choice.pool_id)
                lease = _lease(runtime, conn, choice, not_for)
                if lease is not None:
                    return lease
                crowded |= {choice.pool_id} if not_for else set()
            if len(choices) < campaign.CHOICES or len(crowded) == before:
                return None


def _lease(runtime: Runtime, conn: Connection, choice: Choice, not_for: Sequence[str]) -> Lease | None:
    """The oldest due range of a campaign, where one can be had; through a pool that is tried, a batch of it."""
    seconds = runtime.settings.lease
    if choice.probe and not pool.begin_probe(conn, choice.pool_id, seconds):
        return None
    lease = outbox.claim(
        conn,
        choice.campaign_id,
        runtime.id,
        seconds,
        pool_id=choice.pool_id,
        most=choice.batch if choice.probe else choice.burst or outbox.WHOLE,
        probe=choice.probe,
        limited=choice.limited,
        warms=choice.warms,
        rated=choice.rated,
        not_for=not_for,
    )
    if choice.probe and lease is None:
        pool.end_probe(conn, choice.pool_id)
    return lease


def load(runtime: Runtime, lease: Lease) -> Page:
    """A leased range with its campaign and its leads as they are now."""
    read_at = uptime()
    with runtime.db.begin() as conn:
        sending = campaign.load_sending(conn, lease.campaign_id, lease.pool_id, lease.variant)
        return Page(lease, sending, _read_leads(conn, sending, lease), read_at)


def _read_leads(conn: Connection, sending: Sending, lease: Lease) -> list[PageLead]:
    if sending.is_stream:
        return message.load_page(conn, sending, lease.lead_ids)
    return outbox.load_page(conn, sending.organisation_id, lease.campaign_id, lease.lead_ids)


def send(runtime: Runtime, page: Page) -> None:
    """Take one page all the way; a lost lease drops it, since somebody else answers for it then."""
    composer = composer_of(runtime, page.sending)
    letters, skipped = compose_page(composer, page)
    begun = uptime()
    try:
        handoffs = hand_over(runtime, page, letters, skipped)
        if handoffs is None:
            _end_probe(runtime, page)
            return
    except LeaseLost as error:
        log.warning("dropped a page of campaign %s: %s", page.sending.campaign_id, error)
        return
    except DayUsedUp:
        pace.give_back(runtime, page.lease)
        return
    if sum(len(each.lead_ids) for each in handoffs) < len(letters):  # some were suppressed meanwhile
        going = {lead_id for each in handoffs for lead_id in each.lead_ids}
        letters = [letter for letter in letters if letter.lead_id in going]
    answers = _call(runtime, page, composer, handoffs, letters, begun)
    settle.settle_page(runtime, page.lease, page.sending, page.source, page.leads, answers)
    if page.sending.is_stream:  # it has no end
        return
    try:
        finish.try_finish(runtime, page.sending.campaign_id)
    except DBAPIError:  # the page is settled all the same, and the clock finishes campaigns too
        log.warning("campaign %s is left to the clock to finish", page.sending.campaign_id, exc_info=True)


def _give_back(runtime: Runtime, lease: Lease, error: Exception) -> None:
    """A page that could not even be handed over is tried again in a minute, and its owner is told."""
    log.error("a page of campaign %s could not be sent", lease.campaign_id, exc_info=error)
    with runtime.db.begin() as conn:
        outbox.put_back(conn, lease, AGAIN_IN)
        message = f"Some of it could not be sent yet: {words_of(error)}"[:500]
        alert.raise_alert(conn, alert.Kind.PAGE_FAILED, lease.campaign_id, message)


def _end_probe(runtime: Runtime, page: Page) -> None:
    """The campaign was paused before it could try the pool for all others: one of them may."""
    if page.lease.probe:
        with runtime.db.begin() as conn:
            pool.end_probe(conn, page.sending.pool_id)


def compose_page(composer: Composer, page: Page) -> tuple[list[Letter], list[Fact]]:
    letters, unrenderable = composer.compose([lead for lead in page.leads if lead.skip is None])
    reasons = {lead.id: lead.skip for lead in page.leads if lead.skip is not None}
    reasons.update((lead_id, f"unrenderable: {reason}") for lead_id, reason in unrenderable)
    if not reasons:
        return letters, []
    domains = {lead.id: lead.domain_id for lead in page.leads}
    return letters, [Fact(lead_id, domains[lead_id], Kind.SKIPPED, {"reason": r}) for lead_id, r in reasons.items()]


def hand_over(
    runtime: Runtime, page: Page, letters: Sequence[Letter], skipped: Sequence[Fact]
) -> list[handoff.HandOff] | None:
    """Write the intention: from its commit on, the page's leads may have left. None where the campaign stands still.

    Where the reply to the commit is lost, it is asked whether it happened: nothing has left us until that is known.
    Whoever was suppressed since the page was read stands in no call, where that was more than a moment ago.
    """
    until = uptime() + runtime.settings.lease / 3
    tried = False
    while True:
        try:
            with runtime.db.begin() as conn:
                if uptime() - page.read_at > FRESH:  # composing took long, or the database was away
                    letters, skipped = _leave_out(conn, page, letters, skipped)
                return _write(runtime, conn, page, letters, skipped)
        except LeaseLost:
            # The first try's connection was lost, but perhaps not its commit; it may even have ended only just now.
            if not tried or (done := _handed_over(runtime, page.lease)) is None:
                raise
            return done
        except Unavailable:
            tried = True
            if uptime() > until or runtime.stopping.wait(0.2):
                raise


def _leave_out(
    conn: Connection, page: Page, letters: Sequence[Letter], skipped: Sequence[Fact]
) -> tuple[list[Letter], list[Fact]]:
    """The same without those who must not be mailed any more by now; they are skipped."""
    gone = {lead.id: lead.skip for lead in _read_leads(conn, page.sending, page.lease) if lead.skip is not None}
    domains = {lead.id: lead.domain_id for lead in page.leads}
    found = [letter.lead_id for letter in letters if letter.lead_id in gone]
    facts = [Fact(lead_id, domains[lead_id], Kind.SKIPPED, {"reason": gone[lead_id]}) for lead_id in found]
    return [letter for letter in letters if letter.lead_id not in gone], [*skipped, *facts]


def _handed_over(runtime: Runtime, lease: Lease) -> list[handoff.HandOff] | None:
    with runtime.db.begin() as conn:
        return handoff.read_handed(conn, lease.range_id) if outbox.is_handed_over(conn, lease) else None


def _write(
    runtime: Runtime, conn: Connection, page: Page, letters: Sequence[Letter], skipped: Sequence[Fact]
) -> list[handoff.HandOff] | None:
    if not outbox.hand_over(conn, page.lease, runtime.settings.lease, len(skipped)):
        return None
    emails = dict.fromkeys(page.lease.by_day, len(letters))  # who is skipped counts for no day
    if letters and emails and not limit.spend(conn, page.sending.pool_id, emails):
        raise DayUsedUp("other pages have used up the day's limit meanwhile")
    if letters and page.lease.warm_ups and not warm_up.spend(conn, page.lease.warm_ups, len(letters)):
        raise DayUsedUp("other pages have used up the day of a warm-up meanwhile")
    event.append(conn, page.source, skipped)
    capabilities = _provider(runtime, page.sending).capabilities
    batch = min(page.sending.batch, capabilities.batch)
    return handoff.write(
        conn,
        page.lease,
        [letter.lead_id for letter in letters],
        pool_id=page.sending.pool_id,
        variant=page.sending.variant,
        batch=batch,
        frozen=freeze(page.sending, letters, batch) if capabilities.idempotent_for else None,
        repeat_for=max(0.0, capabilities.idempotent_for - MARGIN),
    )


def _call(
    runtime: Runtime,
    page: Page,
    composer: Composer,
    handoffs: Sequence[handoff.HandOff],
    letters: Sequence[Letter],
    begun: float,
) -> list[Answer]:
    """Make the page's calls at once; one answer a hand-off, in order. `begun` is from before the hand-over."""
    provider = _provider(runtime, page.sending)
    calls: list[Callable[[], list[Outcome] | ProviderError]] = []
    first = 0
    for each in handoffs:
        last = first + len(each.lead_ids)
        batch = composer.batch(each.id, each.key, page.lease.run, letters[first:last])
        if page.lease.waits_for:
            batch = replace(batch, receiver=page.lease.waits_for)
        if provider.capabilities.idempotent_for:
            batch = noting_halving(runtime, batch)
        calls.append(begin(runtime, provider, batch, begun + runtime.settings.lease / 3))
        first = last
    return [Answer(each, call()) for each, call in zip(handoffs, calls, strict=True)]


def begin(
    runtime: Runtime, provider: Provider, batch: Batch, latest: float
) -> Callable[[], list[Outcome] | ProviderError]:
    """Begin a call on a thread of its own; what is given waits for its answer."""
    try:
        return runtime.calls.submit(speak, provider, batch, latest).result
    except RuntimeError as error:  # the interpreter ends, and its threads take nothing more: nothing left us
        ended = ProviderDown(f"the call was not begun: {error}", passing=True)
        return lambda: ended


def noting_halving(runtime: Runtime, batch: Batch, tries: int = 0) -> Batch:
    """A batch whose call may be made again under its key, at its first making or as repeat `tries`: not once its parts
    leave. That is written before they do."""

    def note() -> None:
        try:
            with runtime.db.begin() as conn:
                noted = handoff.halve(conn, batch.handoff_id, tries)
        except (Unavailable, DBAPIError, psycopg.Error) as error:
            raise ProviderDown("the call was refused whole, and its parts did not leave", passing=True) from error
        if not noted:
            raise ProviderDown("the call was refused whole, and is somebody else's by now", passing=True)

    return replace(batch, halving=note)


def speak(provider: Provider, batch: Batch, latest: float) -> list[Outcome] | ProviderError:
    """Make one call, unless it is past `latest` (seconds of `uptime`); whatever goes wrong is an answer."""
    # A process that slept past its lease must not speak: its range may be another's by now.
    if uptime() > latest:
        return ProviderDown("the call was not begun in time", passing=True)
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
    return runtime.provider(sending.pool_url, sending.pool_id)


def composer_of(runtime: Runtime, sending: Sending) -> Composer:
    key = (runtime.settings.base_url, sending)
    with _composers_lock:
        known = _composers.get(key)
    if known is not None:
        return known
    with runtime.db.begin() as conn:
        compiled = Compiled.from_json(campaign.load_compiled(conn, sending.campaign_id, sending.variant))
    composer = Composer(compiled, sending, runtime.settings.base_url, runtime.signer, runtime.tracking)
    with _composers_lock:
        while len(_composers) >= _MOST_COMPOSERS:
            _composers.pop(next(iter(_composers)))
        _composers[key] = composer
    return composer
