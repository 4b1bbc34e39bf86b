"""Never lost, never doubled: campaigns sent by real processes while everything fails, then counted lead by lead.

Real web, workers and clock on embedded servers send through sinks of each character while a schedule drawn from
`--seed` kills processes with -9, freezes them past their lease, drains them, flushes and kills Valkey, breaks
PostgreSQL off, cuts its sessions, makes the providers fall silent, and pauses campaigns. Then all faults end, what the
product asks a person for is done, and three records are compared: see bench/fault_counts.py for what `lost`, `doubled`
and `unknown` mean. `--kills` are kill -9; half as many other faults come beside them, every kind at least once.

A character is a kind of provider. `keys`: it honours idempotency keys; nothing may be lost, doubled or unknown.
`no_keys`: nothing may be lost or doubled, and unknown only what was under way (`unknown_bound`): the hand-offs of a
worker that stood `handed` right after it was killed or frozen, and the calls whose reply the sink lost on purpose. No
other fault may make anything unknown: not a drain, not a database that breaks off, not a provider that is slow.
`no_keys_webhooks`: as `no_keys`, and the provider reports by signed webhooks, some twice: no email that it accepted may
stay unknown (`unknown_sent`). The policy of its campaigns is to send again what is unknown, once, where silence means
something: when all has come to its end it is let be as if hours had passed (`resent` leads were decided on), and nobody
may be mailed twice by that.

`KIND_next_…` are seconds from the fault (its end, for one that lasts) until an email that was handed over after it was
settled as sent; `KIND_known_…` until every call that was in flight at the fault had an outcome, if only `unknown`. What
of it is a promise: see bench/fault_recovery.py.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

import psycopg

from app.errors import Unavailable
from app.flows import unknowns
from bench import fault_recovery
from bench.fault_counts import Verdict, count
from bench.fault_play import Play
from bench.fault_processes import GRACE
from bench.fault_recovery import WITHIN
from bench.fault_schedule import WORKERS, plan
from bench.fault_world import TOLD, Character, Pace, World, patiently, world
from bench.harness import Answer, Figures, Server, Watch, reach, say, server

SIZES = {"leads": 20_000}
CHARACTERS = ("keys", "no_keys", TOLD)
LEASE, DEADLINE = 9.0, 3.0
PAGES = WORKERS * 3  # pages under way at once: two threads of each worker, and the one that looks by itself
SETTLE = 600.0  # seconds after the last fault by which everything must have come to its end
HOURS = 7200  # seconds, longer than any hold here
RESOLVE = 60.0  # seconds that unknowns which can resolve by themselves are given after that

OPEN = """
SELECT (SELECT count(*) FROM outbox WHERE state IN ('ready', 'leased', 'quarantined'))
     + (SELECT count(*) FROM handoff WHERE state = 'handed')
     + (SELECT count(*) FROM campaign
         WHERE state IN ('scheduled', 'sending', 'paused') OR (state = 'cancelled' AND finished_at IS NULL))
"""
REASONS = """
SELECT coalesce(handoff.answer, '-'), campaign.state, sum(length(outcomes) - length(replace(outcomes, 'u', '')))
  FROM handoff
  JOIN campaign
    ON campaign.id = handoff.campaign_id
 WHERE handoff.pool_id = %s
   AND handoff.state = 'unknown'
 GROUP BY 1, 2
 ORDER BY 3 DESC
"""
# What is still about to be known by itself: calls to be made again under their key, webhooks that were not read yet.
COMING = """
SELECT (SELECT count(*) FROM handoff WHERE repeat_at IS NOT NULL) + (SELECT count(*) FROM webhook WHERE read_at IS NULL)
"""
STUCK = """
SELECT id, state, coalesce(notice, '-'),
       (SELECT string_agg(DISTINCT outbox.state, ' ') FROM outbox WHERE campaign_id = campaign.id)
  FROM campaign
 WHERE state IN ('scheduled', 'sending', 'paused') OR (state = 'cancelled' AND finished_at IS NULL)
 ORDER BY id
"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults happen (default 3)")
    parser.add_argument("--seed", type=int, default=1, help="draws the schedule; the same seed replays it (default 1)")
    parser.add_argument("--kills", type=int, help="kill -9 of a worker, clock or web (default: ten a minute)")
    parser.add_argument("--character", choices=(*CHARACTERS, "all"), default="all", help="of provider (default all)")


def run(args: Namespace) -> Answer:
    """One world, all faults, one verdict a character."""
    names = CHARACTERS if args.character == "all" else (args.character,)
    kills = args.kills if args.kills is not None else round(10 * args.minutes)
    pace = pace_for(args.leads * len(names), args.minutes)
    faults = plan(args.seed, args.minutes, kills, LEASE, names)
    with server(args.edition, redis=True) as house, world(house, args.leads, names, pace) as built:
        say(f"{args.leads:,} leads, {len(faults)} faults in {args.minutes:g} minutes, seed {args.seed}")
        play = Play(built)
        with Watch() as watch:
            play.run(faults, args.minutes)
            helped, open_at_end = settle(play)
            resent = 0 if open_at_end else let_holds_pass(play)
        return _answer(args, house, play, helped, open_at_end, watch.seconds, kills, resent)


