"""Messages called back after they were cut into ranges: each is sent or cancelled, never both, and never neither."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.config import Settings
from app.errors import Conflict
from app.flows import keep_messages, messages, rescue, send_range, streams, unknowns
from app.models import message, outbox
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, later, lose_the_lease, one, query, sums
from tests.test_messages import ask, build, go, letters, own, read, taken
from tests.world import World

MANY = messages.ENOUGH  # that are a range as soon as they are accepted


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(replace(settings, look_every=0.1))
    yield opened
    opened.close()


def call_back(runtime: Runtime, built: World, message_id: str) -> bool:
    """Whether it could be called back."""
    try:
        with runtime.db.begin() as conn:
            messages.cancel(conn, built.organisation_id, message_id)
    except Conflict:
        return False
    return True


def accept(runtime: Runtime, built: World, many: int = MANY) -> tuple[int, list[str]]:
    """The stream, and messages for now that are a range of it, in the range's order."""
    ids = ask(runtime, built, *(own(f"n{number}") for number in range(many)))
    return int(str(one(runtime, "SELECT campaign_id FROM stream")["campaign_id"])), ids


def states(runtime: Runtime, built: World, ids: list[str]) -> list[str]:
    with runtime.db.begin() as conn:
        found = {each.id: each.state for each in messages.find_page(conn, built.organisation_id, limit=2000)}
    return [found[each] for each in ids]


def agrees(runtime: Runtime) -> bool:
    """Whether everything is over, and ranges, calls and record say the same of every message; nothing is mended."""
    before = query(runtime, "SELECT id, size, position, state FROM outbox ORDER BY id")
    keep_messages.compare(runtime, age=-7200)
    left = query(runtime, "SELECT FROM outbox WHERE parent_id IS NULL AND agreed_at IS NULL")
    return not left and query(runtime, "SELECT id, size, position, state FROM outbox ORDER BY id") == before


