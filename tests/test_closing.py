"""Closing a campaign while something of it is resolved: nothing of it is left open, and nothing looks like a fault."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import event as listening
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.flows import finish, resolve, steer
from app.flows.answers import Wait
from app.flows.resolve import Evidence, Verdict
from app.mail import Kind
from app.models.handoff import HandOff
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, launched, lose_the_lease, query, sums
from tests.test_policies import wait_for_locks
from tests.test_sending import events
from tests.world import World

pytestmark = pytest.mark.settings(range_size=100)

DEFERRED = Verdict(resolve.DEFERRED, {"reason": "451 later"}, Wait(60.0, 1, deferred=True))


@pytest.fixture
def unknown(runtime: Runtime, peer: Peer) -> tuple[World, list[HandOff]]:
    """A campaign of two calls, whose worker died: nothing of it waits, and all of it is unknown."""
    built = launched(runtime, peer, leads=100)
    _, handoffs = hand_over(runtime)
    lose_the_lease(runtime)
    assert len(handoffs) == 2
    return built, handoffs


def test_a_cancelled_campaign_stays_open_for_what_is_put_off_while_it_is_closed(
    runtime: Runtime, unknown: tuple[World, list[HandOff]]
) -> None:
    """A late answer has put leads into a new range, and has not committed yet."""
    built, [call, _] = unknown
    steer.cancel(runtime, built.organisation_id, built.campaign_id)
    closing = threading.Thread(target=steer.close_cancelled, args=(runtime,))
    with runtime.db.begin() as conn:
        assert resolve.resolve(conn, {call.id: dict.fromkeys(call.lead_ids, DEFERRED)}) == 50
        closing.start()
        wait_for_locks(runtime, 1)
    closing.join()
    steer.close_cancelled(runtime)
    assert sums(runtime, built.campaign_id) == {"cancelled": 50, "unknown": 50}
    assert query(runtime, "SELECT finished_at IS NOT NULL FROM campaign") == [(True,)]


@contextmanager
def telling_between(runtime: Runtime, built: World, call: HandOff, leads: Sequence[int]) -> Iterator[list[int]]:
    """Before each statement of this thread's transactions a webhook about one more lead is read; those that were."""
    left, told, thread, busy = list(leads), list[int](), threading.get_ident(), list[bool]()

    def tell(*_: object) -> None:
        if left and not busy and threading.get_ident() == thread:
            busy.append(True)
            try:
                with runtime.db.begin() as conn:
                    conn.execute(text("SET LOCAL lock_timeout = '100ms'"))
                    resolve.use_evidence(conn, built.pool_id, [Evidence(call.id, left[0], Kind.SENT)])
                told.append(left.pop(0))
            except OperationalError:  # it must wait: it would have been read a little later
                left.clear()
            busy.clear()

    listening.listen(runtime.db.engine, "before_cursor_execute", tell)
    try:
        yield told
    finally:
        listening.remove(runtime.db.engine, "before_cursor_execute", tell)


def test_what_webhooks_resolve_while_a_campaign_is_compared_is_no_fault(
    runtime: Runtime, unknown: tuple[World, list[HandOff]], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is told of one, nothing is looked for lead by lead, and no webhook waits for that."""
    built, [call, _] = unknown
    with telling_between(runtime, built, call, call.lead_ids[:40]) as told:
        assert finish.try_finish(runtime, built.campaign_id) == "settling"
    assert len(told) > 5
    assert query(runtime, "SELECT kind, message FROM alert") == []
    assert query(runtime, "SELECT look_at FROM campaign") == [(None,)]
    assert "reconciled" not in caplog.text
    assert events(runtime, built.campaign_id) == {"sent": len(told), "unknown": 100 - len(told)}
    assert sums(runtime, built.campaign_id) == {"sent": len(told), "unknown": 100 - len(told)}


def test_what_webhooks_resolve_while_a_campaign_is_mended_is_not_undone(
    runtime: Runtime, unknown: tuple[World, list[HandOff]]
) -> None:
    """One lead's event is missing; a webhook about another lead of the same range is being read meanwhile."""
    built, [call, other] = unknown
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM event WHERE lead_id = :id"), {"id": call.lead_ids[0]})
    mending = threading.Thread(target=finish.try_finish, args=(runtime, built.campaign_id))
    with runtime.db.begin() as conn:
        assert resolve.use_evidence(conn, built.pool_id, [Evidence(other.id, other.lead_ids[0], Kind.SENT)]) == 1
        mending.start()
        wait_for_locks(runtime, 1)
    mending.join()
    assert query(runtime, "SELECT kind, message FROM alert") == []
    assert sums(runtime, built.campaign_id) == {"sent": 1, "unknown": 99}
    assert events(runtime, built.campaign_id) == {"sent": 1, "unknown": 99}
