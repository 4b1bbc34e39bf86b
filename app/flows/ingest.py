"""Ingesting: kept webhooks are read, each event once; what they prove, record and entail is written in one transaction.

Nothing is ever updated by an event, so their order does not matter: any permutation gives the same figures.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection

from app.errors import Unavailable
from app.flows import consequences, machines, resolve, shape, track
from app.flows.resolve import Evidence
from app.mail import Kind, Reported
from app.message_ids import is_message
from app.models import alert, bounce, event, kept_post, rollup, unread, webhook
from app.models.event import Fact, Source, Told
from app.models.track import Touch
from app.models.webhook import BUCKETS, Arrivals, Hit, Pool, Post, Sending
from app.providers import READERS, WEBHOOKS
from app.runtime import Runtime

log = logging.getLogger(__name__)

POSTS: Final = 500  # of one pool, in one transaction
BYTES: Final = 1024 * 1024  # of the same: some 5,000 events, half a second
TURN: Final = 5.0  # seconds that one bell reads for; then others have theirs
# Letters of leads of whom such evidence tells nothing new: that one was dropped is the last word.
KNOWN: Final = {Kind.SENT: "sr", Kind.REFUSED: "r"}


@dataclass(slots=True)
class Sorted:
    """The events of some posts: `fresh` by key, with their day, those `late` or told before, `unmatched` ones by post.

    Of posts that are read anew nothing is late or told before: that was counted when they were read first.
    """

    fresh: dict[str, tuple[Hit, int]]
    late: list[Hit]
    repeated: int
    unmatched: Counter[int]


def read_waiting(runtime: Runtime) -> bool:
    """Read what waits, for some seconds at most; whether there is more. Any number of workers may do so at once."""
    until = time.monotonic() + TURN
    while True:
        with runtime.db.begin() as conn:
            pools = webhook.find_waiting(conn)
        if not sum([_read_pool(runtime, pool) for pool in pools]):
            return False
        if runtime.stopping.is_set() or time.monotonic() > until:
            return True


def ring_waiting(runtime: Runtime) -> None:
    """Ring where posts wait: their own bell may have been lost."""
    with runtime.db.begin() as conn:
        waiting = webhook.find_waiting(conn)
    if waiting:
        runtime.ring("ingest")


def tidy(runtime: Runtime) -> int:
    """Make room for the days to come, and drop what was read days ago; how many posts."""
    with runtime.db.begin() as conn:
        webhook.keep_days(conn)
        webhook.forget_heard(conn)
        bounce.drop_old(conn)
        unread.drop_old(conn)
        days = kept_post.find_retention(conn, runtime.settings.webhook_days)
    total, dropped = 0, POSTS
    while dropped == POSTS and not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            dropped = kept_post.drop_read(conn, days, POSTS)
        total += dropped
    return total


def _read_pool(runtime: Runtime, pool: Pool) -> int:
    """Read some posts of a pool in one transaction; where that fails, one by one, so that only the bad ones wait."""
    posts: list[Post] = []
    _make_days(runtime)
    try:
        with runtime.db.begin() as conn:
            posts = webhook.claim(conn, pool.id, POSTS, BYTES)
            if posts:
                _read(conn, pool, posts)
        return len(posts)
    except Unavailable:
        raise
    except Exception as error:  # whatever is in a body, it stops nobody else's
        if not posts:
            raise
        log.info("%s posts of pool %s are read one by one: %s", len(posts), pool.id, error)
    return sum([_read_alone(runtime, pool, post) for post in posts])


def _read_alone(runtime: Runtime, pool: Pool, post: Post) -> int:
    try:
        with runtime.db.begin() as conn:
            _read(conn, pool, webhook.claim_one(conn, post.id))
    except Unavailable:
        raise
    except Exception as error:
        with runtime.db.begin() as conn:
            again = webhook.put_back(conn, post.id, f"{type(error).__name__}: {error}")
        log.log(logging.WARNING if again else logging.ERROR, "webhook %s cannot be read: %r", post.id, error)
    return 1


def _make_days(runtime: Runtime) -> None:
    with runtime.db.begin() as conn:
        complete = webhook.find_window(conn).complete
    if not complete:  # the clock does this ahead; here it is the first time, or the clock stood still for days
        with runtime.db.begin() as conn:
            webhook.keep_days(conn)


def _read(conn: Connection, pool: Pool, posts: Sequence[Post]) -> None:
    """Everything that these posts entail; raises what a body that is none of its provider's makes its reader raise."""
    reader = READERS[pool.provider]
    told = [(post, each) for post in posts for each in reader.read_events(post.body, post.delivery)]
    strange = [(post, each) for post, each in told if each.unread is not None]
    if strange:
        told = [(post, each) for post, each in told if each.unread is None]
    found = _sort(conn, pool, posts, told)
    days = {key: day for key, (_, day) in found.fresh.items()}
    new = webhook.add_events(conn, days)
    hits = [hit for key, (hit, _) in found.fresh.items() if key in new]
    _prove(conn, pool, hits)
    _record(conn, pool, hits)
    _count_late(conn, found.late)
    unknown = unread.note(conn, pool.id, posts, strange)
    webhook.close(conn, found.unmatched, Counter(hit.post.id for hit in hits), unknown)
    consequences.draw(conn, hits)
    _shape(conn, pool, hits)
    if not all(post.again for post in posts):
        alert.clear(conn, alert.Kind.WEBHOOK_REFUSED, pool.id)
    webhook.note_arrivals(conn, pool.id, _arrivals(posts, found, hits))  # last: it locks a row that all posts want