def test_what_stands_in_a_range_is_called_back_and_the_rest_of_it_goes(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    stream_id, ids = accept(runtime, built)
    back = [ids[7], ids[0], ids[-1]]
    for each in back:
        assert call_back(runtime, built, each)
        assert not call_back(runtime, built, each)
        status = read(runtime, built, each)
        assert (status.state, [step.kind for step in status.events]) == ("cancelled", ["cancelled"])
    assert sums(runtime, stream_id) == {"cancelled": 3, "open": MANY - 3}
    go(runtime)
    assert sums(runtime, stream_id) == {"cancelled": 3, "sent": MANY - 3}
    assert [each for each, state in zip(ids, states(runtime, built, ids), strict=True) if state == "cancelled"] == [
        each for each in ids if each in back
    ]
    assert taken(peer) == MANY - 3
    assert {email["to"] for email in letters(peer)}.isdisjoint({read(runtime, built, each).to for each in back})
    assert not call_back(runtime, built, ids[1])
    assert agrees(runtime)


def test_a_range_of_which_all_are_called_back_is_over(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    stream_id, ids = accept(runtime, built)
    random.Random(3).shuffle(ids)
    assert all(call_back(runtime, built, each) for each in ids)
    assert one(runtime, "SELECT state, position FROM outbox") == {"state": "done", "position": MANY}
    assert sums(runtime, stream_id) == {"cancelled": MANY}
    assert send_range.claim(runtime) is None
    assert agrees(runtime)


def test_a_message_that_a_worker_has_in_hand_is_not_called_back(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    stream_id, ids = accept(runtime, built)
    lease = send_range.claim(runtime)
    assert lease is not None
    page = send_range.load(runtime, lease)
    assert not call_back(runtime, built, ids[0])  # its page was read
    send_range.send(runtime, page)
    assert not call_back(runtime, built, ids[0])
    assert sums(runtime, stream_id) == {"sent": MANY}


def test_a_page_that_was_read_before_a_message_was_called_back_is_not_handed_over(runtime: Runtime, peer: Peer) -> None:
    """Its worker slept; the range was freed, and is called back from, and claimed by another."""
    built = build(runtime, peer)
    stream_id, ids = accept(runtime, built)
    lease = send_range.claim(runtime)
    assert lease is not None
    page = send_range.load(runtime, lease)
    lose_the_lease(runtime)
    assert call_back(runtime, built, ids[0])
    send_range.send(runtime, page)  # it wakes up
    assert taken(peer) == 0
    later(runtime, 60)
    send_range.drain(runtime)
    assert sums(runtime, stream_id) == {"cancelled": 1, "sent": MANY - 1}
    assert agrees(runtime)


def test_whoever_was_handed_over_keeps_their_place_when_others_are_called_back(runtime: Runtime, peer: Peer) -> None:
    """Who opened and who clicked is known by their places in the first range."""
    built = build(runtime, peer)
    stream_id, ids = accept(runtime, built)
    [numbers] = query(runtime, "SELECT lead_ids FROM outbox")[0]
    assert isinstance(numbers, list)
    with runtime.db.begin() as conn:
        lease = outbox.claim(conn, stream_id, runtime.id, 60.0, most=20)
    assert lease is not None
    send_range.send(runtime, send_range.load(runtime, lease))
    asked = [(stream_id, number) for number in numbers[:20]]
    with runtime.db.begin() as conn:
        before = message.find_places(conn, asked)
        assert message.leave_range(conn, lease.range_id, numbers[5]) is None  # it has left
    assert not call_back(runtime, built, ids[5])
    assert call_back(runtime, built, ids[40])
    assert call_back(runtime, built, ids[21])
    with runtime.db.begin() as conn:
        assert message.find_places(conn, asked) == before
    send_range.drain(runtime)
    assert sums(runtime, stream_id) == {"cancelled": 2, "sent": MANY - 2}
    assert agrees(runtime)


def test_what_was_put_off_is_called_back_from_its_later_range(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    stream_id, ids = accept(runtime, built)
    peer.behave(defer=1.0)
    go(runtime)
    assert set(states(runtime, built, ids)) == {"queued"}
    assert call_back(runtime, built, ids[3])
    assert call_back(runtime, built, ids[4])
    peer.behave(defer=0.0)
    later(runtime, 7200)
    go(runtime)
    assert sums(runtime, stream_id) == {"cancelled": 2, "sent": MANY - 2}
    assert taken(peer) == MANY - 2
    assert agrees(runtime)


def test_one_that_is_sent_again_though_it_may_have_left_is_not_called_back(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    stream_id, ids = accept(runtime, built)
    hand_over(runtime)
    lose_the_lease(runtime)
    assert set(states(runtime, built, ids)) == {"unknown"}
    assert not call_back(runtime, built, ids[0])
    assert unknowns.send_again(runtime, built.organisation_id, stream_id) == MANY
    assert read(runtime, built, ids[0]).state == "queued"
    assert not call_back(runtime, built, ids[0])
    send_range.drain(runtime)
    assert sums(runtime, stream_id) == {"sent": MANY}


def test_messages_of_a_range_that_killed_its_workers_are_called_back_and_with_the_last_its_alert_ends(
    runtime: Runtime, peer: Peer
) -> None:
    built = build(runtime, peer)
    stream_id, ids = accept(runtime, built)
    for _ in range(rescue.MOST_CRASHES):
        assert send_range.claim(runtime) is not None
        lose_the_lease(runtime)
        later(runtime, 3600)
    assert streams.look(runtime, built.organisation_id, stream_id).quarantined == MANY
    alerts = "SELECT kind FROM alert WHERE cleared_at IS NULL"
    for each in ids:
        assert query(runtime, alerts) == [("quarantined",)]
        assert call_back(runtime, built, each)
    assert query(runtime, alerts) == []
    assert streams.look(runtime, built.organisation_id, stream_id).quarantined == 0
    assert sums(runtime, stream_id) == {"cancelled": MANY}
    assert agrees(runtime)


def test_what_workers_send_while_programs_call_it_back_is_sent_or_cancelled(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer)
    ids = [each for _ in range(16) for each in accept(runtime, built)[1]]
    stream_id = accept(runtime, built)[0]
    asked = ids[:]
    random.Random(7).shuffle(asked)
    back: list[str] = []
    start = threading.Barrier(5)

    def take_back(some: list[str]) -> None:
        start.wait()
        back.extend(each for each in some if call_back(runtime, built, each))

    def work() -> None:
        start.wait()
        send_range.drain(runtime)

    threads = [threading.Thread(target=take_back, args=(asked[part::3],)) for part in range(3)]
    threads += [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    send_range.drain(runtime)
    assert back
    assert len(set(back)) == len(back) < len(ids)
    found = dict(zip(ids, states(runtime, built, ids), strict=True))
    assert {each for each, state in found.items() if state == "cancelled"} == set(back)
    assert {state for each, state in found.items() if each not in set(back)} == {"sent"}
    assert taken(peer) == len(ids) + MANY - len(back)
    assert sums(runtime, stream_id) == {"cancelled": len(back), "sent": len(ids) + MANY - len(back)}
    assert agrees(runtime)


def test_a_call_back_waits_for_whoever_is_just_claiming_and_the_other_way_round_passes_by(
    runtime: Runtime, peer: Peer
) -> None:
    built = build(runtime, peer)
    _, ids = accept(runtime, built)
    with runtime.db.begin() as conn:
        messages.cancel(conn, built.organisation_id, ids[0])
        assert send_range.claim(runtime) is None  # passed over while its row is locked
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(call_back(runtime, built, ids[1])))
    with runtime.db.begin() as conn:
        assert outbox.claim(conn, 1, runtime.id, 60.0) or outbox.claim(conn, 2, runtime.id, 60.0)
        thread.start()
        while not query(runtime, "SELECT FROM pg_locks WHERE NOT granted"):
            thread.join(0.005)
    thread.join()
    assert done == [False]
