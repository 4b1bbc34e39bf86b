"""Claims: one range, one worker; leases, fences, fairness."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.config import Settings
from app.db import Database
from app.errors import LeaseLost
from app.models import campaign, outbox, pool
from app.models.outbox import Counts, Lease
from tests import world
from tests.world import World


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url, size=12)
    yield database
    database.close()


@pytest.fixture
def sending(database: Database, settings: Settings) -> World:
    return world.build(database, secret_key=settings.secret_key, state="sending")


def claim(database: Database, campaign_id: int, seconds: float = 60.0) -> Lease | None:
    with database.begin() as conn:
        return outbox.claim(conn, campaign_id, uuid4(), seconds)


def test_eight_workers_at_once_never_claim_the_same_range(database: Database, sending: World) -> None:
    with database.begin() as conn:
        ranges = {world.add_range(conn, sending.campaign_id, [n * 10 + 1, n * 10 + 2]) for n in range(200)}
    claimed: list[int] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        while (lease := claim(database, sending.campaign_id)) is not None:
            claimed.append(lease.range_id)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(claimed) == sorted(ranges)


def test_a_locked_range_is_passed_over_without_waiting(database: Database, sending: World) -> None:
    with database.begin() as conn:
        first = world.add_range(conn, sending.campaign_id, [1])
        second = world.add_range(conn, sending.campaign_id, [2])
    with database.begin() as conn:
        conn.execute(text("SELECT FROM outbox WHERE id = :id FOR UPDATE"), {"id": first})
        began = time.monotonic()
        lease = claim(database, sending.campaign_id)
    assert lease is not None and lease.range_id == second
    assert time.monotonic() - began < 1


def test_what_is_due_later_is_not_claimed(database: Database, sending: World) -> None:
    with database.begin() as conn:
        world.add_range(conn, sending.campaign_id, [1], due_in=3600)
    assert claim(database, sending.campaign_id) is None


def test_the_oldest_due_range_goes_first(database: Database, sending: World) -> None:
    with database.begin() as conn:
        world.add_range(conn, sending.campaign_id, [1], due_in=-10)
        older = world.add_range(conn, sending.campaign_id, [2], due_in=-20)
    lease = claim(database, sending.campaign_id)
    assert lease is not None and lease.range_id == older


def test_a_page_is_what_is_left_of_a_range(database: Database, sending: World) -> None:
    with database.begin() as conn:
        range_id = world.add_range(conn, sending.campaign_id, [5, 6, 7, 8])
        conn.execute(text("UPDATE outbox SET position = 3, sent = 3 WHERE id = :id"), {"id": range_id})
    lease = claim(database, sending.campaign_id)
    assert lease is not None and lease.lead_ids == [8]


def test_a_worker_that_lost_its_lease_can_neither_hand_over_nor_settle(database: Database, sending: World) -> None:
    with database.begin() as conn:
        world.add_range(conn, sending.campaign_id, [1, 2, 3])
    slow = claim(database, sending.campaign_id, seconds=0.05)
    assert slow is not None
    time.sleep(0.1)
    with database.begin() as conn:
        assert outbox.expired(conn) == [slow.range_id]
        assert outbox.rescue(conn, slow.range_id, Counts(), 3) == "ready"
    quick = claim(database, sending.campaign_id)
    assert quick is not None and quick.fence > slow.fence
    with pytest.raises(LeaseLost), database.begin() as conn:
        outbox.hand_over(conn, slow, 60, skipped=0)
    with pytest.raises(LeaseLost), database.begin() as conn:
        outbox.settle(conn, slow, Counts(sent=3))
    with database.begin() as conn:
        assert outbox.hand_over(conn, quick, 60, skipped=0)
        outbox.settle(conn, quick, Counts(sent=3))


def test_a_paused_campaign_gets_its_range_back_untouched(database: Database, sending: World) -> None:
    with database.begin() as conn:
        range_id = world.add_range(conn, sending.campaign_id, [1, 2, 3])
    lease = claim(database, sending.campaign_id)
    assert lease is not None
    with database.begin() as conn:
        campaign.move(conn, sending.campaign_id, "paused")
    with database.begin() as conn:
        assert not outbox.hand_over(conn, lease, 60, skipped=0)
    with database.begin() as conn:
        after = world.row(conn, "SELECT state, position, lease_until FROM outbox WHERE id = :id", id=range_id)
    assert after == {"state": "ready", "position": 0, "lease_until": None}


def test_a_range_on_which_three_workers_died_is_quarantined(database: Database, sending: World) -> None:
    with database.begin() as conn:
        world.add_range(conn, sending.campaign_id, [1])
    states = []
    for _ in range(3):
        lease = claim(database, sending.campaign_id, seconds=0.01)
        assert lease is not None
        time.sleep(0.05)
        with database.begin() as conn:
            states.append(outbox.rescue(conn, lease.range_id, Counts(), 3))
            conn.execute(text("UPDATE outbox SET due_at = now()"))
    assert states == ["ready", "ready", "quarantined"]
    assert claim(database, sending.campaign_id) is None


def test_crashes_on_one_page_are_not_held_against_the_next(database: Database, sending: World) -> None:
    """As when the database is away three times, for longer than a lease, over the many pages of a paced range."""
    with database.begin() as conn:
        range_id = world.add_range(conn, sending.campaign_id, [1, 2, 3])
    states = []
    for place in range(3):
        with database.begin() as conn:
            late = outbox.claim(conn, sending.campaign_id, uuid4(), 0.01, most=1)
        assert late is not None
        time.sleep(0.05)
        with database.begin() as conn:
            states.append(outbox.rescue(conn, range_id, Counts(), 3))
            conn.execute(text("UPDATE outbox SET due_at = now()"))
        with database.begin() as conn:
            lease = outbox.claim(conn, sending.campaign_id, uuid4(), 60.0, most=1)
        assert lease is not None and lease.position == place
        with database.begin() as conn:
            assert outbox.hand_over(conn, lease, 60, skipped=0)
            outbox.settle(conn, lease, Counts(sent=1))
    assert states == ["ready"] * 3


def test_a_lease_that_still_runs_cannot_be_rescued(database: Database, sending: World) -> None:
    with database.begin() as conn:
        world.add_range(conn, sending.campaign_id, [1])
    lease = claim(database, sending.campaign_id)
    assert lease is not None
    with database.begin() as conn:
        assert outbox.expired(conn) == []
        assert outbox.rescue(conn, lease.range_id, Counts(), 3) is None


def test_a_small_campaign_is_served_in_the_middle_of_a_large_one(database: Database, sending: World) -> None:
    with database.begin() as conn:
        small = world.add_campaign(conn, sending.organisation_id, sending.user_id, sending.sender_id, state="sending")
        for n in range(40):
            world.add_range(conn, sending.campaign_id, [n + 1])
        for n in range(3):
            world.add_range(conn, small, [n + 1])
    served: Counter[int] = Counter()
    for _ in range(6):
        with database.begin() as conn:
            first = campaign.pick(conn)[0].campaign_id
            assert outbox.claim(conn, first, uuid4(), 60) is not None
        served[first] += 1
    assert served == {sending.campaign_id: 3, small: 3}


def test_the_ranges_of_a_paused_pool_wait(database: Database, sending: World) -> None:
    with database.begin() as conn:
        world.add_range(conn, sending.campaign_id, [1])
        pool.pause(conn, sending.pool_id, "the key was refused")
    with database.begin() as conn:
        assert campaign.pick(conn) == []
        conn.execute(text("UPDATE pool SET resume_at = now() - interval '1 second'"))
        assert [choice.campaign_id for choice in campaign.pick(conn)] == [sending.campaign_id]


def test_a_range_cannot_be_done_while_a_lead_has_no_outcome(database: Database, sending: World) -> None:
    with database.begin() as conn:
        world.add_range(conn, sending.campaign_id, [1, 2, 3])
    lease = claim(database, sending.campaign_id)
    assert lease is not None
    with pytest.raises(Exception, match="outbox_check"), database.begin() as conn:
        outbox.settle(conn, lease, Counts(sent=2))
