"""Messages are held against the record, range by range, and none of them is kept for ever."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.config import Settings
from app.flows import keep_messages, range_messages, send_range, unknowns
from app.models import message_ledger
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, lose_the_lease
from tests.test_messages import ask, build, go, own, read, taken
from tests.waiting import make_due
from tests.world import World


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(settings)
    yield runtime
    runtime.close()


def left(runtime: Runtime) -> tuple[int, ...]:
    """Ranges, hand-offs, messages."""
    with runtime.db.begin() as conn:
        tables = ("outbox", "handoff", "message")
        return tuple(int(conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()) for table in tables)


def back(days: int) -> int:
    """By how much the ids of messages are less that were due so many days earlier."""
    return days * 1440 << 34


def add_old(runtime: Runtime, days: int) -> None:
    """Every message once more, so many days older."""
    names = "created_at, due_at, organisation_id, campaign_id, domain_id, email, data, metadata"
    with runtime.db.begin() as conn:
        conn.execute(text(f"INSERT INTO message (id, {names}) SELECT id - {back(days)}, {names} FROM message"))


def test_families_of_ranges_that_agree_with_the_record_are_dropped_when_they_are_old_and_days_of_messages_with_them(
    runtime: Runtime, peer: Peer
) -> None:
    built = build(runtime, peer)
    ask(runtime, built, own("ann"), own("bob"))
    go(runtime)
    assert keep_messages.compare(runtime, age=-1) == 1
    assert keep_messages.compare(runtime, age=-1) == 0
    keep_messages.tidy(runtime)
    assert left(runtime) == (1, 1, 2)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET agreed_at = now() - interval '31 days'"))
    add_old(runtime, 40)
    keep_messages.tidy(runtime)
    assert left(runtime) == (0, 0, 2)


def test_no_day_is_dropped_of_which_a_message_still_waits(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    ask(runtime, built, own("ann"))
    make_due(runtime, ago=timedelta(days=41), lower_ids=back(41))
    add_old(runtime, 40)
    keep_messages.tidy(runtime)
    assert left(runtime)[2] == 2


def test_a_missing_event_is_written_again_and_a_message_that_nobody_served_is_sent(
    runtime: Runtime, peer: Peer
) -> None:
    built = build(runtime, peer)
    ids = ask(runtime, built, own("ann"), own("bob"))
    go(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM event"))
        conn.execute(text("UPDATE handoff SET lead_ids = lead_ids[1:1], outcomes = 's'"))
    keep_messages.compare(runtime, age=-1)
    states = sorted(read(runtime, built, each).state for each in ids)
    assert states == ["queued", "sent"]
    send_range.drain(runtime)
    assert sorted(read(runtime, built, each).state for each in ids) == ["sent", "sent"]
    assert keep_messages.compare(runtime, age=-1) == 1
    assert keep_messages.compare(runtime, age=-1) == 0


def lose_one(runtime: Runtime, built: World) -> int:
    """A message whose worker died while it called; its stream."""
    ask(runtime, built, own("ann"))
    range_messages.cut_due(runtime)
    page, _ = hand_over(runtime)
    lose_the_lease(runtime)
    return page.sending.campaign_id


def test_a_message_that_is_sent_again_while_its_family_is_compared_is_not_queued_a_second_time(
    runtime: Runtime, peer: Peer
) -> None:
    built = build(runtime, peer)
    stream_id = lose_one(runtime, built)
    with runtime.db.begin() as conn:
        over = message_ledger.find_over(conn, -1, 10)
    assert unknowns.send_again(runtime, built.organisation_id, stream_id) == 1
    with runtime.db.begin() as conn:
        keep_messages._compare(runtime, conn, over)
    assert left(runtime)[0] == 2
    send_range.drain(runtime)
    assert taken(peer) == 1
    assert keep_messages.compare(runtime, age=-1) == 1
    assert keep_messages.compare(runtime, age=-1) == 0


def test_a_family_that_agreed_and_goes_on_is_not_dropped(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    stream_id = lose_one(runtime, built)
    assert keep_messages.compare(runtime, age=-1) == 1
    assert unknowns.send_again(runtime, built.organisation_id, stream_id) == 1
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET agreed_at = now() - interval '31 days' WHERE agreed_at IS NOT NULL"))
    keep_messages.tidy(runtime)
    assert left(runtime)[0] == 2
    send_range.drain(runtime)
    assert taken(peer) == 1
    keep_messages.tidy(runtime)
    assert left(runtime)[0] == 0


def test_keys_are_forgotten_when_they_are_old(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    ask(runtime, built, own("ann", idempotency_key="a"), own("bob", idempotency_key="b"))
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE message_key SET created_at = now() - interval '4 days' WHERE message_id % 2 = 0"))
    keep_messages.tidy(runtime)
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM message_key")).scalar_one() == 1
