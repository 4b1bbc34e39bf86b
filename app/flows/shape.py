"""Shaping traffic by what receivers reply: a rule that fits a reply slows or stops a pool's mail to that receiver."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection

from app.models import receiver, shaping
from app.models.shaping import Rule
from app.runtime import Runtime

log = logging.getLogger(__name__)

FRESH: Final = 900.0  # seconds: what a receiver said longer ago than that says nothing of now


def note(conn: Connection, organisation_id: int, pool_id: int, replies: Iterable[tuple[int, str]]) -> None:
    """Look for rules that fit what receivers said: (domain id, reply) of emails that were put off or refused.

    May lock limits of the pool until the commit: note late.
    """
    told = Counter((domain_id, reply) for domain_id, reply in replies if domain_id and reply)
    if not told:
        return
    rules = [rule for rule in shaping.list_rules(conn, organisation_id) if rule.enabled]
    fitting = {reply: [rule for rule in rules if rule.matches(reply)] for reply in {reply for _, reply in told}}
    domains = shaping.find_domains(conn, {domain_id for domain_id, reply in told if fitting[reply]})
    found: defaultdict[tuple[str, Rule], Counter[str]] = defaultdict(Counter)
    for (domain_id, reply), times in told.items():
        if domain_id in domains:
            name, known = domains[domain_id]
            whose = known or receiver.of_domain(name) or name
            rule = _first(fitting[reply], whose, name)
            if rule is not None:
                found[name if rule.receiver == name else whose, rule][reply] += times
    begun: set[str] = set()
    for (whose, rule), counted in sorted(found.items(), key=lambda each: (each[0][0], each[0][1].key)):
        reply = next(iter(counted))
        if shaping.begin(conn, pool_id, whose, rule, reply, counted.total()):
            log.info("pool %s: rule %s for %s, since it said: %s", pool_id, rule.key, whose, reply)
            begun.add(whose)
    shaping.apply(conn, pool_id, begun)


def end_due(runtime: Runtime) -> int:
    """End what has come to its end; how many. Nothing waits for this: limits look at the time themselves."""
    with runtime.db.begin() as conn:
        ended = shaping.end_due(conn)
        by_pool: defaultdict[int, set[str]] = defaultdict(set)
        for pool_id, whose in ended:
            by_pool[pool_id].add(whose)
        for pool_id in sorted(by_pool):
            shaping.apply(conn, pool_id, by_pool[pool_id])
    if ended:
        runtime.ring("send", runtime.settings.worker_threads)
    return len(ended)


def lift(runtime: Runtime, organisation_id: int, pool_id: int, shaping_id: int, user_id: int) -> str:
    """A person ends what a reply has brought about; the receiver. Raises NotFound where it is over already."""
    with runtime.db.begin() as conn:
        whose = shaping.lift(conn, organisation_id, pool_id, shaping_id, user_id)
        shaping.apply(conn, pool_id, [whose])
    runtime.ring("send", runtime.settings.worker_threads)
    return whose


def _first(rules: Sequence[Rule], whose: str, domain: str) -> Rule | None:
    return next((rule for rule in rules if rule.fits(whose, domain)), None)
