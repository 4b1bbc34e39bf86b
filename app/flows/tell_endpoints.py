"""Telling endpoints: posts are made of the news that waits, and tried until they are taken, for a day.

A post is claimed before it is tried, and no transaction is open meanwhile. One that a worker died over is tried again a
minute later, under the same id: an endpoint may be told twice, and is never told of what was not committed. While an
endpoint fails it is asked with one post at a time, ever more seldom; the others have their own.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final

from sqlalchemy import Connection

from app.flows import endpoint_words
from app.flows.one_by_one import do_each
from app.models import addressee, alert, endpoint, endpoint_post, news
from app.models.endpoint import Endpoint
from app.models.endpoint_post import Due, Made, Result
from app.models.news import Item
from app.providers.endpoint_post import Reply, post
from app.runtime import Runtime

log = logging.getLogger(__name__)

ROWS: Final = 200  # of news, and
BYTES: Final = 2 << 20  # of their lines, that posts are made of in one transaction: some 30,000 events
TOGETHER: Final = 32  # posts under way in a process
DEADLINE: Final = 15.0  # seconds for one: well below the minute after which another worker may try it
POLL: Final = 0.5  # seconds after which what is new is looked for, while posts are under way
PAUSES: Final = (5.0, 30.0, 120.0, 300.0, 900.0, 1800.0)  # seconds after each failure in a row; then
LAST_PAUSE: Final = 3600.0
LONGEST_REST: Final = 86_400.0  # seconds that an endpoint may ask for: a post is tried at its day's end all the same
DROPPED: Final = 1000  # posts in one transaction
ROOM: Final = 2 << 30  # bytes of posts that may wait for one endpoint: some ten million events


def tell_due(runtime: Runtime) -> int:
    """Make posts of what waits and try what is due, until nothing is; how many were taken. Many workers may do so."""
    taken = 0
    with ThreadPoolExecutor(TOGETHER, thread_name_prefix="endpoint") as threads:
        under_way: dict[Future[Reply], tuple[Due, float]] = {}
        while True:
            make_posts(runtime)
            if not runtime.stopping.is_set():
                for due, body in _claim(runtime, TOGETHER - len(under_way)):
                    under_way[threads.submit(_try, runtime, due, body)] = due, time.monotonic()
            if not under_way:
                return taken
            done, _ = wait(under_way, timeout=POLL, return_when=FIRST_COMPLETED)
            for future in done:
                due, began = under_way.pop(future)
                taken += _settle(runtime, due, future.result(), time.monotonic() - began)


def make_posts(runtime: Runtime) -> int:
    """Make posts of all news, each organisation's by itself; how many rows that was."""
    with runtime.db.begin() as conn:
        organisations = news.find_organisations(conn)
    return do_each(organisations, lambda each: _make(runtime, each), "making posts for organisation")


def tidy(runtime: Runtime) -> int:
    """Drop posts that are older than they are kept, or more than there is room for, and old news; how many posts."""
    with runtime.db.begin() as conn:
        old = news.drop_old(conn)
    if old:
        log.error("%s rows of news were dropped: no worker made posts of them for %s days", old, news.KEPT)
    aged = _drop_all(runtime, lambda conn: endpoint_post.drop_old(conn, DROPPED))
    return aged + make_room(runtime)


def make_room(runtime: Runtime) -> int:
    """Drop the oldest posts of endpoints for which too much waits, as for a disabled one; how many."""
    dropped = _drop_all(runtime, lambda conn: endpoint_post.drop_beyond(conn, ROOM, DROPPED))
    if dropped:
        log.warning("%s posts to endpoints were dropped: more than %s bytes waited for one", dropped, f"{ROOM:,}")
    return dropped


def _drop_all(runtime: Runtime, drop: Callable[[Connection], int]) -> int:
    total, dropped = 0, DROPPED
    while dropped == DROPPED and not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            dropped = drop(conn)
        total += dropped
    return total


def pause_after(failures: int) -> float:
    """Seconds until the next try after so many failures in a row; a little by chance, so that not all come at once."""
    pause = PAUSES[failures - 1] if failures <= len(PAUSES) else LAST_PAUSE
    return pause * random.uniform(0.9, 1.1)


