"""Limits under load: what every bucket lets through a second, as the provider sees it, shared by worker processes.

Three campaigns go through three pools of one sink at once: one with a limit for all of its emails, one with limits for
three receivers, and a mixed one, whose limit for all is tighter than what its receivers may have together. There are
more leads than limits let go. Every email that the sink accepts is counted with the sink's own clock, for `--seconds`.
of_limit is the share of the limit that was used then; most_in_a_second the most in any second, wherever it begins;
over_seconds for how long the last second had more than rate plus burst.

What of_limit counts begins and ends, for each bucket, when its burst is spent. Buckets fill while workers start, and a
minute that begins with a full one may rightly hold a burst more: 1.017 of the limit. So the count begins at that moment
of the second half of `--ramp` at which a bucket of this rate, seen from the sink, was lowest, and ends at such a moment
of as long a time after `--seconds`. What it has above 1 went too fast, but for what was on its way to the sink.

Two promises are broken, and the benchmark ends with 1, where over_seconds is more than 0, and where any span of
`--seconds` has more than the rate and one burst. The first breaks too where a process that has taken tokens gets no
core to make its calls for a second: measure alone on the machine.

The rival, `counter_a_second`, is the usual limiter: `--workers` threads count each call of 50 in a Redis key of that
second, and whoever is above the limit sleeps, holding its leads, until the next second begins.
"""

from __future__ import annotations

import threading
import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path

import psycopg
import redis

from app.flows import launch, pools
from app.models.limit import WHOLE, Limit
from app.models.template import LeadView
from app.runtime import Runtime
from bench import prefill, sending
from bench.harness import Answer, Figures, Server, reach, say, server
from bench.prefill import Connection, Tenant
from bench.process import Sink, cpu_seconds, sink, started

SIZES = {"seconds": 60}
SPARE = 1.3  # leads of a bucket, of those that it lets go
CALL = 50
ELSEWHERE = "example.com"  # nobody's whom a limit names

LEADS = """
INSERT INTO lead (organisation_id, domain_id, email, attributes)
SELECT %(organisation_id)s, domain.id, 'lead' || n || '-' || domain.id || '@' || domain.name,
       jsonb_build_object('first_name', 'Ada', 'last_name', 'Berg', 'country', 'DE', 'plan', 'pro')
  FROM unnest(%(domains)s::text[], %(leads)s::integer[]) AS asked (name, leads)
  JOIN domain USING (name)
 CROSS JOIN LATERAL generate_series(1, asked.leads) AS n
 ORDER BY n, domain.id
"""
POOL = "SELECT pool_id FROM campaign JOIN sender ON sender.id = campaign.sender_id WHERE campaign.id = %s"


@dataclass(frozen=True, slots=True)
class Plan:
    """A pool: what its limits are, and how many leads a second each domain would like to have."""

    name: str
    limits: tuple[Limit, ...]
    wanted: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit whose emails are looked for at the sink; `full`: it is the one that holds its emails back."""

    name: str
    limit: Limit
    full: bool
    emails: Sequence[float]  # when each was accepted, in order


def _limit(receiver: str, per_second: float) -> Limit:
    return Limit(receiver, per_second=per_second, burst=max(1, int(per_second)))


PLANS = (
    Plan("all", (_limit(WHOLE, 400),), {ELSEWHERE: 400}),
    Plan(
        "receivers",
        (_limit("google", 250), _limit("microsoft", 120), _limit("yahoo", 30)),
        {"gmail.com": 250, "outlook.com": 120, "yahoo.com": 30},
    ),
    Plan("mixed", (_limit(WHOLE, 200), _limit("google", 150)), {"gmail.com": 150, ELSEWHERE: 200}),
)
DOMAINS = {"google": "gmail.com", "microsoft": "outlook.com", "yahoo": "yahoo.com"}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=4, help="worker processes (default 4)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each (default 2)")
    parser.add_argument("--ramp", type=float, default=8.0, help="seconds before it is counted (default 8)")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each of the sink's replies")


def run(args: Namespace) -> Answer:
    """Ours through all three pools at once; then the rival with the first pool's limit."""
    log = "accepted.log"
    with server(args.edition, redis=True) as house:
        with sink(house, args.latency, "--log", str(house.folder / log)) as peer:
            buckets, ours = _ours(house, peer, args, house.folder / log)
        with sink(house, args.latency, "--log", str(house.folder / f"rival-{log}"), name="rival") as peer:
            rival = _rival(house, peer, args, house.folder / f"rival-{log}")
    full = {each.name: ours[f"{each.name}_of_limit"] for each in buckets if each.full}
    names = ("seconds", "workers", "threads", "latency")
    return Answer(
        settings=house.settings
        | {name: getattr(args, name) for name in names}
        | {f"{each.name}_per_second": each.limit.per_second or 0 for each in buckets},
        ours=ours,
        rivals={"counter_a_second": rival},
        reach={f"{name}_of_limit": reach(0.98, used) for name, used in full.items()}
        | {f"{each.name}_over_seconds": reach(0, ours[f"{each.name}_over_seconds"]) for each in buckets},
        broken=tuple(find_broken(buckets, args.seconds)),
    )


