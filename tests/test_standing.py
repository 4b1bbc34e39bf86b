"""The standing of senders: who does harm is moved apart or paused, with the figures kept; others are not touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy import text

from app.errors import Conflict, Invalid, NotFound
from app.flows import send_range, stand
from app.models import alert, standing
from app.models.standing import MOVES, Policy, Standing
from app.runtime import Runtime
from tests import record
from tests.peers import Peer, running_sink
from tests.sending_world import launched, query, sums
from tests.test_failover import add_second, taken
from tests.world import World

pytestmark = pytest.mark.settings(range_size=100)

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def apart() -> Iterator[Peer]:
    with running_sink(seed=2) as peer:
        yield peer


def happened(runtime: Runtime, built: World, *, hours: float = 5.0, **kinds: int) -> None:
    """So many events of each kind, some hours ago."""
    with runtime.db.begin() as conn:
        at = conn.execute(text("SELECT now() - make_interval(secs => :s)"), {"s": hours * 3600}).scalar_one()
        for kind, total in kinds.items():
            record.append(conn, at, kind, total, campaign_id=built.campaign_id, pool_id=built.pool_id)
    record.refresh_all(runtime)


def state(runtime: Runtime, built: World) -> object:
    return query(runtime, "SELECT state FROM sender WHERE id = :id", id=built.sender_id)[0][0]


def policy(runtime: Runtime, built: World, **more: object) -> None:
    stand.set_policy(runtime, built.organisation_id, replace(Policy(), **more))  # type: ignore[arg-type]


def quarantine(runtime: Runtime, built: World, peer: Peer) -> int:
    """The organisation has a pool for quarantine; its id."""
    pool_id = add_second(runtime, built, peer)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE sender SET second_pool_id = NULL"))
    policy(runtime, built, quarantine_pool_id=pool_id)
    return pool_id


@pytest.mark.parametrize(
    ("kinds", "bad"),
    [
        ({"sent": 499, "bounced": 400}, False),
        ({"sent": 500, "bounced": 25}, False),
        ({"sent": 500, "bounced": 26}, True),
        ({"sent": 999, "complained": 400}, False),
        ({"sent": 1000, "complained": 2}, False),
        ({"sent": 1000, "complained": 3}, True),
    ],
)
def test_a_sender_is_paused_at_the_thresholds_and_not_before(
    runtime: Runtime, peer: Peer, kinds: dict[str, int], bad: bool
) -> None:
    built = launched(runtime, peer, leads=10)
    happened(runtime, built, **kinds)
    assert stand.judge_senders(runtime) == bad
    assert state(runtime, built) == ("paused" if bad else "good")


@pytest.mark.editions
def test_a_paused_sender_sends_nothing_its_owner_is_told_and_others_go_on(runtime: Runtime, peer: Peer) -> None:
    bad, well = launched(runtime, peer, leads=100), launched(runtime, peer, leads=100)
    happened(runtime, bad, sent=1000, bounced=60)
    happened(runtime, well, sent=1000, bounced=10)
    assert stand.judge_senders(runtime) == 1
    send_range.drain(runtime)
    assert sums(runtime, bad.campaign_id) == {"open": 100}
    assert sums(runtime, well.campaign_id) == {"sent": 100}
    with runtime.db.begin() as conn:
        (told,) = alert.find_open(conn, bad.organisation_id)
    assert (told.kind, told.sender_id) == (alert.Kind.SENDER_PAUSED, bad.sender_id)
    assert told.message == "60 of 1,000 emails came back (6\u00a0%; 5\u00a0% are put up with)."
    assert query(runtime, "SELECT count(*) FROM alert_notice WHERE user_id = :id", id=bad.user_id) == [(1,)]
    assert stand.judge_senders(runtime) == 0


def test_with_a_pool_for_it_a_sender_goes_to_quarantine_and_never_round_by_its_second_pool(
    runtime: Runtime, peer: Peer, apart: Peer
) -> None:
    built = launched(runtime, peer, leads=300)
    pool_id = quarantine(runtime, built, apart)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE sender SET pool_id = :q, second_pool_id = :p"), {"q": pool_id, "p": built.pool_id})
        conn.execute(text("UPDATE sender SET pool_id = :p, second_pool_id = :q"), {"q": pool_id, "p": built.pool_id})
    lease = send_range.claim(runtime)
    assert lease is not None
    send_range.send(runtime, send_range.load(runtime, lease))
    happened(runtime, built, sent=1000, complained=5)
    assert stand.judge_senders(runtime) == 1
    assert state(runtime, built) == "quarantined"
    apart.behave(down=1.0)
    send_range.drain(runtime)
    assert taken(peer, apart) == [100, 0]
    apart.behave(down=0.0)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET resume_at = now()"))
        conn.execute(text("UPDATE outbox SET due_at = now() WHERE state = 'ready'"))
    send_range.drain(runtime)
    assert taken(peer, apart) == [100, 200]
    moves = query(runtime, "SELECT came_from, went_to, sent, bounced, complained, moved_by, pool_id FROM sender_move")
    assert moves == [("good", "quarantined", 1100, 0, 5, None, pool_id)]


def test_what_was_before_a_move_is_not_held_against_a_sender_twice(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    happened(runtime, built, sent=1000, bounced=200)
    stand.judge_senders(runtime)
    stand.move_by_hand(runtime, built.organisation_id, built.sender_id, "good", built.user_id)
    assert stand.judge_senders(runtime) == 0
    assert state(runtime, built) == "good"
    with runtime.db.begin() as conn:
        assert alert.find_open(conn, built.organisation_id) == []
        moves = standing.find_moves(conn, built.sender_id)
    assert [(each.went_to, each.moved_by is None) for each in moves] == [("good", False), ("paused", True)]


@pytest.mark.editions
def test_a_quarantined_sender_comes_back_after_days_of_doing_well_and_not_before(
    runtime: Runtime, peer: Peer, apart: Peer
) -> None:
    built = launched(runtime, peer, leads=10)
    quarantine(runtime, built, apart)
    happened(runtime, built, hours=200, sent=1000, bounced=200)
    happened(runtime, built, hours=160, sent=1000, bounced=200)
    stand.judge_senders(runtime)
    assert state(runtime, built) == "quarantined"

    def days_ago(days: float) -> None:
        with runtime.db.begin() as conn:
            conn.execute(
                text(
                    "UPDATE sender SET moved_at = now() - make_interval(secs => :s),"
                    " judged_from = now() + interval '1 day' - make_interval(secs => :s)"
                ),
                {"s": days * 86400},
            )

    days_ago(6.0)
    happened(runtime, built, hours=2, sent=600, bounced=12)
    assert stand.judge_senders(runtime) == 0
    days_ago(7.1)
    assert stand.judge_senders(runtime) == 1
    assert state(runtime, built) == "good"
    assert query(runtime, "SELECT moved_to FROM sender") == [(None,)]


def test_after_long_good_standing_what_is_marketed_goes_through_a_better_pool(
    runtime: Runtime, peer: Peer, apart: Peer
) -> None:
    built = launched(runtime, peer, leads=100)
    pool_id = add_second(runtime, built, apart)
    policy(runtime, built, better_pool_id=pool_id, better_after=1000)
    happened(runtime, built, sent=1000, bounced=25)
    assert stand.judge_senders(runtime) == 0
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE sender SET moved_at = now() - interval '31 days'"))
    assert stand.judge_senders(runtime) == 1
    assert state(runtime, built) == "trusted"
    send_range.drain(runtime)
    assert taken(peer, apart) == [0, 100]
    happened(runtime, built, sent=100, bounced=200)
    assert stand.judge_senders(runtime) == 1
    assert state(runtime, built) == "paused"


def test_a_person_moves_only_where_a_way_leads_and_only_ones_own(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    for to in ("good", "quarantined", "trusted", "nowhere"):
        with pytest.raises(Conflict):
            stand.move_by_hand(runtime, built.organisation_id, built.sender_id, to, built.user_id)
    with pytest.raises(NotFound):
        stand.move_by_hand(runtime, built.organisation_id + 1, built.sender_id, "paused", built.user_id)
    stand.move_by_hand(runtime, built.organisation_id, built.sender_id, "paused", built.user_id)
    assert state(runtime, built) == "paused"


def test_thresholds_that_make_no_sense_are_refused_by_name(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    with pytest.raises(Invalid) as refused:
        policy(runtime, built, days=0, bounced_share=2.0, complained_after=0)
    assert {fault.pointer for fault in refused.value.faults} == {"days", "bounced_share", "complained_after"}
    for more in ({"quarantine_pool_id": 999}, {"better_pool_id": 999}):
        with pytest.raises(Invalid):
            policy(runtime, built, **more)


# -- Pools by purpose --------------------------------------------------------------------------------------------------


def test_messages_go_through_the_senders_transactional_pool_and_campaigns_do_not(
    runtime: Runtime, peer: Peer, apart: Peer
) -> None:
    built = launched(runtime, peer, leads=100)
    pool_id = add_second(runtime, built, apart)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE sender SET second_pool_id = NULL, transactional_pool_id = :id"), {"id": pool_id})
    send_range.drain(runtime)
    assert taken(peer, apart) == [100, 0]
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET purpose = 'transactional', state = 'sending', finished_at = NULL"))
        conn.execute(text("UPDATE outbox SET state = 'ready', position = 0, sent = 0"))
    send_range.drain(runtime)
    assert taken(peer, apart) == [100, 100]


# -- The rules, whatever the figures -----------------------------------------------------------------------------------


def known(state: str, sent: int, bounced: int, complained: int, days: float) -> Standing:
    return Standing(1, 1, "Sender", state, None, WHEN, days, sent, bounced, complained)


FIGURES = some.tuples(some.integers(0, 50_000), some.integers(0, 5_000), some.integers(0, 500), some.floats(0, 100))


@given(some.sampled_from(sorted(MOVES)), FIGURES, some.sampled_from([None, 7]), some.sampled_from([None, 8]))
def test_rules_go_only_where_a_way_leads_and_never_back_on_the_same_figures(
    state: str, figures: tuple[int, int, int, float], quarantine: int | None, better: int | None
) -> None:
    rules = Policy(quarantine_pool_id=quarantine, better_pool_id=better)
    sent, bounced, complained, days = figures
    to = standing.judge(rules, known(state, sent, bounced, complained, days))
    if to is None:
        return
    assert to.went_to in MOVES[state]
    assert (to.pool_id is not None) == (to.went_to in ("quarantined", "trusted"))
    assert state != "paused"  # from there only a person leads
    again = standing.judge(rules, known(to.went_to, sent, bounced, complained, 0.0))
    assert again is None or again.went_to == "paused"


def test_a_share_between_half_and_all_that_is_put_up_with_moves_nobody() -> None:
    rules = Policy(quarantine_pool_id=7, better_pool_id=8)
    for state in MOVES:
        assert standing.judge(rules, known(state, 20_000, 20_000 * 4 // 100, 0, 90.0)) is None
