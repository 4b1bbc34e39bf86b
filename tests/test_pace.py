"""Limits: what a pool lets go in a second and in a day, in all and to each receiver; measured at the provider."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
import redis
from sqlalchemy import text

from app.buckets import Bucket, Buckets, Taken
from app.config import Settings
from app.errors import Invalid, ProviderDown
from app.flows import pace, send_range
from app.mail import Accepted
from app.models import limit, process
from app.models.limit import Limit
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import later, launched, query, settle_with, sums
from tests.world import World


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100, look_every=0.05))
    yield runtime
    runtime.close()


def set_limits(runtime: Runtime, built: World, *limits: Limit) -> None:
    with runtime.db.begin() as conn:
        limit.set_limits(conn, built.pool_id, limits)


def fill(runtime: Runtime, *keys: str) -> None:
    """The buckets are full: they have stood for a while."""
    with redis.Redis.from_url(runtime.settings.redis_url) as client:
        for key in keys:
            client.set(key, "0")


def at_receivers(runtime: Runtime, shares: dict[str, int]) -> None:
    """Move leads to domains, in turn: so many of each hundred to each."""
    with runtime.db.begin() as conn:
        first = 0
        for domain, share in shares.items():
            conn.execute(text("INSERT INTO domain (name) VALUES (:name) ON CONFLICT DO NOTHING"), {"name": domain})
            conn.execute(
                text(
                    "UPDATE lead SET domain_id = domain.id, email = format('l%s@%s', lead.id, name) FROM domain"
                    " WHERE name = :name AND lead.id % 100 BETWEEN :first AND :last"
                ),
                {"name": domain, "first": first, "last": first + share - 1},
            )
            first += share


def sent(runtime: Runtime) -> dict[str, int]:
    """Domain -> leads that were sent to."""
    found = query(
        runtime,
        "SELECT domain.name, count(*) FROM event JOIN domain ON domain.id = event.domain_id WHERE kind = 'sent'"
        " GROUP BY 1 ORDER BY 1",
    )
    return {str(name): int(str(leads)) for name, leads in found}


def test_a_pool_without_limits_asks_nobody(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=100)
    lease = send_range.claim(runtime)
    assert lease is not None and not lease.limited
    set_limits(runtime, built, Limit(per_second=5.0))
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET state = 'ready', owner = NULL, lease_until = NULL"))
    lease = send_range.claim(runtime)
    assert lease is not None and lease.limited


def test_a_page_goes_as_far_as_the_limit_allows_and_the_rest_keeps_its_place(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300)
    set_limits(runtime, built, Limit(per_second=0.001, burst=70))
    fill(runtime, f"millrace:pace:{built.pool_id}:")
    before = query(runtime, "SELECT id, due_at FROM outbox ORDER BY id")
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 70, "open": 230}
    assert query(runtime, "SELECT id, due_at FROM outbox ORDER BY id") == before
    assert query(runtime, "SELECT state, attempts, position FROM outbox ORDER BY id LIMIT 2") == [
        ("ready", 0, 70),
        ("ready", 0, 0),
    ]


def test_while_a_limit_is_used_up_nothing_is_claimed_for_it(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300)
    set_limits(runtime, built, Limit(per_second=0.01, burst=10))
    send_range.drain(runtime)  # the bucket is new, and empty
    assert query(runtime, "SELECT sum(fence) FROM outbox") == [(1,)]
    assert send_range.claim(runtime) is None
    assert sums(runtime, built.campaign_id) == {"open": 300}


def test_a_changed_limit_acts_at_once(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300)
    set_limits(runtime, built, Limit(per_second=0.01, burst=10))
    send_range.drain(runtime)
    assert send_range.claim(runtime) is None
    set_limits(runtime, built)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 300}


def test_a_limit_that_is_changed_while_a_page_asks_is_not_used_up_by_the_one_before(
    runtime: Runtime, peer: Peer
) -> None:
    built = launched(runtime, peer, leads=300)
    set_limits(runtime, built, Limit(per_second=0.0001, burst=10))
    take = runtime.buckets.take

    def mending(wanted: int, buckets: Sequence[Bucket], takers: Callable[[], int]) -> Taken:
        taken = take(wanted, buckets, takers)
        set_limits(runtime, built, Limit(per_second=1000.0, burst=1000))
        fill(runtime, f"millrace:pace:{built.pool_id}:")
        runtime.buckets.take = take  # type: ignore[method-assign]
        return taken

    runtime.buckets.take = mending  # type: ignore[method-assign]
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 300}


def test_another_pools_limit_holds_nobody_up(runtime: Runtime, peer: Peer) -> None:
    slow, well = launched(runtime, peer, leads=100), launched(runtime, peer, leads=100)
    set_limits(runtime, slow, Limit(per_second=0.01, burst=10))
    send_range.drain(runtime)
    assert sums(runtime, well.campaign_id) == {"sent": 100}
    assert sums(runtime, slow.campaign_id) == {"open": 100}


def test_leads_are_put_together_by_receiver_once_and_no_range_is_shattered(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=1000)
    at_receivers(runtime, {"gmail.com": 50, "hotmail.com": 20, "example.org": 30})
    set_limits(runtime, built, Limit("google", 0.001, 40), Limit("microsoft", 0.001, 30))
    key = f"millrace:pace:{built.pool_id}"
    for _ in range(3):
        fill(runtime, f"{key}:google", f"{key}:microsoft")
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE pool_limit SET paced_until = NULL"))
        send_range.drain(runtime)
    assert sent(runtime) == {"example.org": 300, "gmail.com": 120, "hotmail.com": 90}
    assert query(runtime, "SELECT count(*) FROM outbox") == [(10 + 10 * 3,)]
    parts = "SELECT waits_for, sum(size) FROM outbox WHERE parent_id IS NOT NULL GROUP BY 1 ORDER BY 1"
    assert query(runtime, parts) == [
        ("google", 500),
        ("microsoft", 200),
        (None, 300),
    ]
    assert query(runtime, "SELECT max(attempts) FROM outbox") == [(0,)]
    set_limits(runtime, built)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 1000}
    assert peer.sink.book.stats()["duplicates"] == 0
    assert query(runtime, "SELECT state FROM campaign") == [("finished",)]


def test_a_limit_that_is_added_later_sorts_what_was_sorted_before(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=100)
    at_receivers(runtime, {"gmail.com": 50, "hotmail.com": 50})
    set_limits(runtime, built, Limit("google", 0.001, 10), Limit("", 0.001, 10))
    send_range.drain(runtime)
    set_limits(runtime, built, Limit("google", 0.001, 10), Limit("hotmail.com", 0.001, 10))
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"open": 100}
    waiting = "SELECT waits_for, sum(size) FROM outbox WHERE state = 'ready' GROUP BY 1 ORDER BY 1"
    assert query(runtime, waiting) == [("google", 50), ("hotmail.com", 50)]


def test_a_domain_that_gets_a_limit_of_its_own_later_leaves_its_receivers_part(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=100)
    at_receivers(runtime, {"gmail.com": 50, "googlemail.com": 50})
    set_limits(runtime, built, Limit("google", 0.001, 10))
    key = f"millrace:pace:{built.pool_id}"
    send_range.drain(runtime)
    set_limits(runtime, built, Limit("google", 0.001, 100), Limit("gmail.com", 0.001, 5))
    fill(runtime, f"{key}:google", f"{key}:gmail.com")
    send_range.drain(runtime)
    assert sent(runtime) == {"gmail.com": 5, "googlemail.com": 50}
    waiting = "SELECT waits_for, sum(size - position) FROM outbox WHERE state = 'ready' GROUP BY 1"
    assert query(runtime, waiting) == [("gmail.com", 45)]
    set_limits(runtime, built, Limit("gmail.com", 0.001, 5))
    send_range.drain(runtime)
    set_limits(runtime, built, Limit("example.org", 0.001, 5))
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 100}


def test_the_limit_of_all_emails_holds_for_each_receiver_too(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=200)
    at_receivers(runtime, {"gmail.com": 50})
    set_limits(runtime, built, Limit("", 0.001, 30), Limit("google", 0.001, 100))
    key = f"millrace:pace:{built.pool_id}"
    fill(runtime, f"{key}:", f"{key}:google")
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 30, "open": 170}


# -- By day ------------------------------------------------------------------------------------------------------------


def test_a_days_limit_survives_a_flush_and_is_counted_over_any_24_hours(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=300)
    set_limits(runtime, built, Limit(per_day=130))
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 130, "open": 170}
    with redis.Redis.from_url(runtime.settings.redis_url) as client:
        client.flushall()
    for hours, total in ((12, 130), (11.9, 130), (0.4, 260), (24.2, 300)):
        with runtime.db.begin() as conn:
            step = {"hours": hours}
            conn.execute(text("UPDATE pool_spent SET slot = slot - make_interval(secs => :hours * 3600)"), step)
            conn.execute(text("UPDATE pool_limit SET paced_until = NULL"))
        send_range.drain(runtime)
        assert sums(runtime, built.campaign_id)["sent"] == total


def test_of_two_pages_at_the_end_of_a_day_one_gets_what_is_left(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=200)
    set_limits(runtime, built, Limit(per_day=100))
    claimed = [send_range.claim(runtime), send_range.claim(runtime)]
    cut = [pace.pace(runtime, lease) for lease in claimed if lease is not None]
    assert [len(lease.lead_ids) for lease in cut if lease is not None] == [100, 100]
    for lease in cut:
        assert lease is not None
        send_range.send(runtime, send_range.load(runtime, lease))
    assert sums(runtime, built.campaign_id) == {"sent": 100, "open": 100}
    assert query(runtime, "SELECT sum(spent) FROM pool_spent") == [(100,)]
    assert query(runtime, "SELECT state, position FROM outbox ORDER BY id") == [("done", 100), ("ready", 0)]


def test_what_never_left_us_uses_up_no_day(runtime: Runtime, peer: Peer) -> None:
    peer.behave(down=1.0)
    built = launched(runtime, peer, leads=100)
    set_limits(runtime, built, Limit(per_day=100))
    for _ in range(3):
        send_range.drain(runtime)
        later(runtime, 2000)
    peer.behave(down=0.0)
    later(runtime, 2000)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 100}


def test_what_half_of_a_page_could_not_be_handed_uses_up_no_day(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=100)
    set_limits(runtime, built, Limit(per_day=100))
    lease = send_range.claim(runtime)
    assert lease is not None
    lease = pace.pace(runtime, lease)
    assert lease is not None
    page = send_range.load(runtime, lease)
    letters, skipped = send_range.compose_page(send_range.composer_of(runtime, page.sending), page)
    handoffs = send_range.hand_over(runtime, page, letters, skipped)
    assert handoffs is not None
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 50, ProviderDown("HTTP 429", passing=True))
    assert query(runtime, "SELECT sum(spent) FROM pool_spent") == [(50,)]
    later(runtime, 60)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 100}


def test_who_is_skipped_uses_up_no_day(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=100)
    set_limits(runtime, built, Limit(per_day=60))
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE lead SET status = 'unsubscribed' WHERE id % 2 = 0"))
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 50, "skipped": 50}
    assert query(runtime, "SELECT sum(spent) FROM pool_spent") == [(50,)]


# -- By second ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Take:
    """Tokens that were taken at some moment between two (monotonic seconds)."""

    after: float
    before: float
    tokens: int


def watch(runtime: Runtime, takes: list[Take]) -> None:
    """Note what this worker takes."""
    take = runtime.buckets.take

    def noting(wanted: int, buckets: Sequence[Bucket], takers: Callable[[], int]) -> Taken:
        began = time.monotonic()
        taken = take(wanted, buckets, takers)
        takes.append(Take(began, time.monotonic(), taken.tokens))
        return taken

    runtime.buckets.take = noting  # type: ignore[method-assign]


def most_above(takes: Sequence[Take], rate: float, burst: int) -> float:
    """By how much any span of time had more than the rate and a burst; however late a take was heard of."""
    spans = [(first.after, last.before) for first in takes for last in takes if last.before > first.after]
    return max(
        sum(each.tokens for each in takes if since <= each.after and each.before <= until)
        - (rate * (until - since) + burst)
        for since, until in spans
    )


@pytest.mark.timeout(60)
def test_two_workers_together_keep_to_the_rate_though_redis_is_flushed(settings: Settings, peer: Peer) -> None:
    workers = [Runtime(replace(settings, range_size=500), connections=4) for _ in range(2)]
    try:
        _keep_to_the_rate(workers, peer, seconds=10.0, rate=200.0, burst=60)
    finally:
        for each in workers:
            each.close()


def _keep_to_the_rate(workers: list[Runtime], peer: Peer, *, seconds: float, rate: float, burst: int) -> None:
    takes: list[Take] = []
    bell = threading.Event()
    for each in workers:
        watch(each, takes)
        each.use_bell(lambda queue: bell.set())
    built = launched(workers[0], peer, leads=4000)
    set_limits(workers[0], built, Limit(per_second=rate, burst=burst))
    until = time.monotonic() + seconds

    def work(runtime: Runtime) -> None:
        while time.monotonic() < until:
            send_range.drain(runtime, until - time.monotonic())
            bell.wait(1.0)
            bell.clear()

    threads = [threading.Thread(target=work, args=(each,)) for each in workers for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 2)
    with redis.Redis.from_url(workers[0].settings.redis_url) as client:
        client.flushall()
    for thread in threads:
        thread.join()
    assert most_above([each for each in takes if each.tokens], rate, burst) <= 1  # one token is rounded
    total = sum(each.tokens for each in takes)
    assert total >= 0.5 * rate * seconds
    assert sums(workers[0], built.campaign_id)["sent"] == total == peer.sink.book.stats()["accepted"]


def test_a_bucket_that_is_not_there_begins_empty(redis_url: str) -> None:
    buckets = Buckets(redis_url)
    bucket = Bucket("b", 100.0, 50)
    assert buckets.take(50, [bucket], lambda: 1).tokens == 0
    time.sleep(0.1)
    taken = buckets.take(50, [bucket], lambda: 1)
    assert 9 <= taken.tokens <= 20
    assert taken.shared
    buckets.close()


def test_tokens_are_taken_from_all_buckets_or_from_none(redis_url: str) -> None:
    buckets = Buckets(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.mset({"wide": "0", "narrow": "0"})
    wide, narrow = Bucket("wide", 0.01, 100), Bucket("narrow", 0.01, 10)
    assert buckets.take(50, [wide, narrow], lambda: 1).tokens == 10
    assert buckets.take(200, [wide], lambda: 1).tokens == 90
    buckets.close()


def test_while_redis_is_away_each_worker_keeps_to_its_part() -> None:
    away = "redis://127.0.0.1:1/0"
    processes = [Buckets(away) for _ in range(4)]
    bucket = Bucket("b", 100.0, 40)
    for each in processes:
        assert each.take(100, [bucket], lambda: 4).tokens == 0
    time.sleep(0.2)
    taken = [each.take(100, [bucket], lambda: 4) for each in processes]
    assert 16 <= sum(each.tokens for each in taken) <= 100 * 0.3 + 4
    assert not any(each.shared for each in taken)
    time.sleep(0.6)
    assert [each.take(100, [bucket], lambda: 4).tokens for each in processes] == [10] * 4


def test_when_redis_is_back_what_went_meanwhile_is_not_let_go_again(redis_url: str) -> None:
    buckets = Buckets("redis://127.0.0.1:1/0")
    bucket = Bucket("b", 1.0, 40)
    with redis.Redis.from_url(redis_url) as client:
        client.set("b", "0")
    buckets.take(10, [bucket], lambda: 1)
    buckets._url, buckets._client, buckets._away_until = redis_url, None, 0.0
    assert buckets.take(40, [bucket], lambda: 1).tokens == 0
    buckets.close()


def test_a_worker_without_redis_counts_the_workers_that_are_up(settings: Settings, peer: Peer) -> None:
    runtime = Runtime(replace(settings, redis_url="redis://127.0.0.1:1/0", range_size=100))
    built = launched(runtime, peer, leads=100)
    with runtime.db.begin() as conn:
        for _ in range(2):
            other = Runtime(settings)
            process.beat(conn, other.id, "worker", "host", 1)
            other.close()
    set_limits(runtime, built, Limit(per_second=100.0, burst=40))
    send_range.drain(runtime)
    time.sleep(1.0)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 20, "open": 80}
    runtime.close()


# -- What may be asked for ---------------------------------------------------------------------------------------------


def test_limits_that_make_no_sense_are_refused_by_name_and_change_nothing(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    set_limits(runtime, built, Limit(per_second=5.0, burst=10, per_day=1000))
    with pytest.raises(Invalid) as refused:
        set_limits(runtime, built, Limit("nobody", -1.0, 0, 0), Limit("google", 1.0), Limit("google", 2.0))
    assert [fault.pointer for fault in refused.value.faults] == [
        "0.receiver",
        "0.per_second",
        "0.burst",
        "0.per_day",
        "2.receiver",
    ]
    with runtime.db.begin() as conn:
        assert limit.list_limits(conn, built.pool_id) == [Limit("", 5.0, 10, 1000)]


def test_a_limit_that_limits_nothing_is_none(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    set_limits(runtime, built, Limit("google", burst=5))
    with runtime.db.begin() as conn:
        assert limit.list_limits(conn, built.pool_id) == []
