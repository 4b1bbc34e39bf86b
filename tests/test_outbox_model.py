"""Any order of steps, crashes, faults and people: every lead has exactly one outcome, and nobody is mailed twice.

Hypothesis draws the order; every step runs the product's own flows on a real database. OUTBOX_EXAMPLES=2000 looks
further, in other orders each time. OUTBOX_SHRINK=1 makes a failing order shorter, which may take five minutes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.config import Settings
from app.errors import Conflict
from app.flows import choose_winner, finish, look_up, pools, repeat, rescue, steer, unknowns
from app.flows.resolve import Evidence
from app.mail import Kind
from app.models import message, pool
from app.models.event import Fact, Source, append
from app.models.limit import Limit
from tests import moves
from tests.outbox_model import DAY, LEADS, House
from tests.sending_world import heard_since
from tests.stranger import WHOLE, Mood

MOODS = st.lists(
    st.builds(Mood, st.text("ssssuvrdx", min_size=1, max_size=2), st.sampled_from(("", "", "", *WHOLE))),
    min_size=1,
    max_size=2,
)
WORKERS = st.sampled_from([0, 1])
FAIR = st.lists(
    st.builds(Mood, st.text("sssuvrdx", min_size=1, max_size=2), st.sampled_from(("", "lost"))), min_size=1, max_size=2
)
LIMITS = st.one_of(
    st.just([]),
    st.lists(
        st.builds(
            Limit,
            st.sampled_from(("", "mail0.example.com", "mail1.example.com")),
            st.sampled_from((None, 0.001, 1000.0)),
            st.integers(1, 3),
            st.sampled_from((None, None, 2, 100)),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda each: each.receiver,
    ),
)
ANY = st.integers(0, 1000)  # which of those that there are then


class Outbox(RuleBasedStateMachine):
    """One campaign to seven leads in two ranges; two workers."""

    house: House

    @initialize(keys=st.booleans(), second=st.booleans(), tested=st.booleans(), pages=st.integers(0, 2), moods=FAIR)
    def launch(self, keys: bool, second: bool, tested: bool, pages: int, moods: list[Mood]) -> None:
        """So many pages are sent already: from two on the campaign is handed over, most often with unknowns."""
        self.house.furnish(DAY if keys else 0.0, second, tested)
        for _ in range(pages):
            self.a_worker_sends_a_page(0, moods)

    @rule(number=WORKERS, moods=MOODS)
    def a_worker_takes_a_step(self, number: int, moods: list[Mood]) -> None:
        self.house.provider.behave(moods)
        self.house.work(number)

    @rule(number=WORKERS, moods=MOODS, steps=st.integers(2, 5))
    def a_worker_takes_some_steps(self, number: int, moods: list[Mood], steps: int) -> None:
        self.house.provider.behave(moods)
        for _ in range(steps):
            self.house.work(number)

    @rule(number=WORKERS, moods=FAIR)
    def a_worker_sends_a_page(self, number: int, moods: list[Mood]) -> None:
        self.house.provider.behave(moods)
        for _ in range(5):
            self.house.work(number)
        finish.try_finish(self.house.workers[number], self.house.world.campaign_id)

    @rule(number=WORKERS, moods=MOODS)
    def a_worker_sleeps_right_before_the_socket(self, number: int, moods: list[Mood]) -> None:
        """Past every check: the one pause that no fence and no clock can see."""
        self.house.provider.behave(moods)
        self.house.work(number, awake=False)

    @rule(number=WORKERS, called=st.booleans(), moods=FAIR)
    def a_worker_is_stopped_amid_its_page(self, number: int, called: bool, moods: list[Mood]) -> None:
        """Before or after its calls, until its range is another's. It goes on with its next step."""
        house = self.house
        house.provider.behave(moods)
        for _ in range(3 + called):
            if house.hands[number] is None or house.hands[number].stage < 2 + called:
                house.work(number)
        if house.hands[number] is not None:
            house.end_lease(house.hands[number].lease.range_id)
            rescue.rescue_expired(house.clock)

    @rule(number=WORKERS)
    def a_worker_is_killed(self, number: int) -> None:
        self.house.hands[number] = None

    @precondition(lambda self: self.house.now.leased)
    @rule(which=ANY)
    def a_lease_runs_out(self, which: int) -> None:
        leased = self.house.ask("SELECT id FROM outbox WHERE state = 'leased' ORDER BY id")
        if leased:
            self.house.end_lease(leased[which % len(leased)][0])

    @precondition(lambda self: self.house.now.leased)
    @rule()
    def the_rescuer_comes(self) -> None:
        rescue.rescue_expired(self.house.clock)

    @rule(number=WORKERS, deaths=st.integers(1, 3))
    def a_range_kills_its_workers(self, number: int, deaths: int) -> None:
        house = self.house
        for _ in range(deaths):
            house.hands[number] = None
            house.work(number)
            held = house.hands[number]
            if held is not None:
                house.end_lease(held.lease.range_id)
            house.hands[number] = None
            rescue.rescue_expired(house.clock)
            house.make_due()

    @precondition(lambda self: self.house.now.waiting)
    @rule()
    def what_waits_is_due(self) -> None:
        self.house.make_due()

    @precondition(lambda self: self.house.now.repeating)
    @rule(moods=MOODS, number=WORKERS)
    def lost_calls_are_made_again(self, moods: list[Mood], number: int) -> None:
        self.house.provider.behave(moods)
        self.house.make_due()
        repeat.repeat_due(self.house.workers[number])

    @precondition(lambda self: self.house.now.unknown)
    @rule()
    def the_provider_is_asked_what_it_took(self) -> None:
        self.house.run("UPDATE handoff SET look_up_at = now() WHERE look_up_at IS NOT NULL")
        look_up.look_up_due(self.house.clock)

    @precondition(lambda self: self.house.now.handed_over)
    @rule(which=st.lists(ANY, min_size=1, max_size=3), dropped=st.booleans())
    def a_webhook_speaks(self, which: list[int], dropped: bool) -> None:
        house = self.house
        taken = [(call, lead) for lead, calls in sorted(house.provider.taken.items()) for call in calls]
        said = [taken[each % len(taken)] for each in which] if taken else []
        told = [
            Evidence(call, lead, Kind.REFUSED if dropped and lead in house.provider.dropped else Kind.SENT)
            for call, lead in said
        ]
        house.use_evidence(told)

    @precondition(lambda self: self.house.now.handed_over)
    @rule(which=ANY, lead_id=st.integers(1, LEADS + 1), pool=st.booleans())
    def a_webhook_speaks_of_what_is_not_its_own(self, which: int, lead_id: int, pool: bool) -> None:
        """Of another pool's email, or of a lead that the call had not: it changes nothing."""
        calls = self.house.ask("SELECT id, lead_ids FROM handoff ORDER BY id")
        if not calls:
            return
        handoff_id, lead_ids = calls[which % len(calls)]
        if pool or lead_id not in lead_ids:
            assert self.house.use_evidence([Evidence(handoff_id, lead_id, Kind.SENT)], wrong_pool=pool) == 0

    @rule(lead_id=st.integers(1, LEADS), erase=st.booleans())
    def a_lead_is_suppressed(self, lead_id: int, erase: bool) -> None:
        if erase:
            self.house.run("DELETE FROM lead WHERE id = :id", id=lead_id)
        else:
            self.house.run(
                "INSERT INTO suppression (organisation_id, email, reason)"
                " SELECT organisation_id, email, 'manual' FROM lead WHERE id = :id ON CONFLICT DO NOTHING",
                id=lead_id,
            )
        self.house.suppressed.add(lead_id)

    @rule(act=st.sampled_from([steer.pause, *[steer.resume] * 3]))
    def a_person_steers(self, act: Callable[..., object]) -> None:
        with suppress(Conflict):
            act(self.house.clock, self.house.world.organisation_id, self.house.world.campaign_id)

    @rule(which=ANY)
    def one_is_called_back(self, which: int) -> None:
        """As messages are: out of a range that nobody has in hand, whoever certainly has not left."""
        standing = "SELECT id, unnest(lead_ids) FROM outbox WHERE state NOT IN ('done', 'cancelled') ORDER BY 1, 2"
        waiting, world = self.house.ask(standing), self.house.world
        if not waiting:
            return
        range_id, lead_id = waiting[which % len(waiting)]
        with self.house.clock.db.begin() as conn:
            left = message.leave_range(conn, range_id, lead_id)
            if left is not None:
                source = Source(world.organisation_id, world.user_id, world.campaign_id, world.pool_id, run=left.run)
                append(conn, source, [Fact(lead_id, 0, Kind.CANCELLED)])

    @precondition(lambda self: self.house.now.handed_over)
    @rule(sure=st.integers(0, 3))
    def a_person_cancels(self, sure: int) -> None:
        if sure == 3:  # most do not: little happens afterwards
            with suppress(Conflict):
                steer.cancel(self.house.clock, self.house.world.organisation_id, self.house.world.campaign_id)

    @precondition(lambda self: self.house.now.unknown)
    @rule(act=st.sampled_from([unknowns.send_again, unknowns.leave]), which=ANY, one=st.booleans())
    def a_person_decides_on_unknowns(self, act: Callable[..., object], which: int, one: bool) -> None:
        calls = [row[0] for row in self.house.ask("SELECT id FROM handoff WHERE state = 'unknown' ORDER BY id")]
        chosen = [calls[which % len(calls)]] if one and calls else None
        with suppress(Conflict):
            act(self.house.clock, self.house.world.organisation_id, self.house.world.campaign_id, chosen)
        new = self.house.note_asked()
        assert act is unknowns.send_again or not new

    @precondition(lambda self: self.house.now.failed)
    @rule()
    def a_person_sends_to_the_failed_again(self) -> None:
        with suppress(Conflict):
            unknowns.send_failed_again(self.house.clock, self.house.world.organisation_id, self.house.world.campaign_id)
        self.house.note_asked()

    @precondition(lambda self: self.house.now.unknown)
    @rule(policy=st.sampled_from(["hold", "resend", "leave"]), arrive=st.booleans(), heard=st.booleans())
    def the_hold_is_over_and_the_policy_decides(self, policy: str, arrive: bool, heard: bool) -> None:
        house = self.house
        house.run("UPDATE campaign SET unknown_policy = :policy", policy=policy)
        house.run("UPDATE handoff SET handed_at = handed_at - interval '1 hour'")
        house.run("DELETE FROM pool_webhook")
        house.run("DELETE FROM pool_heard")
        if heard:
            for (pool_id,) in house.ask("SELECT id FROM pool"):
                heard_since(house.clock, pool_id, 86_400)
        if arrive:
            house.run(
                "INSERT INTO pool_webhook (pool_id, seen_at, handed_at, lags) SELECT id, now(), now(), '{1}' FROM pool"
            )
        resent = {row[0] for row in house.ask("SELECT unnest(lead_ids) FROM outbox WHERE resent AND run = 1")}
        second = {row[0] for row in house.ask("SELECT unnest(lead_ids) FROM outbox WHERE run > 1")}
        unknowns.apply_policies(house.clock)
        new = house.note_asked()
        assert not new or (policy == "resend" and arrive and heard), "the policy has sent again, and must not"
        assert not set(new) & (resent - second), "the policy has sent to somebody a third time"

    @precondition(lambda self: self.house.now.put_off)
    @rule()
    def a_day_passes_for_what_was_put_off(self) -> None:
        self.house.run("UPDATE outbox SET deferred_since = deferred_since - interval '1 day'")

    @precondition(lambda self: self.house.now.repeating)
    @rule()
    def keys_end(self) -> None:
        """So much time has passed that the provider knows none of the keys any more."""
        self.house.run(
            "UPDATE handoff SET handed_at = handed_at - interval '1 day',"
            " repeat_until = repeat_until - interval '1 day'"
        )
        self.house.provider.kept.clear()

    @precondition(lambda self: self.house.now.handed_over)
    @rule()
    def the_pool_gets_another_account(self) -> None:
        self.house.open_account()

    @precondition(lambda self: self.house.now.handed_over)
    @rule()
    def what_a_call_was_made_of_changes(self) -> None:
        self.house.run("UPDATE sender SET name = name || '!'")
        self.house.run('UPDATE lead SET attributes = attributes || \'{"first_name": "Other"}\'')

    @precondition(lambda self: self.house.now.waiting)
    @rule(which=ANY)
    def a_person_lets_a_pool_send(self, which: int) -> None:
        found = self.house.ask("SELECT id FROM pool ORDER BY id")
        pools.resume_pool(self.house.clock, self.house.world.organisation_id, found[which % len(found)][0])

    @rule(which=ANY)
    def a_person_pauses_a_pool(self, which: int) -> None:
        """There is another only where the sender has two: else all of it would wait most of the time."""
        if self.house.now.two_pools:
            found = self.house.ask("SELECT id FROM pool ORDER BY id")
            with self.house.clock.db.begin() as conn:
                pool.pause(conn, found[which % len(found)][0], "by a person")

    @precondition(lambda self: self.house.now.tested)
    @rule()
    def the_clock_chooses_the_winner(self) -> None:
        self.house.choose()

    @precondition(lambda self: self.house.now.tested)
    @rule(winner=st.integers(0, 1))
    def a_person_chooses_the_winner(self, winner: int) -> None:
        world = self.house.world
        with suppress(Conflict):
            choose_winner.choose(self.house.clock, world.organisation_id, world.user_id, world.campaign_id, winner)

    @rule(limits=LIMITS)
    def a_person_sets_limits(self, limits: list[Limit]) -> None:
        self.house.limit(limits)

    @rule(day=st.booleans())
    def the_clock_finishes(self, day: bool) -> None:
        if day:
            self.house.run("UPDATE campaign SET updated_at = updated_at - interval '25 hours'")
        steer.close_cancelled(self.house.clock)
        finish.finish_due(self.house.clock)

    @invariant()
    def everything_adds_up(self) -> None:
        self.sound = False
        self.house.check()
        self.sound = True

    def teardown(self) -> None:
        if getattr(self, "sound", False):
            event(f"campaign {self.house.state}")
            self.house.drain()


def look_further() -> settings:
    """The same orders in every run of the suite, so that it is stable; others, and more, where they are asked for."""
    examples = os.environ.get("OUTBOX_EXAMPLES")
    return settings(
        max_examples=int(examples or 50),
        stateful_step_count=30,
        derandomize=examples is None,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if "OUTBOX_SHRINK" in os.environ else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(3600)
def test_in_any_order_of_faults_every_lead_has_one_outcome_and_nobody_is_mailed_twice(settings: Settings) -> None:
    logging.disable(logging.ERROR)  # thousands of lines about what is meant to happen
    house = House(settings)

    class Here(Outbox):
        pass

    Here.house = house
    try:
        run_state_machine_as_test(Here, settings=look_further())
        with house.clock.db.begin() as conn:
            seen = moves.moves_seen(conn)
    finally:
        house.close()
        logging.disable(logging.NOTSET)

    assert len(seen) > 8  # what no table has would have failed its step; chance decides between campaigns and pools
