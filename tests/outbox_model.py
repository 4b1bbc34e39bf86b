"""The model of the outbox: two workers, a rescuer, a clock, people and a provider, in any order, on the real SQL.

`House` is what the model stands in: real runtimes on a real database, a provider that knows the truth, and every check
that must hold after every step. tests/test_outbox_model.py has the steps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from sqlalchemy import text

from app.config import Settings
from app.errors import DayUsedUp
from app.flows import choose_winner, finish, launch, pace, reconcile, repeat, rescue, resolve, send_range, settle, steer
from app.flows.answers import Answer
from app.flows.compose import Composer
from app.flows.resolve import Evidence
from app.flows.send_range import Page
from app.mail import OUTCOMES, Letter
from app.models import campaign, ledger, limit, outbox, unknown, variant
from app.models.event import Fact
from app.models.handoff import HandOff
from app.models.limit import Limit
from app.models.outbox import Lease
from app.runtime import Runtime
from app.uptime import uptime
from tests import world
from tests.moves import watch_moves
from tests.outbox_variants import add_variant, check_variants
from tests.stranger import Mood, Stranger
from tests.world import World

LEADS, RANGE, BATCH = 7, 4, 2  # two ranges, the larger with two calls
DAY = 86400.0

OUTCOMES_OF_LEADS = """
SELECT lead_id, jsonb_object_agg(kind, weight) AS kinds
  FROM (SELECT lead_id, kind, sum(weight) AS weight FROM event WHERE kind = ANY(CAST(:kinds AS event_kind[]))
         GROUP BY lead_id, kind HAVING sum(weight) <> 0) AS summed
 GROUP BY lead_id
"""
LETTERS = """
SELECT handoff.id, run, each.lead_id, each.letter
  FROM handoff
 CROSS JOIN LATERAL unnest(lead_ids, string_to_array(outcomes, NULL)) AS each (lead_id, letter)
 WHERE state <> 'handed'
"""
NOT_DONE = """
SELECT id FROM outbox
 WHERE state = 'done' AND sent + refused + failed + skipped + cancelled + unknown + moved <> size
"""

NOW = """
SELECT (SELECT state FROM campaign) AS state,
       EXISTS (SELECT FROM outbox WHERE state = 'leased') AS leased,
       EXISTS (SELECT FROM outbox WHERE state = 'ready' AND due_at > now())
           OR EXISTS (SELECT FROM pool WHERE state = 'paused') AS waiting,
       (SELECT count(*) > 1 FROM pool) AS two_pools,
       EXISTS (SELECT FROM outbox WHERE deferred_since IS NOT NULL AND state = 'ready') AS put_off,
       EXISTS (SELECT FROM handoff) AS handed_over,
       EXISTS (SELECT FROM handoff WHERE unknown_since IS NOT NULL) AS unknown,
       EXISTS (SELECT FROM handoff WHERE repeat_at IS NOT NULL) AS repeating,
       EXISTS (SELECT FROM handoff WHERE outcomes ~ '[fl]') AS failed,
       EXISTS (SELECT FROM variant_test WHERE winner IS NULL) AS tested