def _ours(house: Server, peer: Sink, args: Namespace, log: Path) -> tuple[list[Bucket], Figures]:
    domains: dict[int, str] = {}
    campaigns: dict[int, Plan] = {}
    with ExitStack() as stack:
        runtime = stack.enter_context(sending.runtime(house))
        conn = stack.enter_context(psycopg.connect(house.database_url))
        for plan in PLANS:
            tenant = _prepare(conn, plan, args.seconds + 1.5 * args.ramp)
            campaign_id = sending.create_campaign(runtime, tenant, peer.provider_url)
            _set_limits(runtime, conn, tenant, campaign_id, plan.limits)
            campaigns[campaign_id] = plan
            launch.launch(runtime, tenant.organisation_id, campaign_id)
        rows = conn.execute("SELECT lead.id, name FROM lead JOIN domain ON domain.id = domain_id").fetchall()
        domains.update((int(str(lead_id)), str(name)) for lead_id, name in rows)
        say(f"ours, {args.workers} worker processes, {args.seconds} s")
        stack.enter_context(started(["cli", "clock"], sending.environment(house), house.folder / "clock.log"))
        worker = stack.enter_context(sending.workers(house, args.workers, args.threads))
        before = cpu_seconds(worker.pid)
        time.sleep(args.ramp)
        since = time.time()
        time.sleep(args.seconds + args.ramp / 2)
        spent = cpu_seconds(worker.pid) - before
    accepted = _read(log, domains)
    buckets = [bucket for campaign_id, plan in campaigns.items() for bucket in _buckets(campaign_id, plan, accepted)]
    figures = _figures(buckets, since, args.seconds, args.ramp / 2)
    sent = sum(map(len, accepted.values()))
    return buckets, figures | {"worker_cpu_us_per_email": spent * 1e6 / max(sent, 1)}


def _prepare(conn: Connection, plan: Plan, seconds: float) -> Tenant:
    tenant = _tenant(conn, plan.name)
    conn.execute("INSERT INTO domain (name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", [list(plan.wanted)])
    leads = [int(wanted * seconds * SPARE) + 100 for wanted in plan.wanted.values()]
    values = {"organisation_id": tenant.organisation_id, "domains": list(plan.wanted), "leads": leads}
    conn.execute(LEADS, values)
    conn.commit()
    prefill.vacuum(conn, "lead")
    return tenant


def _tenant(conn: Connection, name: str) -> Tenant:
    """Each pool is another organisation's: the campaigns share nothing but the workers."""
    organisation_id = prefill.insert_one(conn, "organisation", {"name": name})
    person = {"organisation_id": organisation_id, "email": f"{name}@example.com", "name": name, "password_hash": "!"}
    user_id = prefill.insert_one(conn, "user", person)
    rows = [(organisation_id, attribute, kind) for attribute, kind in prefill.ATTRIBUTES.items()]
    conn.cursor().executemany("INSERT INTO attribute (organisation_id, name, type) VALUES (%s, %s, %s)", rows)
    conn.commit()
    return Tenant(organisation_id, user_id)


def _set_limits(runtime: Runtime, conn: Connection, tenant: Tenant, campaign_id: int, limits: Sequence[Limit]) -> None:
    row = conn.execute(POOL, [campaign_id]).fetchone()
    assert row is not None
    conn.commit()
    pools.set_limits(runtime, tenant.organisation_id, int(str(row[0])), limits)


def _read(log: Path, domains: Mapping[int, str]) -> dict[tuple[int, str], list[float]]:
    """(campaign, domain) -> when each email was accepted, in order."""
    accepted: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    with log.open() as lines:
        for line in lines:
            campaign_id, _run, _handoff, _key, leads, at = line.split()
            for lead in leads.split(","):
                accepted[int(campaign_id), domains.get(int(lead), ELSEWHERE)].append(float(at))
    return accepted


