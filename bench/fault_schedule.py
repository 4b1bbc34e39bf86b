"""What goes wrong, and when: a schedule of faults, drawn from a seed, so that the same seed plays the same again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Group = Literal["kill", "process", "server", "provider", "person"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `seconds` are the bounds of how long it lasts; (0, 0) where it has no length of its own."""

    group: Group
    seconds: tuple[float, float] = (0.0, 0.0)
    weight: float = 1.0  # how often it is drawn, beyond the once that every kind is played


# A lease is counted in leases; everything else in seconds.
KINDS: Final[dict[str, Kind]] = {
    "kill_worker": Kind("kill", weight=7),
    "kill_clock": Kind("kill", weight=1.5),
    "kill_web": Kind("kill", weight=1.5),
    "stop_worker": Kind("process", (1.3, 1.8), weight=2),  # leases: it wakes when its range is another's
    "drain_worker": Kind("process", weight=2),
    "flush_valkey": Kind("server"),
    "restart_valkey": Kind("server", (0.5, 4.0)),  # killed with -9, away for so long
    "restart_postgres": Kind("server", weight=1.5),
    "cut_backends": Kind("server"),
    "provider_down": Kind("provider", (2.0, 5.0)),
    "provider_cuts": Kind("provider", (2.0, 4.0)),  # accepted, then the connection is cut
    "provider_errors": Kind("provider", (2.0, 4.0)),  # accepted, then answered 500
    "provider_silent": Kind("provider", (2.0, 4.0)),  # accepted, then never answered
    "provider_slow": Kind("provider", (3.0, 6.0)),
    "provider_refuses": Kind("provider", (2.0, 4.0)),
    "provider_defers": Kind("provider", (0.5, 1.0), weight=0.1),
    "pause": Kind("person", (1.0, 4.0)),
}
# An email that is put off waits for a minute, then five: shorter runs would end before it is tried again.
DEFERS_FROM: Final = 2.0  # minutes
# Shares of calls (or emails) that a provider's fault meets. All of them at once is a provider that is left alone
# for half a minute, so most are fewer.
SHARES: Final[dict[str, Sequence[float]]] = {
    "provider_down": (1.0, 1.0, 0.5),
    "provider_cuts": (0.3, 0.3, 0.3, 1.0),
    "provider_errors": (0.3, 0.3, 0.3, 1.0),
    "provider_silent": (0.2, 0.3),
    "provider_refuses": (0.05, 0.2),
    "provider_defers": (0.02, 0.05),
}
WORKERS: Final = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `at` seconds after the launch, for `seconds`.

    `worker` is which one; `character` is which provider or whose campaign; `whole`: all of a worker's processes at
    once get the signal, as on a platform that stops a container, else only one of them; `share` is of calls or emails.
    """

    at: float
    kind: str
    seconds: float
    worker: int
    character: str
    whole: bool
    share: float


def plan(seed: int, minutes: float, kills: int, lease: float, characters: Sequence[str]) -> list[Fault]:
    """A schedule in order of time: `kills` kill -9, half as many other faults, and every kind at least once."""
    dice = random.Random(seed)
    killing = [name for name, kind in KINDS.items() if kind.group == "kill"]
    others = [name for name in KINDS if name not in killing and (name != "provider_defers" or minutes >= DEFERS_FROM)]
    names = _draw(dice, killing, kills) + _draw(dice, others, kills // 2)
    span = minutes * 60
    faults = [_fault(dice, name, span, lease, characters) for name in names]
    return sorted(faults, key=lambda fault: fault.at)


def _draw(dice: random.Random, names: Sequence[str], wanted: int) -> list[str]:
    """Each once, the rest by weight."""
    weights = [KINDS[name].weight for name in names]
    return [*names, *dice.choices(names, weights, k=max(0, wanted - len(names)))]


def _fault(dice: random.Random, name: str, span: float, lease: float, characters: Sequence[str]) -> Fault:
    kind = KINDS[name]
    # Emails put off early come back while there still are faults.
    latest = 0.3 if name == "provider_defers" else 0.97
    return Fault(
        at=round(dice.uniform(0.03, latest) * span, 2),
        kind=name,
        seconds=round(dice.uniform(*kind.seconds) * (lease if name == "stop_worker" else 1.0), 2),
        worker=dice.randrange(WORKERS),
        character=dice.choice(characters),
        whole=dice.random() < 0.7,
        share=dice.choice(SHARES.get(name, (0.0,))),
    )