"""


@dataclass(slots=True)
class Hand:
    """What a worker holds: a claimed range, and how far it has come with it."""

    lease: Lease
    page: Page | None = None
    letters: list[Letter] = field(default_factory=list)
    skipped: list[Fact] = field(default_factory=list)
    handoffs: list[HandOff] | None = None
    answers: list[Answer] | None = None
    begun: float = 0.0  # seconds of `uptime`

    @property
    def stage(self) -> int:
        """Steps taken since the claim: 1 loaded, 2 handed over, 3 called."""
        return sum(each is not None for each in (self.page, self.handoffs, self.answers))


class House:
    """One database, two workers and a clock; `furnish` makes it new."""

    def __init__(self, settings: Settings) -> None:
        small = replace(settings, range_size=RANGE, calls=1)  # one thread: calls are made in the order of hand-offs
        self.workers = [Runtime(small, name="worker", connections=2) for _ in range(2)]
        self.clock = Runtime(small, name="clock", connections=2)
        with self.clock.db.begin() as conn:
            watch_moves(conn)

    def close(self) -> None:
        for runtime in (*self.workers, self.clock):
            runtime.close()

    def furnish(self, idempotent_for: float, second: bool, tested: bool = False) -> None:
        """A new provider, and a campaign to seven leads that was just launched; perhaps with a second pool, or tested:
        some get another subject, and the rest waits for the better one.

        Both pools speak with the same stranger, who knows the truth of both: its moods break one or the other.
        """
        with self.clock.db.begin() as conn:
            conn.execute(text("TRUNCATE organisation, lead, handoff RESTART IDENTITY CASCADE"))
            conn.execute(text("DELETE FROM event"))
        self.world: World = world.build(
            self.clock.db, secret_key=self.clock.settings.secret_key, leads=LEADS, batch=BATCH
        )
        if second:
            self._add_second_pool()
        if tested:
            with self.clock.db.begin() as conn:
                add_variant(conn, self.world.organisation_id)
        self.provider = Stranger(idempotent_for)
        self.hands: list[Hand | None] = [None, None]
        self.asked: Counter[int] = Counter()  # how often somebody knowingly asked to send to a lead again
        self.suppressed: set[int] = set()
        self.now: Any = None  # what there is, as of the last check: steps without effect need not be tried
        for runtime in (*self.workers, self.clock):
            runtime._providers.clear()
        self.open_account()
        launch.launch(self.clock, self.world.organisation_id, self.world.campaign_id)

    def _add_second_pool(self) -> None:
        self.run(
            "INSERT INTO pool (organisation_id, name, provider, url, shown_url, batch)"
            " SELECT organisation_id, 'Second', provider, url, shown_url, batch FROM pool"
        )
        self.run("UPDATE sender SET second_pool_id = (SELECT max(id) FROM pool)")

    def open_account(self) -> None:
        """The pools speak with the provider; another account than before knows no key of it."""
        self.provider.kept.clear()
        for (pool_id,) in self.ask("SELECT id FROM pool"):
            url = self.clock.vault.encrypt("sink+http://127.0.0.1:9")
            self.run("UPDATE pool SET url = :url WHERE id = :id", url=url, id=pool_id)
            for runtime in (*self.workers, self.clock):
                runtime._providers[url] = self.provider

    def use_evidence(self, told: list[Evidence], *, wrong_pool: bool = False) -> int:
        """Webhooks speak, each in the name of the pool that its call went through, or of another; how many told."""
        pools = dict(map(tuple, self.ask("SELECT id, pool_id FROM handoff")))
        known = 0
        for pool_id in sorted({pools[each.handoff_id] for each in told}):
            with self.clock.db.begin() as conn:
                own = [each for each in told if pools[each.handoff_id] == pool_id]
                named = pool_id % 2 + 1 if wrong_pool else pool_id
                known += resolve.use_evidence(conn, named, own)
        return known

    # -- Asking and telling the database -------------------------------------------------------------------------------

    def run(self, statement: str, **values: Any) -> int:
        with self.clock.db.begin() as conn:
            return conn.execute(text(statement), values).rowcount

    def ask(self, statement: str, **values: Any) -> list[Any]:
        with self.clock.db.begin() as conn:
            return list(conn.execute(text(statement), values))

    @property
    def state(self) -> str:
        return str(self.ask("SELECT state FROM campaign")[0][0])

    # -- A worker's steps ----------------------------------------------------------------------------------------------

    def work(self, number: int, awake: bool = True) -> None:
        """A worker's next step; `awake`: what it waits for did not take longer than it may."""
        hand, runtime = self.hands[number], self.workers[number]
        if hand is None:
            lease = send_range.claim(runtime)
            if lease is not None and lease.limited:
                lease = pace.pace(runtime, lease)
            self.hands[number] = None if lease is None else Hand(lease)
        elif hand.page is None:
            hand.page = send_range.load(runtime, hand.lease)
            hand.letters, hand.skipped = send_range.compose_page(self._composer(number, hand.page), hand.page)
            written_to = {letter.lead_id for letter in hand.letters}
            assert not written_to & self.suppressed, "a suppressed lead is about to be mailed"
        elif hand.handoffs is None:
            self._hand_over(number, hand, hand.page)
        elif hand.answers is None:
            begun = hand.begun if awake else now()
            composer = self._composer(number, hand.page)
            hand.answers = send_range._call(runtime, hand.page, composer, hand.handoffs, hand.letters, begun)
        else:
            page = hand.page
            settle.settle_page(runtime, hand.lease, page.sending, page.source, page.leads, hand.answers)
            self.hands[number] = None

    def _hand_over(self, number: int, hand: Hand, page: Page) -> None:
        runtime, hand.begun = self.workers[number], now()
        try:
            hand.handoffs = send_range.hand_over(runtime, page, hand.letters, hand.skipped)
        except send_range.LeaseLost:
            self.hands[number] = None
            return
        except DayUsedUp:
            pace.give_back(runtime, hand.lease)
            self.hands[number] = None
            return
        if hand.handoffs is None:
            send_range._end_probe(runtime, page)
            self.hands[number] = None

    def _composer(self, number: int, page: Page) -> Composer:
        return send_range.composer_of(self.workers[number], page.sending)

    # -- Time ----------------------------------------------------------------------------------------------------------

    def end_lease(self, range_id: int) -> None:
        """So much time passes that this lease runs out; whoever holds the range has slept."""
        self.run(
            "UPDATE outbox SET lease_until = now() - interval '1 second' WHERE id = :id AND state = 'leased'",
            id=range_id,
        )
        for hand in self.hands:
            if hand is not None and hand.lease.range_id == range_id:
                hand.begun -= self.clock.settings.lease

    def make_due(self) -> None:
        """So much time passes that everything which waits for its time is due."""
        self.run("UPDATE outbox SET due_at = now() WHERE state = 'ready' AND due_at < 'infinity'")
        self.run("UPDATE pool SET resume_at = now() WHERE resume_at IS NOT NULL")
        self.run("UPDATE pool SET probe_until = now() - interval '1 second' WHERE probe_until IS NOT NULL")
        self.run("UPDATE handoff SET repeat_at = now() WHERE repeat_at IS NOT NULL")
        self.run("UPDATE pool_limit SET paced_until = NULL")

    def limit(self, limits: list[Limit]) -> None:
        """A person sets other limits on every pool; buckets are full then."""
        for (pool_id,) in self.ask("SELECT id FROM pool"):
            with self.clock.db.begin() as conn:
                limit.set_limits(conn, pool_id, limits)
            with redis.Redis.from_url(self.clock.settings.redis_url) as client:
                client.mset({f"millrace:pace:{pool_id}:{each.receiver}": "0" for each in limits} or {"none": 0})

    def choose(self) -> None:
        """The wait for the winner of a test is over, where it has begun."""
        with self.clock.db.begin() as conn:
            variant.note_sent(conn)
        self.run("UPDATE variant_test SET decide_at = now() WHERE decide_at IS NOT NULL")
        choose_winner.choose_due(self.clock)

    # -- What must hold ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """After every step."""
        kinds = self._outcomes()
        for lead_id, found in kinds.items():
            assert list(found.values()) == [1], f"lead {lead_id} has the outcomes {found}"
        letters = self.ask(LETTERS)
        for handoff_id, _, lead_id, letter in letters:
            sent = handoff_id in self.provider.taken[lead_id]
            assert letter != "s" or sent, f"lead {lead_id} counts as sent by call {handoff_id}, which took nothing"
            assert letter not in "dr" or not sent or lead_id in self.provider.dropped, f"lead {lead_id}: {letter}"
        again = Counter(lead_id for _, _, lead_id, letter in letters if letter == "a")
        assert again == self.asked, "somebody is sent to again, and nobody asked"
        for lead_id, calls in self.provider.taken.items():
            assert len(calls) <= 1 + self.asked[lead_id], f"lead {lead_id} was mailed twice: by calls {calls}"
        assert not self.provider.clashes, "a key came again with other bytes"
        with self.clock.db.begin() as conn:
            check_variants(conn, self.provider.calls)
        self._check_sums()
        self.now = self.ask(NOW)[0]

    def _check_sums(self) -> None:
        with self.clock.db.begin() as conn:
            progress = outbox.progress(conn, self.world.campaign_id)
            assert progress.adds_up and progress.audience == LEADS, progress
            standing = campaign.lock_state(conn, self.world.campaign_id)
            comparison = reconcile.compare(conn, self.world.campaign_id)
            assert not comparison.faults, comparison.faults
            differing = ledger.find_differences(conn, self.world.campaign_id, standing.launched_at, 10)
            assert not differing, differing
            assert not conn.execute(text(NOT_DONE)).all()
            alarms = set(conn.execute(text("SELECT kind FROM alert WHERE kind IN ('sums_differ', 'page_failed')")))
            assert not alarms, alarms
            assert not conn.execute(text("SELECT FROM pool_spent WHERE spent < 0")).all()
            if not self.asked:
                assert not conn.execute(text("SELECT FROM alert WHERE kind = 'doubled'")).all()

    def _outcomes(self) -> dict[int, dict[str, int]]:
        """lead -> what the record sums up to; those without an outcome are left out."""
        return dict(map(tuple, self.ask(OUTCOMES_OF_LEADS, kinds=[kind.value for kind in OUTCOMES])))

    def note_asked(self) -> Counter[int]:
        """Somebody has just asked to send again: from now on that is allowed. How often, by lead, in this step."""
        again = Counter(lead_id for _, _, lead_id, letter in self.ask(LETTERS) if letter == "a")
        new, self.asked = again - self.asked, again
        return new

    # -- The end -------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Every fault ends, and everything comes to its end."""
        self.provider.behave([Mood()])
        self.limit([])
        self.hands = [None, None]  # both workers were killed
        for _ in range(60):
            for (range_id,) in self.ask("SELECT id FROM outbox WHERE state = 'leased'"):
                self.end_lease(range_id)
            rescue.rescue_expired(self.clock)
            self.run("UPDATE pool SET state = 'active', resume_at = NULL WHERE resume_at IS NULL")
            if self.state == "paused" or self.ask("SELECT FROM outbox WHERE state = 'quarantined'"):
                self._resume()
            self.make_due()
            send_range.drain(self.workers[0])
            repeat.repeat_due(self.workers[0])
            steer.close_cancelled(self.clock)
            finish.finish_due(self.clock)
            self.choose()
            if self._is_over():
                break
        assert self._is_over(), f"it has not ended: {self.state}, {self.ask('SELECT id, state, due_at FROM outbox')}"
        self.check()
        self._check_end()

    def _resume(self) -> None:
        if self.state == "sending":
            steer.pause(self.clock, self.world.organisation_id, self.world.campaign_id)
        if self.state == "paused":
            steer.resume(self.clock, self.world.organisation_id, self.world.campaign_id)

    def _is_over(self) -> bool:
        state, ended = self.ask("SELECT state, finished_at IS NOT NULL FROM campaign")[0]
        repeating = self.ask("SELECT FROM handoff WHERE repeat_at IS NOT NULL")
        return state == "finished" or (state == "cancelled" and ended) or (state == "settling" and not repeating)

    def _check_end(self) -> None:
        """Everybody has an outcome, and it is true."""
        kinds = {lead_id: next(iter(found)) for lead_id, found in self._outcomes().items()}
        assert len(kinds) == LEADS, f"only {len(kinds)} leads have an outcome"
        with self.clock.db.begin() as conn:
            sums = unknown.count(conn, self.world.campaign_id)
        assert sums.leads == sum(kind == "unknown" for kind in kinds.values())
        assert (self.state == "settling") <= (sums.leads > 0), "nothing is unknown, and it settles"
        for lead_id, kind in kinds.items():
            calls = set(self.provider.taken[lead_id])
            if kind in ("refused", "skipped", "cancelled") and not self.asked[lead_id]:
                assert not calls or lead_id in self.provider.dropped, f"lead {lead_id} is {kind}, and was mailed"


def now() -> float:
    """The seconds that workers measure by."""
    return uptime()