def _shape(conn: Connection, pool: Pool, hits: Sequence[Hit]) -> None:
    """What receivers have just said of emails that they put off or turned away."""
    said = [hit for hit in hits if hit.told.reason and hit.told.meaning.is_trouble and not hit.post.again]
    if said:
        fresh = [hit for hit in said if (hit.post.received_at - hit.told.at).total_seconds() < shape.FRESH]
        replies = [(hit.match.domain_id, webhook.clean(hit.told.reason or "")[:500]) for hit in fresh]
        shape.note(conn, said[0].match.sending.organisation_id, pool.id, replies)


def _sort(conn: Connection, pool: Pool, posts: Sequence[Post], told: Sequence[tuple[Post, Reported]]) -> Sorted:
    window = webhook.find_window(conn)
    first, last = window.first, window.last
    # A post says when it happened; of mail it may be when we got it, which another copy of it would say otherwise.
    timed = window.timed if pool.provider in WEBHOOKS else last + 1
    found = Sorted({}, [], 0, Counter(dict.fromkeys((post.id for post in posts), 0)))
    found.unmatched.update(post.id for post, _ in told)
    for match in webhook.match(conn, pool.id, [(each.handoff_id, each.lead_id) for _, each in told]):
        post, each = told[match.place - 1]
        found.unmatched[post.id] -= 1
        day, minute = webhook.day_and_minute(each.at)
        hit = Hit(_seen_through(each), post, match)
        if first <= day <= last:
            key = webhook.key_of(pool.id, each.key, minute if day >= timed else None)
            if found.fresh.setdefault(key, (hit, day))[0] is not hit and not post.again:
                found.repeated += 1
        elif not post.again:
            found.late.append(hit)
    return found


def _seen_through(told: Reported) -> Reported:
    """Marked as a machine's, where a provider that does not say so tells who opened or clicked."""
    if told.machine or not (told.agent or told.address):
        return told
    by_agent = bool(told.agent) and machines.judge_agent(told.agent) is not None
    return told._replace(machine=by_agent or machines.judge_address(told.address) is not None)


def _prove(conn: Connection, pool: Pool, hits: Sequence[Hit]) -> None:
    proof = {
        Evidence(hit.told.handoff_id, hit.told.lead_id, hit.told.meaning.evidence)
        for hit in hits
        if hit.told.meaning.evidence is not None and hit.match.letter not in KNOWN[hit.told.meaning.evidence]
    }
    if proof:
        resolve.use_evidence(conn, pool.id, sorted(proof))