def pace_for(emails: int, minutes: float) -> Pace:
    """So slow a sink, and such small ranges, that the emails last for about half of the time where nothing fails."""
    rate = emails / (minutes * 60 * 0.5)
    range_size = max(20, min(1000, round(rate * 0.25 * DEADLINE / PAGES)))
    latency = min(PAGES * range_size / rate, 0.3 * DEADLINE)
    return Pace(LEASE, DEADLINE, range_size, max(5, min(50, range_size // 3)), round(latency, 3))


def settle(play: Play) -> tuple[int, bool]:
    """Waits until everything has ended, doing what a person is asked for; how often, and whether it has not ended."""
    say("no more faults: everything settles")
    world, (helped, is_open) = play.world, _await_end(play)
    until = time.monotonic() + RESOLVE
    while not is_open and _may_resolve(world) and time.monotonic() < until:
        play.tick()
        time.sleep(1)
    play.look()
    return helped, is_open


def _await_end(play: Play) -> tuple[int, bool]:
    helped, until = 0, time.monotonic() + SETTLE
    while play.world.ask(OPEN) != [(0,)]:
        play.tick()
        helped += play.world.help_out()
        if time.monotonic() > until:
            return helped, True
        time.sleep(1)
    return helped, False


def let_holds_pass(play: Play) -> int:
    """Has policies decide on what is unknown where webhooks tell, as if hours had passed; on how many leads."""
    decided = 0
    for character in play.world.characters.values():
        if character.told:
            play.world.let_pass(character.pool_id, HOURS)
            decided += patiently(lambda: unknowns.apply_policies(play.world.runtime), Unavailable)
    if decided:
        say(f"policies decide on {decided} leads")
        _await_end(play)
    return decided


def _may_resolve(world: World) -> bool:
    """Whether calls wait to be repeated under their key, or webhooks to be told or read."""
    told = all(not each.sink.stats()["webhooks"]["waiting"] for each in world.characters.values())
    return not told or world.ask(COMING) != [(0,)]


def _answer(
    args: Namespace,
    house: Server,
    play: Play,
    helped: int,
    open_at_end: bool,
    seconds: float,
    kills: int,
    resent: int,
) -> Answer:
    world, processes = play.world, play.world.processes
    broken = [f"campaign {a} is still {b} ({c}; ranges: {d})" for a, b, c, d in world.ask(STUCK)] if open_at_end else []
    if processes.too_slow:
        broken.append(f"{processes.too_slow} times a process did not end within its grace after SIGTERM")
    broken += fault_recovery.broken(play, world.pace.lease)
    ours: Figures = {"lost": 0, "doubled": 0, "unknown": 0}
    for character in world.characters.values():
        say(f"counting {character.name}")
        with psycopg.connect(house.database_url) as conn:
            verdict, differences = count(conn, character.log, character.ids)
        for reason, state, leads in world.ask(REASONS, character.pool_id):
            say(f"{leads} unknown, campaign {state}: {reason}")
        bound = _bound(play, character)
        broken += [f"{character.name}: {each}" for each in (*differences, *_broken(character, verdict, bound))]
        found = {"lost": verdict.lost, "doubled": verdict.doubled, "unknown": verdict.unknown}
        for name, leads in found.items():
            ours[name] += leads
        found |= {"miscounted": verdict.miscounted, "strangers": verdict.strangers, "unknown_bound": bound}
        found |= {"audience": verdict.audience, "accepted": verdict.accepted, "unknown_sent": verdict.unknown_accepted}
        ours |= {f"{name}_{character.name}": leads for name, leads in found.items()}
    ours |= {"faults": len(play.happened), "skipped_faults": len(play.skipped)}
    ours |= {"person_helped": helped, "resent": resent}
    ours |= {"seconds": seconds, "drain_worst_seconds": max(processes.drains, default=0.0)}
    ours |= fault_recovery.figures(world, play.happened)
    pace = world.pace
    settings = house.settings | {
        "leads": args.leads,
        "minutes": args.minutes,
        "seed": args.seed,
        "kills": kills,
        "characters": ", ".join(world.characters),
        "lease": pace.lease,
        "call_deadline": pace.deadline,
        "range_size": pace.range_size,
        "batch": pace.batch,
        "latency": pace.latency,
    }
    aims = {"kill_worker_known_worst_seconds": LEASE + WITHIN, "drain_worst_seconds": GRACE}
    return Answer(
        settings,
        ours,
        rivals={},
        reach={name: reach(most, ours[name]) for name, most in aims.items() if name in ours},
        broken=tuple(broken),
    )


def _bound(play: Play, character: Character) -> int:
    """How many leads may be unknown at most: in flight when something happened, or lost on purpose by the sink."""
    query = "SELECT id FROM handoff WHERE pool_id = %s AND id = ANY(%s)"
    in_flight = play.world.own(play.in_flight)
    ids = [int(str(row[0])) for row in play.world.ask(query, character.pool_id, list(in_flight))]
    unsure = character.sink.stats()["calls_unsure"]
    return sum(in_flight[handoff_id] for handoff_id in ids) + unsure * play.world.pace.batch


def _broken(character: Character, verdict: Verdict, bound: int) -> Sequence[str]:
    """The promises that did not hold, with a few leads each."""
    allowed = {
        "lost": 0,
        "doubled": 0,
        "miscounted": 0,
        "strangers": 0,
        "unknown": 0 if character.name == "keys" else bound,
    }
    if character.told:
        allowed["unknown_accepted"] = 0
    found = []
    for name, most in allowed.items():
        leads = getattr(verdict, name)
        if leads > most:
            examples = "; ".join(verdict.examples.get(name, []))
            found.append(f"{leads} {name}, at most {most}" + (f": {examples}" if examples else ""))
    logged, accepted = verdict.accepted, character.sink.stats()["accepted"]
    if logged != accepted:
        found.append(f"the sink's log has {logged} acceptances and its counter {accepted}")
    return found
