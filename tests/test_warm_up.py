"""Warm-ups and rates of campaigns: what they let go, measured at the provider; and what they do to a campaign's end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import redis
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some
from sqlalchemy import text

from app.config import Settings
from app.errors import Invalid, ProviderDown
from app.flows import estimate, pace, send_range
from app.flows.estimate import Ceiling
from app.mail import Accepted
from app.models import campaign_rate, warm_up
from app.models.campaign_rate import Rate
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import launched, query, settle_with, sums
from tests.world import World


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100, look_every=0.05))
    yield runtime
    runtime.close()


def today(runtime: Runtime) -> date:
    with runtime.db.begin() as conn:
        moment: date = conn.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()
        return moment


def warm(runtime: Runtime, built: World, *curve: int, day: int = 1) -> None:
    """The pool is on that day of its warm-up."""
    starts_on = today(runtime) - timedelta(days=day - 1)
    with runtime.db.begin() as conn:
        warm_up.set_of_pool(conn, built.organisation_id, built.pool_id, starts_on, curve)


def pass_by(runtime: Runtime, **step: float) -> None:
    """Time has passed for what warm-ups count."""
    with runtime.db.begin() as conn:
        seconds = {"s": timedelta(**step).total_seconds()}
        conn.execute(text("UPDATE warm_up_spent SET slot = slot - make_interval(secs => :s)"), seconds)
        conn.execute(text("UPDATE warm_up SET paced_until = NULL"))


def test_a_warming_pool_sends_no_more_than_its_days_ceiling_though_redis_is_flushed(
    runtime: Runtime, peer: Peer
) -> None:
    built = launched(runtime, peer, leads=400)
    warm(runtime, built, 50, 150, 400, day=2)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 150, "open": 250}
    with redis.Redis.from_url(runtime.settings.redis_url) as client:
        client.flushall()
    pass_by(runtime, hours=12)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 150, "open": 250}
    warm(runtime, built, 50, 150, 400, day=3)  # midnight has passed
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 400}
    assert peer.sink.book.stats()["duplicates"] == 0


def test_before_its_first_day_the_first_ceiling_holds_and_after_the_last_none(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300)
    warm(runtime, built, 50, 100, day=-5)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 50, "open": 250}
    warm(runtime, built, 50, 100, day=3)
    lease = send_range.claim(runtime)
    assert lease is not None and not lease.warms
    send_range.send(runtime, send_range.load(runtime, lease))
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 300}


def test_while_a_warm_up_is_used_up_nothing_is_claimed_for_it(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300)
    warm(runtime, built, 10)
    send_range.drain(runtime)
    assert send_range.claim(runtime) is None
    claims = query(runtime, "SELECT sum(fence) FROM outbox")
    send_range.drain(runtime)
    assert query(runtime, "SELECT sum(fence) FROM outbox") == claims
    assert query(runtime, "SELECT paced_until > now() + interval '1 second' FROM warm_up") == [(True,)]


def test_a_domain_warms_up_whichever_pool_carries_it(runtime: Runtime, peer: Peer) -> None:
    slow, well = launched(runtime, peer, leads=100), launched(runtime, peer, leads=100)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE sender SET address = 'new@Warm.Example' WHERE id = :id"), {"id": slow.sender_id})
        conn.execute(text("UPDATE sender SET organisation_id = :o"), {"o": slow.organisation_id})
        conn.execute(text("UPDATE campaign SET organisation_id = :o"), {"o": slow.organisation_id})
        conn.execute(text("UPDATE lead SET organisation_id = :o, email = id || email"), {"o": slow.organisation_id})
        warm_up.set_of_domain(conn, slow.organisation_id, "warm.example", today(runtime), [30])
    send_range.drain(runtime)
    assert sums(runtime, slow.campaign_id) == {"sent": 30, "open": 70}
    assert sums(runtime, well.campaign_id) == {"sent": 100}


def test_of_two_pages_at_the_end_of_a_warm_ups_day_one_gets_what_is_left(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=200)
    warm(runtime, built, 100)
    claimed = [send_range.claim(runtime), send_range.claim(runtime)]
    for lease in [pace.pace(runtime, lease) for lease in claimed if lease is not None]:
        assert lease is not None and len(lease.lead_ids) == 100
        send_range.send(runtime, send_range.load(runtime, lease))
    assert sums(runtime, built.campaign_id) == {"sent": 100, "open": 100}
    assert query(runtime, "SELECT sum(spent) FROM warm_up_spent") == [(100,)]


def test_what_never_left_us_uses_up_no_day_of_a_warm_up(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=100)
    warm(runtime, built, 100)
    lease = send_range.claim(runtime)
    assert lease is not None
    lease = pace.pace(runtime, lease)
    assert lease is not None
    page = send_range.load(runtime, lease)
    letters, skipped = send_range.compose_page(send_range.composer_of(runtime, page.sending), page)
    handoffs = send_range.hand_over(runtime, page, letters, skipped)
    assert handoffs is not None
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 50, ProviderDown("HTTP 429", passing=True))
    assert query(runtime, "SELECT sum(spent) FROM warm_up_spent") == [(50,)]


def test_a_curve_that_makes_no_sense_is_refused_and_changes_nothing(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    warm(runtime, built, 10, 20)
    for curve in ([], [0], [1] * 367, [-5, 10]):
        with pytest.raises(Invalid) as refused:
            warm(runtime, built, *curve)
        assert [fault.pointer for fault in refused.value.faults] == ["curve"]
    assert query(runtime, "SELECT curve FROM warm_up") == [([10, 20],)]


def test_the_shipped_curves_grow(runtime: Runtime) -> None:
    for curve in warm_up.CURVES.values():
        warm_up.check(curve.days)
        assert list(curve.days) == sorted(curve.days)


def test_the_ceiling_of_a_day_is_told(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    first = today(runtime)
    with runtime.db.begin() as conn:
        assert warm_up.ceiling(conn, built.pool_id, first) is None
    warm(runtime, built, 50, 100)
    with runtime.db.begin() as conn:
        told = [warm_up.ceiling(conn, built.pool_id, first + timedelta(days=each)) for each in (-1, 0, 1, 2)]
    assert told == [50, 50, 100, None]


# -- Rates of campaigns ------------------------------------------------------------------------------------------------


def rate(runtime: Runtime, built: World, known: Rate | None) -> None:
    with runtime.db.begin() as conn:
        campaign_rate.set_rate(conn, built.campaign_id, known)


def test_a_campaign_keeps_to_its_own_rate_and_holds_no_other_up(runtime: Runtime, peer: Peer) -> None:
    slow, well = launched(runtime, peer, leads=300), launched(runtime, peer, leads=100)
    rate(runtime, slow, Rate(50, "second"))
    began = time.monotonic()
    sent = 0
    while sent < 60 and time.monotonic() < began + 20.0:  # it goes on, and no faster
        send_range.drain(runtime)
        sent = sums(runtime, slow.campaign_id).get("sent", 0)
        assert sent <= 50 * (time.monotonic() - began) + 50
        time.sleep(0.05)
    assert 60 <= sent < 300
    assert sums(runtime, well.campaign_id) == {"sent": 100}


def test_a_rate_that_is_changed_while_it_sends_acts_at_once(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300)
    rate(runtime, built, Rate(1, "hour"))
    send_range.drain(runtime)
    assert send_range.claim(runtime) is None
    rate(runtime, built, None)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 300}


def test_a_rate_that_makes_no_sense_is_refused_by_name(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    with pytest.raises(Invalid) as refused:
        rate(runtime, built, Rate(0, "year"))
    assert [fault.pointer for fault in refused.value.faults] == ["emails", "per"]


# -- What that does to a campaign's end --------------------------------------------------------------------------------

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def curve(*days: int) -> Ceiling:
    return Ceiling("the curve", lambda day: warm_up.on_day(NOON.date(), days, day))


def test_without_limits_a_campaign_ends_as_fast_as_its_provider_takes_it() -> None:
    assert estimate.estimate(10_000, NOON, [], []) == estimate.Estimate(NOON, "")


def test_the_slowest_rate_decides() -> None:
    told = estimate.estimate(3600, NOON, [(2.0, "fast"), (1.0, "slow")], [])
    assert told == estimate.Estimate(NOON + timedelta(hours=1), "slow")


@pytest.mark.parametrize(("leads", "day"), [(50, 1), (51, 2), (150, 2), (151, 3), (650, 3), (651, 4), (100_000, 4)])
def test_a_curve_adds_up_day_by_day(leads: int, day: int) -> None:
    told = estimate.estimate(leads, NOON, [], [curve(50, 100, 500)])
    assert told.ends_at is not None
    assert (told.ends_at.date() - NOON.date()).days + 1 == day


@hypothesis_settings(deadline=None)
@given(some.lists(some.integers(1, 40), min_size=1, max_size=6), some.integers(1, 300), some.floats(0.01, 1.0))
def test_no_estimate_lets_more_go_than_any_24_hours_allow(days: list[int], leads: int, per_second: float) -> None:
    """As the claim would: step by step of ten minutes, against the estimate's end."""
    ceiling = curve(*days)
    told = estimate.estimate(leads, NOON, [(per_second, "rate")], [ceiling])
    assert told.ends_at is not None
    at, sent = NOON, [(NOON, 0)]
    left = leads
    while left > 0:
        most = ceiling.on(at.date())
        counted = sum(emails for moment, emails in sent if moment > at - timedelta(hours=24, minutes=10))
        free = left if most is None else max(0, min(left, most - counted))
        sent.append((at, free))
        left -= free
        at += timedelta(minutes=10)
    # the rate may add what it takes for all of them; a step is ten minutes
    slack = timedelta(seconds=leads / per_second, minutes=20 * (len(days) + 1))
    assert sent[-1][0] - timedelta(minutes=20) <= told.ends_at <= sent[-1][0] + slack