def _buckets(campaign_id: int, plan: Plan, accepted: Mapping[tuple[int, str], list[float]]) -> Iterable[Bucket]:
    whole = next((each.per_second or 0 for each in plan.limits if each.receiver == WHOLE), 0)
    for each in plan.limits:
        names = list(plan.wanted) if each.receiver == WHOLE else [DOMAINS[each.receiver]]
        emails = sorted(at for name in names for at in accepted.get((campaign_id, name), []))
        name = plan.name if each.receiver == WHOLE else f"{plan.name}_{each.receiver}"
        yield Bucket(name, each, full=each.receiver == WHOLE or not whole, emails=emails)


def _figures(buckets: Sequence[Bucket], begin: float, seconds: float, within: float) -> Figures:
    figures: Figures = {}
    for each in buckets:
        rate = each.limit.per_second or 0
        since = spent_at(each.emails, rate, begin - within, begin)
        until = spent_at(each.emails, rate, begin + seconds, begin + seconds + within)
        emails = [at for at in each.emails if since < at <= until]
        figures[f"{each.name}_of_limit"] = len(emails) / (until - since) / rate
        figures[f"{each.name}_most_in_a_second"] = most_within(each.emails, 1.0)
        figures[f"{each.name}_over_seconds"] = over(each.emails, 1.0, rate + each.limit.burst)
    return figures


def spent_at(times: Iterable[float], rate: float, since: float, until: float) -> float:
    """When a bucket that fills by `rate` a second, and of which each of `times` (in order) takes one, is lowest between
    two moments; the first of them where nothing is taken."""
    lowest, found = 0.0, since
    for taken, at in enumerate((each for each in times if since <= each < until), start=1):
        level = rate * (at - since) - taken
        if level <= lowest:
            lowest, found = level, at
    return found


def most_within(times: Iterable[float], seconds: float) -> int:
    """The most of `times` (in order) that lie within any span of so many seconds, its end left out."""
    span: deque[float] = deque()
    most = 0
    for at in times:
        span.append(at)
        while span[0] <= at - seconds:
            span.popleft()
        most = max(most, len(span))
    return most


def over(times: Sequence[float], seconds: float, most: float) -> float:
    """For how long the last so many seconds had more than `most` of `times`, which are in order."""
    total, since, span = 0.0, 0.0, deque[float]()
    for at in (*times, inf):
        while span and span[0] <= at - seconds:
            total += span[0] + seconds - since if len(span) > most else 0.0
            since = span.popleft() + seconds
        total += at - since if len(span) > most else 0.0
        span.append(at)
        since = at
    return total


def find_broken(buckets: Sequence[Bucket], seconds: int) -> Iterable[str]:
    """What was promised of buckets and did not hold, a sentence each."""
    for each in buckets:
        rate, burst = each.limit.per_second or 0, each.limit.burst
        most = most_within(each.emails, seconds)
        if most > rate * seconds + burst:
            yield f"{each.name}: {most} emails in {seconds} s, where {rate * seconds + burst:,.0f} are allowed."
        if (above := over(each.emails, 1.0, rate + burst)) > 0:
            yield f"{each.name}: for {above:.3f} s the last second had more than the {rate + burst:,.0f} allowed."


def _rival(house: Server, peer: Sink, args: Namespace, log: Path) -> Figures:
    """The first pool's limit, by as many threads as there are workers, for as long."""
    rate = int(PLANS[0].limits[0].per_second or 0)
    say(f"a counter for every second, {args.seconds} s")
    with ExitStack() as stack:
        runtime = stack.enter_context(sending.runtime(house))
        client = stack.enter_context(redis.Redis.from_url(house.redis_url))
        with psycopg.connect(house.database_url) as conn:
            tenant = _tenant(conn, "rival")
        ready = stack.enter_context(sending.composing(runtime, peer.provider_url, tenant))
        taken = iter(range(1, 1 << 60))  # one call's number; next() is one step of the interpreter
        since = time.time()

        def loop() -> None:
            while time.time() < since + args.seconds:
                while (second := client.time()[0]) and client.incrby(f"rival:{second}", CALL) > rate:
                    time.sleep(1 - time.time() % 1)
                    if time.time() >= since + args.seconds:
                        return
                first = next(taken) * CALL
                leads = [LeadView(first + n, f"l{first + n}@example.com", None, {}) for n in range(CALL)]
                letters, _ = ready.composer.compose(leads)
                ready.post(letters)

        threads = [threading.Thread(target=loop) for _ in range(args.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    emails = sorted(at for times in _read(log, {}).values() for at in times)
    within = [at for at in emails if since <= at < since + args.seconds]
    return {
        "all_of_limit": len(within) / args.seconds / rate,
        "all_most_in_a_second": most_within(emails, 1.0),
    }