def _record(conn: Connection, pool: Pool, hits: Sequence[Hit]) -> None:
    """In time's order: the record is told of each five minutes once. A clock that runs ahead does not move us."""
    telling = [hit for hit in hits if hit.told.meaning.kind is not None]
    telling = _sift(conn, pool, telling)
    clicked = [
        (hit.match.sending.campaign_id, webhook.clean(hit.told.url)) for hit in telling if hit.told.url is not None
    ]
    links = webhook.find_links(conn, clicked)
    sources: dict[tuple[Sending, int, bool], Source] = {}
    events: list[Told] = []
    for hit in telling:
        sending, told = hit.match.sending, hit.told
        link_id = links.get((sending.campaign_id, told.url), 0) if told.url is not None else 0
        one = (sending, link_id, told.machine)  # of thousands of calls a few
        source = sources.get(one) or sources.setdefault(one, _source(pool, hit, link_id))
        assert told.meaning.kind is not None
        fact = Fact(told.lead_id, hit.match.domain_id, told.meaning.kind, _detail(told, link_id))
        events.append(Told(consequences.time_of(hit), source, fact))
    events.sort(key=lambda each: each.time)
    event.append_told(conn, events)


def _sift(conn: Connection, pool: Pool, hits: Sequence[Hit]) -> list[Hit]:
    """All but opens and clicks that tracking does not want; it notes who was first."""
    touches = {place: touch for place, hit in enumerate(hits) if (touch := _touch(hit)) is not None}
    wanted = track.sift(conn, pool.provider, list(touches.values()))
    return [hit for place, hit in enumerate(hits) if place not in touches or touches[place] in wanted]


def _touch(hit: Hit) -> Touch | None:
    kind = hit.told.meaning.kind
    if kind not in (Kind.OPENED, Kind.CLICKED):
        return None
    return Touch(hit.match.sending.campaign_id, hit.told.lead_id, kind, hit.told.machine)


def _source(pool: Pool, hit: Hit, link_id: int) -> Source:
    sending = hit.match.sending
    return Source(
        organisation_id=sending.organisation_id,
        user_id=sending.owner_id,
        campaign_id=sending.campaign_id,
        pool_id=pool.id,
        variant=sending.variant,
        run=sending.run,
        link_id=link_id,
        machine=hit.told.machine,
        message=is_message(hit.told.lead_id),
    )


def _detail(told: Reported, link_id: int) -> dict[str, object] | None:
    detail: dict[str, object] = {}
    if told.meaning.bounce is not None:
        detail["bounce"] = told.meaning.bounce.value
    if told.reason:
        detail["reason"] = webhook.clean(told.reason)[:300]
    if told.url is not None and not link_id:
        detail["url"] = webhook.clean(told.url)[:2000]
    return detail or None


def _count_late(conn: Connection, late: Sequence[Hit]) -> None:
    """Events that cannot be told from repeats any more are counted, and not taken."""
    sums: Counter[tuple[Any, ...]] = Counter()
    for hit in late:
        if hit.told.meaning.kind is not None:
            hour = hit.told.at.replace(minute=0, second=0, microsecond=0)
            sending = hit.match.sending
            sums[sending.organisation_id, sending.campaign_id, hit.told.meaning.kind, hour] += 1
    for (organisation_id, campaign_id, kind, hour), total in sums.items():
        rollup.note_late(conn, organisation_id, campaign_id, kind, hour, total)


def _arrivals(posts: Sequence[Post], found: Sorted, hits: Sequence[Hit]) -> Arrivals:
    lags = [0] * BUCKETS
    received = {post.id: post.received_at.timestamp() for post in posts}
    first = [hit for hit in hits if hit.told.meaning.first]
    for hit in first:
        lags[webhook.bucket(received[hit.post.id] - hit.match.handed)] += 1
    handed = max((hit.match.handed for hit in first), default=None)
    return Arrivals(
        seen_at=max(post.received_at for post in posts),
        # By first words alone: where only bounces are told of, as by mail, silence says nothing.
        handed_at=None if handed is None else datetime.fromtimestamp(handed, UTC),
        lags=lags,
        events=len(hits),
        repeated=found.repeated
        + sum(not hit.post.again for hit, _ in found.fresh.values())
        - sum(not hit.post.again for hit in hits),
        late=len(found.late),
        unmatched=found.unmatched.total() - sum(post.unmatched for post in posts),
        # whatever it says of an email of ours, and though it says it again: the way from the provider to us is open
        heard=sorted({int(received[hit.post.id]) // webhook.HEARD for hit, _ in found.fresh.values()}),
    )
