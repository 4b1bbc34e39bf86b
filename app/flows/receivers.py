"""Learning whose servers take a domain's mail, in the background: sending never waits for a name server.

Only domains that a limit has asked about are looked up, a few dozen at a time; an answer is kept for 30 days.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from dns.resolver import Resolver

from app.models import limit, receiver, shaping, warm_up
from app.providers.mail_exchange import find_servers, open_resolver
from app.runtime import Runtime

log = logging.getLogger(__name__)

PAGE: Final = 200  # domains that are looked up in one go
AT_ONCE: Final = 16  # questions under way


def look_up_receivers(runtime: Runtime, resolver: Resolver | None = None) -> int:
    """Look up the domains that are asked about, until none is left; how many have an answer.

    One without an answer is asked about again after ten minutes, then ever more seldom, daily at last.
    """
    known = 0
    asked = resolver or _resolver()
    while asked is not None and not runtime.stopping.is_set():
        with runtime.db.begin() as conn:
            domains = receiver.find_asked(conn, PAGE)
        if not domains:
            break
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mx") as pool:
            found = list(pool.map(lambda each: find_servers(asked, each[1]), domains))
        answers = [None if servers is None else receiver.of_servers(servers) for servers in found]
        with runtime.db.begin() as conn:
            receiver.learn(conn, {domain_id: each for (domain_id, _), each in zip(domains, answers, strict=True)})
        known += sum(each is not None for each in answers)
        if not any(each is not None for each in answers):
            log.warning("no name server answers: limits by receiver know the great domains only")
            break
    return known


def tidy(runtime: Runtime) -> None:
    """Forget what no limit by day counts any more."""
    with runtime.db.begin() as conn:
        limit.forget_spent(conn)
        warm_up.forget_spent(conn)
        shaping.forget(conn)


@cache
def _resolver() -> Resolver | None:
    return open_resolver()
