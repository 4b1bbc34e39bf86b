"""Evidence by webhook: it resolves what is unknown, whenever it comes, and doubles nothing."""

from __future__ import annotations

import pytest

from app.errors import ProviderDown, ProviderUnsure
from app.flows import finish, resolve, unknowns
from app.flows.resolve import Evidence
from app.mail import Accepted, Deferred, Kind, Refused
from app.models.handoff import HandOff
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, launched, letters_of, lose_the_lease, one, query, settle_with, sums
from tests.test_sending import events, state
from tests.world import World

pytestmark = pytest.mark.settings(range_size=100)

LOST = ProviderUnsure("the reply was lost")


def tell(
    runtime: Runtime,
    built: World,
    handoff: HandOff,
    leads: list[int],
    outcome: Kind = Kind.SENT,
    pool: int | None = None,
) -> int:
    """A webhook speaks of these leads of a call."""
    with runtime.db.begin() as conn:
        spoken = [Evidence(handoff.id, lead_id, outcome) for lead_id in leads]
        return resolve.use_evidence(conn, built.pool_id if pool is None else pool, spoken)


def test_a_webhook_shows_that_an_unknown_email_was_sent(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], LOST)
    assert tell(runtime, built, call, call.lead_ids[:49]) == 49
    assert sums(runtime, built.campaign_id) == {"sent": 49, "unknown": 1}
    assert events(runtime, built.campaign_id) == {"sent": 49, "unknown": 1}
    finish.try_finish(runtime, built.campaign_id)
    assert state(runtime, built.campaign_id) == "settling"
    assert tell(runtime, built, call, call.lead_ids[49:]) == 1
    assert finish.finish_due(runtime) == 1  # without waiting for the day to end
    assert state(runtime, built.campaign_id) == "finished"


def test_the_same_webhook_ten_times_changes_nothing_more(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], LOST)
    assert [tell(runtime, built, call, call.lead_ids) for _ in range(10)] == [50] + [0] * 9
    assert events(runtime, built.campaign_id) == {"sent": 50, "unknown": 0}


def test_an_email_that_the_provider_dropped_is_refused(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], LOST)
    tell(runtime, built, call, call.lead_ids[:2], Kind.REFUSED)
    assert sums(runtime, built.campaign_id) == {"refused": 2, "unknown": 48}


def test_a_webhook_that_comes_before_the_worker_dies_is_not_forgotten(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50)
    _, [call] = hand_over(runtime)
    tell(runtime, built, call, call.lead_ids[:20])
    tell(runtime, built, call, call.lead_ids[20:30])
    lose_the_lease(runtime)
    assert letters_of(runtime) == ["s" * 30 + "u" * 20]
    assert sums(runtime, built.campaign_id) == {"sent": 30, "unknown": 20}
    assert events(runtime, built.campaign_id) == {"sent": 30, "unknown": 20}


@pytest.mark.parametrize(
    "answer", [LOST, ProviderDown("HTTP 503"), [Deferred("later")] * 50], ids=["lost", "down", "deferred"]
)
def test_a_webhook_that_comes_before_the_answer_holds_against_it(runtime: Runtime, peer: Peer, answer: object) -> None:
    built = launched(runtime, peer, leads=50)
    page, [call] = hand_over(runtime)
    tell(runtime, built, call, call.lead_ids[:10])
    settle_with(runtime, page, [call], answer)
    found = sums(runtime, built.campaign_id)
    assert found.pop("sent") == 10 and sum(found.values()) == 40


def test_what_was_sent_or_refused_is_left_alone(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=2)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], [Accepted("ref"), Refused("550 no")])
    assert tell(runtime, built, call, call.lead_ids) == 0
    assert sums(runtime, built.campaign_id) == {"sent": 1, "refused": 1}


@pytest.mark.parametrize(
    "order", [[Kind.SENT, Kind.REFUSED], [Kind.REFUSED, Kind.SENT]], ids=["then dropped", "dropped"]
)
@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
def test_that_an_email_was_dropped_is_the_last_word_whichever_webhook_comes_first(
    runtime: Runtime, peer: Peer, order: list[Kind], early: bool
) -> None:
    built = launched(runtime, peer, leads=2)
    page, [call] = hand_over(runtime)
    if not early:
        settle_with(runtime, page, [call], LOST)
    for kind in order:
        tell(runtime, built, call, call.lead_ids[:1], kind)
    if early:
        lose_the_lease(runtime)
    assert sums(runtime, built.campaign_id) == {"refused": 1, "unknown": 1}
    kept = {kind: leads for kind, leads in events(runtime, built.campaign_id).items() if leads}
    assert kept == {"refused": 1, "unknown": 1}


def test_a_drop_that_is_known_before_the_answer_holds_against_it(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=2)
    page, [call] = hand_over(runtime)
    tell(runtime, built, call, call.lead_ids[:1], Kind.REFUSED)
    settle_with(runtime, page, [call], [Accepted("ref"), Accepted("ref")])
    assert sums(runtime, built.campaign_id) == {"sent": 1, "refused": 1}


def test_webhooks_of_another_pool_or_of_other_leads_prove_nothing(runtime: Runtime, peer: Peer) -> None:
    built, other = launched(runtime, peer, leads=50), launched(runtime, peer, leads=50)
    pages = [hand_over(runtime), hand_over(runtime)]
    for page, calls in pages:
        settle_with(runtime, page, calls, LOST)
    calls = {page.sending.campaign_id: calls[0] for page, calls in pages}
    ours, theirs = calls[built.campaign_id], calls[other.campaign_id]
    assert tell(runtime, built, ours, ours.lead_ids, pool=other.pool_id) == 0
    assert tell(runtime, built, ours, theirs.lead_ids) == 0
    assert tell(runtime, built, HandOff(10**9, ours.key, []), ours.lead_ids) == 0
    assert sums(runtime, built.campaign_id) == {"unknown": 50}


def test_what_a_person_left_is_still_corrected(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], LOST)
    assert unknowns.leave(runtime, built.organisation_id, built.campaign_id) == 50
    assert state(runtime, built.campaign_id) == "finished"
    assert tell(runtime, built, call, call.lead_ids[:5]) == 5
    assert sums(runtime, built.campaign_id) == {"sent": 5, "failed": 45}
    assert events(runtime, built.campaign_id) == {"sent": 5, "failed": 45, "unknown": 0}
    assert state(runtime, built.campaign_id) == "finished"


def test_somebody_who_was_mailed_twice_is_never_passed_over_in_silence(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=50)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], LOST)
    unknowns.send_again(runtime, built.organisation_id, built.campaign_id)
    assert query(runtime, "SELECT kind FROM alert") == []
    tell(runtime, built, call, call.lead_ids[:3])
    told = one(runtime, "SELECT kind, message FROM alert")
    assert told["kind"] == "doubled" and "3 emails" in str(told["message"])
    assert sums(runtime, built.campaign_id) == {"open": 50}  # they are in the later range, and counted there


def test_a_provider_that_took_what_it_had_put_off_is_told_of(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=2)
    page, [call] = hand_over(runtime)
    settle_with(runtime, page, [call], [Accepted("ref"), Deferred("451 later")])
    tell(runtime, built, call, call.lead_ids)
    assert one(runtime, "SELECT kind FROM alert")["kind"] == "doubled"
