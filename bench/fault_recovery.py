"""How long it took after each fault until emails went again, and until what it had met was accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.fault_play import Happening
from bench.fault_schedule import KINDS
from bench.fault_world import World
from bench.harness import Figures

SENT = """
SELECT campaign_id, pool_id, extract(epoch FROM handed_at)::float8, extract(epoch FROM settled_at)::float8
  FROM handoff
 WHERE strpos(outcomes, 's') > 0
"""
Sent = tuple[int, int, float, float]  # campaign, pool, handed over at, settled at


def figures(world: World, happened: Sequence[Happening]) -> Figures:
    """By kind of fault: how many, the median and the worst recovery in seconds (none where nothing was left)."""
    rows = [(int(str(a)), int(str(b)), float(str(c)), float(str(d))) for a, b, c, d in world.ask(SENT)]
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