def _make(runtime: Runtime, organisation_id: int) -> int:
    made = 0
    while not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            rows = news.take(conn, organisation_id, ROWS, BYTES)
            if rows:
                _write(conn, organisation_id, [item for row in rows for item in news.read(row)])
        made += len(rows)
        if not rows:
            break
    return made


def _write(conn: Connection, organisation_id: int, items: Sequence[Item]) -> None:
    hearers = endpoint.find_hearers(conn, organisation_id)
    domains = news.find_domains(conn, (item.domain_id for item in items))
    links = news.find_links(conn, (item.link_id for item in items))
    events = [endpoint_words.event_of(item, domains, links) for item in items]
    made: list[Made] = []
    for hearer in hearers:
        wanted = (
            event
            for event in events
            if event["type"] in hearer.kinds and hearer.campaign_id in (None, event["campaign_id"])
        )
        made += [Made(hearer.id, *each) for each in endpoint_words.pack(wanted, with_email=hearer.with_email)]
    endpoint_post.add(conn, made)


def _claim(runtime: Runtime, most: int) -> list[tuple[Due, bytes]]:
    """Posts to try, with their bodies."""
    if most <= 0:
        return []
    with runtime.db.begin() as conn:
        claimed = endpoint_post.claim(conn, most)
        return [(due, _body(conn, due)) for due in claimed]


def _body(conn: Connection, due: Due) -> bytes:
    addresses = None
    if due.with_email:
        addresses = addressee.find_addresses(conn, due.organisation_id, endpoint_words.named_in(due.body))
    return endpoint_words.body_of(due.organisation_id, due.endpoint_id, due.created_at, due.body, addresses)


def _try(runtime: Runtime, due: Due, body: bytes) -> Reply:
    try:
        return _post(runtime, due, body)
    except Exception as error:  # whatever is wrong with one endpoint, the others are told
        log.exception("post %s to endpoint %s at %s could not be tried", due.id, due.endpoint_id, due.host)
        return Reply(None, f"It could not be posted: {type(error).__name__}.")


def _post(runtime: Runtime, due: Due, body: bytes) -> Reply:
    secrets = [runtime.vault.decrypt(each) for each in (due.secret, due.old_secret) if each is not None]
    url = runtime.vault.decrypt(due.url)
    private = runtime.settings.private_providers
    return post(url, str(due.key), body, secrets, private=private, deadline=DEADLINE)


def _settle(runtime: Runtime, due: Due, reply: Reply, took: float) -> int:
    """Write what came of a try; 1 where the post was taken."""
    result = Result(reply.status, reply.said, took)
    with runtime.db.begin() as conn:
        known = endpoint.lock(conn, due.endpoint_id)
        if known is None:  # removed meanwhile, with its posts
            return 0
        if reply.taken:
            endpoint.took(conn, due.endpoint_id, endpoint_post.took(conn, due.id, result))
            return 1
        _fail(conn, due, known, reply, result)
    answer = f"{reply.status or ''} {reply.said}".strip()
    log.info("endpoint %s at %s did not take post %s: %s", due.endpoint_id, due.host, due.id, answer)
    return 0


def _fail(conn: Connection, due: Due, known: Endpoint, reply: Reply, result: Result) -> None:
    """Later again; and where the endpoint is gone, or took nothing for a day, never again, and its people are told."""
    asked = min(reply.retry_in or 0.0, LONGEST_REST)
    pause = pause_after(due.tries)
    given_up = endpoint_post.failed(conn, due.id, result, max(pause, asked), asked=asked > pause)
    rest = 0.0 if known.waits else pause_after(known.failures + 1)  # what was under way beside it failed for the same
    endpoint.failed(conn, due.endpoint_id, max(rest, asked), given_up)
    if known.disabled_at is None and (reply.gone or known.hopeless):
        said = f"HTTP {reply.status}" if reply.status else reply.said
        why = "It answered HTTP 410: it wants no more." if reply.gone else f"It took nothing for a day. Last: {said}"
        endpoint.disable(conn, due.endpoint_id, None, why)
        alert.raise_alert(conn, alert.Kind.ENDPOINT_DISABLED, due.endpoint_id, why)
