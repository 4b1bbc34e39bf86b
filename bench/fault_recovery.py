"""How long it took after each fault until emails went again, and until what it had met was accounted for.

Two promises are about time: after a kill -9 every call in flight is accounted for within a lease and 15 s, and after
Redis's return something that is due goes within 15 s, where anything is. Nobody can keep time who is hit again
meanwhile, nor on a machine that is busy with something else. So a promise is broken only where it took longer than that
and all of the following: what other faults lasted of that time (`HINDERS`), what nobody looked of it, and the 15 s over
again for each time that the processes took longer than `STARTS_IN` to come up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final

from bench.fault_play import Happening, Play
from bench.fault_schedule import KINDS
from bench.fault_world import World
from bench.harness import Figures
from workers.turn import LEASE as CLOCK_LEASE

SENT = """
SELECT campaign_id, pool_id, extract(epoch FROM handed_at)::float8, extract(epoch FROM settled_at)::float8
  FROM handoff
 WHERE strpos(outcomes, 's') > 0
"""
DUE = """
SELECT handoff.pool_id, extract(epoch FROM outbox.due_at)::float8, extract(epoch FROM handoff.handed_at)::float8
  FROM handoff
  JOIN outbox
    ON outbox.id = handoff.range_id
"""
Sent = tuple[int, int, float, float]  # campaign, pool, handed over at, settled at
Span = tuple[float, float]
WITHIN: Final = 15.0  # seconds of the promises, beyond the lease where one must run out
STARTS_IN: Final = 6.0  # seconds that all processes take to come up on two cores that nobody else wants
STARTS: Final = 10.0  # seconds until a process that was killed or drained is at work again
TURN: Final = 5.0  # seconds until the rescuer comes by again
BROKEN_OFF: Final = 120.0  # seconds that a pool is left alone, at its third time
ITS_OWN: Final = ("provider", "person")
# What stands in the way of each promise besides: the fault itself, and so many seconds after its end.
HINDERS: Final[Mapping[str, Mapping[str, float]]] = {
    "known": {
        "kill_clock": CLOCK_LEASE + STARTS,
        "restart_postgres": TURN + STARTS,
        "cut_backends": TURN,
        "stop_worker": 0.0,  # amid a transaction it keeps its locks
    },
    "next": {
        "kill_clock": CLOCK_LEASE + STARTS,
        "restart_postgres": TURN + STARTS,
        "cut_backends": TURN,
        "stop_worker": 0.0,
        "kill_worker": STARTS,
        "drain_worker": STARTS,
        "pause": 0.0,
        **{kind: BROKEN_OFF for kind, each in KINDS.items() if each.group == "provider"},
    },
}


def figures(world: World, happened: Sequence[Happening]) -> Figures:
    """By kind of fault: how many, the median and the worst recovery in seconds (none where nothing was left)."""
    rows = _sent(world)
    found: Figures = {}
    for kind in KINDS:
        of_kind = [each for each in happened if each.fault.kind == kind]
        if not of_kind:
            continue
        found[kind] = len(of_kind)
        found |= _spread(f"{kind}_next", [seconds for each in of_kind if (seconds := _next(world, each, rows))])
        found |= _spread(f"{kind}_known", [each.settled - each.began for each in of_kind if each.settled])
        found |= _spread(f"{kind}_web", [each.web - each.began for each in of_kind if each.web])
    return found


def broken(play: Play, lease: float) -> list[str]:
    """The promises of time that did not hold, a sentence each."""
    world, found = play.world, []
    due = [(int(str(a)), float(str(b)), float(str(c))) for a, b, c in world.ask(DUE)]
    within = WITHIN * max(1.0, world.started_in / STARTS_IN)
    for each in play.happened:
        kind = each.fault.kind
        if kind == "kill_worker":
            if each.standing:
                found.append(f"{len(each.standing)} calls in flight at a kill are not accounted for at all")
            elif each.settled:
                span = each.began, each.settled
                found += _too_late(f"{kind} known", span, lease + within, hindered(play, each, span, "known"))
        elif kind in ("restart_valkey", "flush_valkey"):
            waits = _waits(play, each, due, within)
            if waits and min(waits) > within:
                found.append(f"{kind}: nothing that was due went for {min(waits):.1f} s, at most {within:.1f} s")
    return found


def _waits(play: Play, this: Happening, due: Sequence[tuple[int, float, float]], within: float) -> list[float]:
    """Seconds that calls waited after a fault from when they were due, less what else stood in their way."""
    since = this.ended or this.began
    spans = [(pool, (max(at, since), handed)) for pool, at, handed in due if handed > since and at < since + within]
    return [span[1] - span[0] - hindered(play, this, span, "next", pool) for pool, span in spans]


def _too_late(what: str, span: Span, within: float, hindrance: float) -> list[str]:
    took = span[1] - span[0]
    if took <= within + hindrance:
        return []
    return [f"{what}: {took:.1f} s, at most {within:.1f} s, and {hindrance:.1f} s for what else happened"]


def hindered(play: Play, this: Happening, span: Span, promise: str, pool_id: int = 0) -> float:
    """Seconds of a span in which other faults stood in the way of a promise, or nobody looked.

    What happens to one provider, or to a campaign that goes through it, holds up no other pool.
    """
    after, pools = HINDERS[promise], {name: each.pool_id for name, each in play.world.characters.items()}
    others = [
        (each.began, (each.ended or each.began) + after[each.fault.kind])
        for each in play.happened
        if each is not this
        and each.fault.kind in after
        and (KINDS[each.fault.kind].group not in ITS_OWN or pools.get(each.fault.character) == pool_id)
    ]
    return covered(span, [*others, *play.gaps])


def covered(span: Span, by: Iterable[Span]) -> float:
    """Seconds of a span that any of these cover, each counted once."""
    total, until = 0.0, span[0]
    for begins, ends in sorted(by):
        begins, ends = max(begins, until), min(ends, span[1])
        if begins < ends:
            total, until = total + ends - begins, ends
    return total


def _sent(world: World) -> list[Sent]:
    return [(int(str(a)), int(str(b)), float(str(c)), float(str(d))) for a, b, c, d in world.ask(SENT)]


def _next(world: World, happening: Happening, rows: Sequence[Sent]) -> float | None:
    """Seconds from the fault, or its end, to the first email settled of those handed over after it.

    A provider's fault is measured on what goes through that provider, a pause on that campaign.
    """
    fault = happening.fault
    group = KINDS[fault.kind].group
    lasted = group in ("provider", "person") or fault.kind == "restart_valkey"
    since = (happening.ended if lasted else happening.began) or happening.began
    character = world.characters.get(fault.character)
    settled = [
        at
        for campaign_id, pool_id, handed, at in rows
        if handed > since
        and (group != "provider" or character is None or pool_id == character.pool_id)
        and (group != "person" or character is None or campaign_id == character.campaigns["big"])
    ]
    return min(settled) - since if settled else None


def _spread(name: str, seconds: Sequence[float]) -> Figures:
    if not seconds:
        return {}
    return {f"{name}_median_seconds": median(seconds), f"{name}_worst_seconds": max(seconds)}
