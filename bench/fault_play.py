"""Playing a schedule of faults against a world, and noting when each happened and what was in flight then."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.flows import steer
from bench.fault_schedule import KINDS, Fault
from bench.fault_world import CAMPAIGNS, Character, Held, World
from bench.harness import say

TICK = 0.1  # seconds between looks at what is due and at who has ended
LOOK = 0.3  # seconds between looks at what is in flight
GAP = 2.0  # seconds: when looks are further apart, the machine is busy with something else, or the book is
SLOW = 0.45  # of the deadline: slower than ever, and still in time on a busy machine
SOON = 0.1  # seconds until what a killed process had sent to the database has committed there
STILL_HANDED = "SELECT id FROM handoff WHERE state = 'handed' AND id = ANY(%s)"

# What a provider's fault changes, the share of calls or emails put in for None.
BEHAVIOURS: dict[str, dict[str, float | str | None]] = {
    "provider_down": {"down": None},
    "provider_cuts": {"unsure": None, "unsure_how": "cut"},
    "provider_errors": {"unsure": None, "unsure_how": "error"},
    "provider_silent": {"unsure": None, "unsure_how": "silence"},
    "provider_refuses": {"refuse": None},
    "provider_defers": {"defer": None},
}
HEALTHY: dict[str, float | str] = {"down": 0.0, "unsure": 0.0, "refuse": 0.0, "defer": 0.0}


@dataclass(slots=True)
class Happening:
    """A fault as it took place. Times are in seconds since the epoch: the database's clock is this machine's."""

    fault: Fault
    began: float
    ended: float | None = None  # when it was over: restarted, thawed, answering well again
    standing: set[int] = field(default_factory=set)  # hand-offs in flight then whose end is awaited
    settled: float | None = None  # when the last of them had an outcome, if only `unknown`
    web: float | None = None  # when the web answered again


@dataclass(slots=True)
class Play:
    """The stage's book: what is due when, what has happened, what was in flight."""

    world: World
    began: float = 0.0  # time.monotonic() of the launch
    happened: list[Happening] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    in_flight: dict[int, Held] = field(default_factory=dict)  # what a fault may have made unknown
    gaps: list[tuple[float, float]] = field(default_factory=list)  # epoch seconds between which nobody looked
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)
    _looked: float = 0.0
    _ticked: float = field(default_factory=time.time)

    def run(self, faults: Sequence[Fault], minutes: float) -> None:
        """Launches, lets every fault happen at its time, and comes back when all are over."""
        self.began = time.monotonic()
        span = minutes * 60
        for name, character in self.world.characters.items():
            for kind, (_, share) in CAMPAIGNS.items():
                self._at(share * span, lambda name=name, kind=kind: self._launch(name, kind))
            self._at(0.62 * span, lambda character=character: self._cancel(character))
        for fault in faults:
            self._at(fault.at, lambda fault=fault: self._begin(fault))
        while self._due or time.monotonic() - self.began < span:
            if self._due and self._due[0][0] <= time.monotonic() - self.began:
                heapq.heappop(self._due)[2]()
            else:
                self.tick()
                time.sleep(TICK)
        for character in self.world.characters.values():
            self._behave(character, **HEALTHY, latency=self.world.pace.latency)

    def tick(self) -> None:
        """Starts again who has ended; notes what has recovered."""
        self.world.processes.look_after()
        before, self._ticked = self._ticked, time.time()
        if self._ticked - before > GAP:
            self.gaps.append((before, self._ticked))
        if time.monotonic() - self._looked >= LOOK:
            self.look()

    def look(self) -> None:
        """Notes what has recovered, now."""
        self._looked = time.monotonic()
        awaited = [each for each in self.happened if each.standing]
        if awaited:
            ids = sorted(set().union(*(each.standing for each in awaited)))
            still = {row[0] for row in self.world.ask(STILL_HANDED, ids)}
            for each in awaited:
                each.standing &= still  # type: ignore[arg-type]
                each.settled = None if each.standing else time.time()
        waiting = [each for each in self.happened if each.fault.kind == "kill_web" and each.web is None]
        if waiting and self.world.web_answers():
            for each in waiting:
                each.web = time.time()

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (seconds, next(self._number), act))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(time.monotonic() - self.began + seconds, act)

    def _launch(self, name: str, kind: str) -> None:
        campaign_id = self.world.launch(name, kind)
        say(f"{self._now()} campaign {campaign_id} launched: {name}, {kind}")

    def _cancel(self, character: Character) -> None:
        done = self.world.steer(steer.cancel, character.campaigns["cancelled"])
        say(f"{self._now()} campaign {character.campaigns['cancelled']} {'cancelled' if done else 'was over already'}")

    def _begin(self, fault: Fault) -> None:
        say(f"{self._now()} {describe(fault)}")
        happening = Happening(fault, time.time())
        act = getattr(self, f"_{fault.kind}", None) or getattr(self, f"_{KINDS[fault.kind].group}")
        if act(fault, happening) is False:
            self.skipped.append(fault.kind)
            return
        self.happened.append(happening)

    def _kill(self, fault: Fault, happening: Happening) -> None:
        name = _victim(fault)
        pids = self.world.processes.pids(name)
        self.world.processes.kill(name, whole=fault.whole or name != f"worker{fault.worker}")
        happening.ended = happening.began
        self._await(happening, pids if name == f"worker{fault.worker}" else [])

    def _stop_worker(self, fault: Fault, happening: Happening) -> bool:
        name = _victim(fault)
        pids = self.world.processes.pids(name)
        frozen = self.world.processes.freeze(name)
        if frozen is None:
            return False
        self._await(happening, pids)

        def thaw() -> None:
            self.world.processes.thaw(frozen)
            happening.ended = time.time()
            self._await(happening, pids)  # it may have been about to commit

        self._later(fault.seconds, thaw)
        return True

    def _drain_worker(self, fault: Fault, happening: Happening) -> bool:
        happening.ended = happening.began
        return self.world.processes.drain(_victim(fault), whole=fault.whole)

    def _flush_valkey(self, fault: Fault, happening: Happening) -> None:
        self.world.flush_valkey()
        happening.ended = happening.began

    def _restart_valkey(self, fault: Fault, happening: Happening) -> bool:
        valkey = self.world.house.stack.valkey
        if not valkey.child.running:
            return False
        valkey.kill()

        def start() -> None:
            valkey.start()
            happening.ended = time.time()

        self._later(fault.seconds, start)
        return True

    def _restart_postgres(self, fault: Fault, happening: Happening) -> None:
        self.world.restart_postgres()
        happening.ended = time.time()
        happening.standing |= self.world.standing()

    def _cut_backends(self, fault: Fault, happening: Happening) -> None:
        self.world.cut_backends()
        happening.ended = happening.began
        happening.standing |= self.world.standing()

    def _provider(self, fault: Fault, happening: Happening) -> None:
        character = self.world.characters[fault.character]
        changes = BEHAVIOURS[fault.kind]
        self._behave(character, **{name: fault.share if v is None else v for name, v in changes.items()})
        self._well_again(character, fault, happening, {name: 0.0 for name, v in changes.items() if v is None})

    def _provider_slow(self, fault: Fault, happening: Happening) -> None:
        character, pace = self.world.characters[fault.character], self.world.pace
        self._behave(character, latency=SLOW * pace.deadline)
        self._well_again(character, fault, happening, {"latency": pace.latency})

    def _well_again(self, character: Character, fault: Fault, happening: Happening, well: dict[str, float]) -> None:
        def mend() -> None:
            self._behave(character, **well)
            happening.ended = time.time()

        self._later(fault.seconds, mend)

    def _pause(self, fault: Fault, happening: Happening) -> bool:
        """A person pauses the big campaign, and resumes it from another browser."""
        campaign_id = self.world.characters[fault.character].campaigns["big"]
        if not self.world.steer(steer.pause, campaign_id):
            return False

        def resume() -> None:
            self.world.steer(steer.resume, campaign_id)
            happening.ended = time.time()

        self._later(fault.seconds, resume)
        return True

    def _behave(self, character: Character, **changes: float | str) -> None:
        character.sink.behave(**changes)

    def _await(self, happening: Happening, pids: Sequence[int]) -> None:
        """What the worker with these processes has in flight may become unknown, and nothing else by this fault."""
        time.sleep(SOON)
        held = self.world.held_by(pids)
        self.in_flight |= held
        happening.standing |= held.keys()

    def _now(self) -> str:
        return f"{time.monotonic() - self.began:6.1f} s "


def _victim(fault: Fault) -> str:
    return {"kill_clock": "clock", "kill_web": "web"}.get(fault.kind, f"worker{fault.worker}")


def describe(fault: Fault) -> str:
    """A fault in a line."""
    group = KINDS[fault.kind].group
    where = {"provider": fault.character, "person": fault.character}.get(group, _victim(fault))
    share = f", {fault.share:.0%}" if fault.share else ""
    lasts = f" for {fault.seconds:.1f} s" if fault.seconds else ""
    return f"{fault.kind}{'' if group == 'server' else f' ({where}{share})'}{lasts}"
