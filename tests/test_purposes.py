"""Pools by purpose: nothing goes through a pool that is there for something else, and what is in the way is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import text

from app.errors import Invalid
from app.flows import launch, message_templates, messages, pools, send_range, senders, stand
from app.flows.messages import NewMessage
from app.flows.senders import Identity
from app.models import account, standing
from app.models.standing import Policy
from app.runtime import Runtime
from tests.peers import Peer, running_sink
from tests.sending_world import query, sums
from tests.test_failover import add_second
from tests.test_messages import ask, build, go, own
from tests.test_messages_way_back import OFFER
from tests.test_policies import wait_for_locks
from tests.test_standing import happened, state
from tests.world import World

pytestmark = pytest.mark.settings(range_size=100, look_every=0.1)


@dataclass(frozen=True, slots=True)
class Three:
    """A sender whose pool is `built.pool_id`; and two pools that nobody names yet."""

    built: World
    other: int
    spare: int


@pytest.fixture
def second() -> Iterator[Peer]:
    with running_sink(seed=2) as peer:
        yield peer


@pytest.fixture
def three(runtime: Runtime, peer: Peer, second: Peer) -> Three:
    built = build(runtime, peer, leads=100)
    other = add_second(runtime, built, second)
    change(runtime, "UPDATE sender SET second_pool_id = NULL")
    return Three(built, other, pools.add_pool(runtime, built.organisation_id, "Spare", second.url))


def change(runtime: Runtime, statement: str, **values: object) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text(statement), values)


def name(runtime: Runtime, built: World, pool_id: int, second: int | None = None, messages: int | None = None) -> None:
    """The sender goes through these pools from now on."""
    known = senders.find(runtime, built.organisation_id, built.sender_id)
    identity = Identity(pool_id, known.name, known.address, known.reply_to, second, messages)
    senders.edit(runtime, built.organisation_id, built.sender_id, identity)


def purpose(runtime: Runtime, built: World, pool_id: int, purpose: str) -> None:
    pools.set_purpose(runtime, built.organisation_id, pool_id, purpose)


def accepted(*peers: Peer) -> list[int]:
    return [peer.sink.book.stats()["accepted"] for peer in peers]


def test_a_message_does_not_fall_back_on_a_pool_for_campaigns_alone_and_a_campaign_does(
    runtime: Runtime, peer: Peer, second: Peer, three: Three
) -> None:
    built = three.built
    purpose(runtime, built, three.other, "marketing")
    name(runtime, built, built.pool_id, second=three.other)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    ask(runtime, built, own("ann"))
    peer.behave(down=1.0)
    go(runtime)
    assert accepted(peer, second) == [0, 100]
    assert sums(runtime, built.campaign_id) == {"sent": 100}
    peer.behave(down=0.0)
    change(runtime, "UPDATE pool SET resume_at = now()")
    change(runtime, "UPDATE outbox SET due_at = now() WHERE state = 'ready'")
    go(runtime)
    assert accepted(peer, second) == [1, 100]


def test_a_campaign_does_not_fall_back_on_a_pool_that_has_become_one_for_messages(
    runtime: Runtime, peer: Peer, second: Peer, three: Three
) -> None:
    built = three.built
    change(runtime, "UPDATE pool SET purpose = 'transactional' WHERE id = :id", id=three.other)
    change(runtime, "UPDATE sender SET second_pool_id = :id", id=three.other)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    ask(runtime, built, own("ann"))
    peer.behave(down=1.0)
    go(runtime)
    assert accepted(peer, second) == [0, 1]


def test_a_message_whose_sender_has_a_pool_for_campaigns_alone_is_refused_by_name(
    runtime: Runtime, peer: Peer, three: Three
) -> None:
    built = three.built
    message_templates.create(runtime, built.organisation_id, built.user_id, OFFER)
    purpose(runtime, built, built.pool_id, "marketing")
    for asked in (own("ann"), NewMessage("ann@example.com", "Receipt")):
        with pytest.raises(Invalid) as refused:
            messages.take(runtime, built.organisation_id, built.user_id, [asked])
        (fault,) = refused.value.faults
        assert fault.pointer == "0.sender"
        assert "for campaigns alone" in fault.message
    assert query(runtime, "SELECT count(*) FROM stream") == [(0,)]
    ask(runtime, built, NewMessage("ann@example.com", "Offer", data={"name": "Ann"}))  # this is marketing
    go(runtime)
    assert accepted(peer) == [1]
    name(runtime, built, built.pool_id, messages=three.other)
    ask(runtime, built, own("ann"))


def test_what_was_accepted_before_is_sent_all_the_same(runtime: Runtime, peer: Peer, three: Three) -> None:
    built = three.built
    ask(runtime, built, own("ann"))
    change(runtime, "UPDATE pool SET purpose = 'marketing' WHERE id = :id", id=built.pool_id)  # as it could be once
    go(runtime)
    assert accepted(peer) == [1]


def test_a_pool_that_carries_messages_cannot_become_one_for_campaigns_alone(runtime: Runtime, three: Three) -> None:
    built = three.built
    purpose(runtime, built, built.pool_id, "marketing")  # nobody has asked for a message yet
    purpose(runtime, built, built.pool_id, "any")
    ask(runtime, built, own("ann"))
    with pytest.raises(Invalid, match="One sender sends its messages through it"):
        purpose(runtime, built, built.pool_id, "marketing")
    name(runtime, built, built.pool_id, messages=three.other)
    purpose(runtime, built, built.pool_id, "marketing")


def test_a_sender_of_messages_cannot_be_left_with_a_pool_for_campaigns_alone(runtime: Runtime, three: Three) -> None:
    built = three.built
    purpose(runtime, built, three.other, "marketing")
    name(runtime, built, three.other)  # it sends campaigns only
    name(runtime, built, built.pool_id)
    ask(runtime, built, own("ann"))
    with pytest.raises(Invalid) as refused:
        name(runtime, built, three.other)
    assert [fault.pointer for fault in refused.value.faults] == ["transactional_pool"]
    assert senders.find(runtime, built.organisation_id, built.sender_id).pool_id == built.pool_id
    name(runtime, built, three.other, messages=built.pool_id)


def test_a_template_whose_messages_have_no_pool_for_messages_stays_one_of_marketing(
    runtime: Runtime, three: Three
) -> None:
    built = three.built
    template_id = message_templates.create(runtime, built.organisation_id, built.user_id, OFFER)
    other_id = message_templates.create(runtime, built.organisation_id, built.user_id, replace(OFFER, name="Other"))
    purpose(runtime, built, built.pool_id, "marketing")
    ask(runtime, built, NewMessage("ann@example.com", "Offer", data={"name": "Ann"}))

    def save(saved: int, name: str, purpose: str) -> None:
        draft = replace(OFFER, name=name, purpose=purpose)
        message_templates.update(runtime, built.organisation_id, built.user_id, saved, draft)

    with pytest.raises(Invalid, match="a pool for campaigns alone") as refused:
        save(template_id, "Offer", "transactional")
    assert [fault.pointer for fault in refused.value.faults] == ["purpose"]
    save(template_id, "Renamed", "marketing")
    save(other_id, "Other", "transactional")  # nobody has asked for a message of it
    name(runtime, built, built.pool_id, messages=three.other)
    save(template_id, "Offer", "transactional")


def test_what_an_older_version_let_be_is_renamed_and_its_pools_are_not_changed_to_such(
    runtime: Runtime, three: Three
) -> None:
    built = three.built
    ask(runtime, built, own("ann"))
    change(runtime, "UPDATE pool SET purpose = 'marketing'")
    change(runtime, "UPDATE pool SET purpose = 'any' WHERE id = :id", id=three.spare)
    renamed = Identity(built.pool_id, "Renamed", "renamed@example.com")
    senders.edit(runtime, built.organisation_id, built.sender_id, renamed)
    assert senders.find(runtime, built.organisation_id, built.sender_id).name == "Renamed"
    with pytest.raises(Invalid, match="choose one for messages"):
        name(runtime, built, three.other)
    name(runtime, built, built.pool_id, messages=three.spare)
    with pytest.raises(Invalid, match="choose one for messages"):
        name(runtime, built, built.pool_id)


@pytest.mark.parametrize(
    ("place", "fit"),
    [("quarantine_pool_id", {"any"}), ("better_pool_id", {"any", "marketing"})],
)
def test_the_pools_of_standing_carry_what_goes_through_them(
    runtime: Runtime, three: Three, place: str, fit: set[str]
) -> None:
    organisation_id, chosen = three.built.organisation_id, replace(Policy(), **{place: three.other})
    for each in ("transactional", "dedicated", "marketing", "any"):
        stand.set_policy(runtime, organisation_id, Policy())
        purpose(runtime, three.built, three.other, each)
        if each in fit:
            stand.set_policy(runtime, organisation_id, chosen)
            continue
        with pytest.raises(Invalid) as refused:
            stand.set_policy(runtime, organisation_id, chosen)
        assert [fault.pointer for fault in refused.value.faults] == [place]
    stand.set_policy(runtime, organisation_id, chosen)
    for each in {"transactional", "dedicated", "marketing"} - fit:
        with pytest.raises(Invalid) as refused:
            purpose(runtime, three.built, three.other, each)
        assert [fault.pointer for fault in refused.value.faults] == ["purpose"]


def test_of_two_people_the_second_sees_what_the_first_has_said_of_a_pool(runtime: Runtime, three: Three) -> None:
    built = three.built
    refused: list[str] = []

    def choose() -> None:
        for act in (
            lambda: name(runtime, built, three.other),
            lambda: stand.set_policy(runtime, built.organisation_id, replace(Policy(), better_pool_id=three.other)),
        ):
            try:
                act()
            except Invalid as invalid:
                refused.extend(fault.pointer for fault in invalid.faults)

    thread = threading.Thread(target=choose)
    with runtime.db.begin() as conn:
        account.hold(conn, built.organisation_id)
        thread.start()
        wait_for_locks(runtime, 1)
        conn.execute(text("UPDATE pool SET purpose = 'transactional' WHERE id = :id"), {"id": three.other})
    thread.join()
    assert refused == ["pool", "better_pool_id"]


def test_where_a_sender_was_moved_to_it_uses_the_pool(runtime: Runtime, three: Three) -> None:
    built = three.built
    change(runtime, "UPDATE sender SET state = 'trusted', moved_to = :id", id=three.other)
    with pytest.raises(Invalid, match="One sender sends its campaigns through it"):
        purpose(runtime, built, three.other, "transactional")
    identity = Identity(three.other, "Other", "other@example.com")
    purpose(runtime, built, three.other, "dedicated")
    with pytest.raises(Invalid, match="dedicated to another sender"):
        senders.add(runtime, built.organisation_id, identity)
    ask(runtime, built, own("ann"))
    purpose(runtime, built, three.other, "marketing")  # a trusted sender's messages go their own way
    change(runtime, "UPDATE sender SET state = 'quarantined'")
    purpose(runtime, built, three.other, "any")
    with pytest.raises(Invalid, match="One sender sends its messages through it"):
        purpose(runtime, built, three.other, "marketing")


def test_nobody_is_moved_to_a_pool_that_was_named_when_nobody_asked_what_it_is_for(
    runtime: Runtime, peer: Peer, second: Peer, three: Three
) -> None:
    built = three.built
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    change(runtime, "UPDATE pool SET purpose = 'transactional' WHERE id = :id", id=three.other)
    with runtime.db.begin() as conn:
        standing.set_policy(conn, built.organisation_id, replace(Policy(), quarantine_pool_id=three.other))
    happened(runtime, built, sent=1000, bounced=60)
    assert stand.judge_senders(runtime) == 1
    assert state(runtime, built) == "paused"
    send_range.drain(runtime)
    assert accepted(peer, second) == [0, 0]
