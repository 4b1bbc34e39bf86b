"""Shaping: what a receiver replies slows or stops a pool's mail to it, for a while, and nobody else's."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import orjson
import pytest
from sqlalchemy import text

from app.errors import Invalid, NotFound
from app.flows import ingest, send_range, shape
from app.mail import Accepted, Deferred, Outcome, Refused
from app.models import limit, shaping, webhook
from app.models.limit import Limit
from app.models.receiver import RECEIVERS
from app.models.shaping import SHIPPED, Rule
from app.runtime import Runtime
from tests.peers import Peer
from tests.sending_world import hand_over, launched, query, settle_with, sums
from tests.test_pace import at_receivers, sent, set_limits
from tests.world import World

pytestmark = pytest.mark.settings(range_size=100)

YAHOO = (
    "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints - 4.16.55.1; see https://x"
)
# Replies as receivers publish them, or as senders quote them, and the rule that each is for.
REPLIES = {
    "421-4.7.28 [192.0.2.1] Our system has detected an unusual rate of unsolicited mail - gsmtp": "google_rate",
    "421 4.7.0 This message is suspicious due to the very low reputation of the sending domain.": "google_reputation",
    "421 4.3.2 Connection rate limit exceeded.": "google_limits",
    "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)": (
        "microsoft_reputation"
    ),
    "421 RP-001 (SNT0-MC2-F19) Unfortunately, some messages weren't sent.": "microsoft_rate",
    YAHOO: "yahoo_complaints",
    "421 4.7.1 [TSS09] All messages from 192.0.2.1 will be permanently deferred": "yahoo_permanent",
    "421 imta12.example Too many sessions opened": "comcast_rate",
    "421 Too many connections, slow down. OFR004_104": "orange_connections",
    "smtp; 450 4.7.1 too many messages from you": "slow_down",
}
QUIET = ("550 5.1.1 The email account that you tried to reach does not exist", "452 4.2.2 over quota", "250 4 you")


def to_yahoo(runtime: Runtime, peer: Peer, leads: int = 300) -> World:
    """Half of the leads are at Yahoo."""
    built = launched(runtime, peer, leads=leads)
    at_receivers(runtime, {"yahoo.com": 50, "example.org": 50})
    return built


def answer(runtime: Runtime, reply: str, outcome: type[Deferred] | type[Refused] = Deferred) -> None:
    """One page is answered: whoever is at Yahoo gets this."""
    page, handoffs = hand_over(runtime)
    answers: list[list[Outcome]] = []
    emails = {lead.id: lead.email for lead in page.leads}
    for each in handoffs:
        answers.append([outcome(reply) if "yahoo" in emails[lead] else Accepted("ref") for lead in each.lead_ids])
    settle_with(runtime, page, handoffs, *answers)


def rule(**more: object) -> Rule:
    known = Rule("", "yahoo", "complaints", None, 3600)
    return replace(known, **more)  # type: ignore[arg-type]


def test_a_reply_stops_its_receiver_and_nobody_else(runtime: Runtime, peer: Peer) -> None:
    built = to_yahoo(runtime, peer)
    answer(runtime, YAHOO)
    send_range.drain(runtime)
    assert sent(runtime) == {"example.org": 150}
    assert sums(runtime, built.campaign_id) == {"sent": 150, "open": 150}
    assert query(runtime, "SELECT receiver, per_second, reply, replies, rule FROM shaping") == [
        ("yahoo", None, YAHOO, 50, "yahoo_complaints")
    ]
    assert send_range.claim(runtime) is None


def test_it_ends_by_itself(runtime: Runtime, peer: Peer) -> None:
    built = to_yahoo(runtime, peer)
    answer(runtime, YAHOO)
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE shaping SET until = now()"))
        conn.execute(text("UPDATE pool_limit SET stopped_until = now()"))
        conn.execute(text("UPDATE outbox SET due_at = now() WHERE state = 'ready'"))
    send_range.drain(runtime)  # nobody had to end it
    assert sums(runtime, built.campaign_id) == {"sent": 300}
    assert shape.end_due(runtime) == 1
    assert query(runtime, "SELECT count(*) FROM pool_limit") == [(0,)]
    assert shape.end_due(runtime) == 0


def test_a_person_lifts_it(runtime: Runtime, peer: Peer) -> None:
    built = to_yahoo(runtime, peer)
    answer(runtime, YAHOO)
    with runtime.db.begin() as conn:
        line = shaping.find_lines(conn, built.pool_id)[0]
    with pytest.raises(NotFound):
        shape.lift(runtime, built.organisation_id + 1, built.pool_id, line.id, built.user_id)
    assert shape.lift(runtime, built.organisation_id, built.pool_id, line.id, built.user_id) == "yahoo"
    with pytest.raises(NotFound):
        shape.lift(runtime, built.organisation_id, built.pool_id, line.id, built.user_id)
    assert query(runtime, "SELECT count(*) FROM pool_limit") == [(0,)]
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET due_at = now() WHERE state = 'ready'"))
        assert shaping.find_lines(conn, built.pool_id)[0].ended_at is not None
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 300}


@pytest.mark.parametrize("end", ["by itself", "by hand"])
@pytest.mark.parametrize("of_a_person", [Limit("yahoo", connections=2), Limit("yahoo", messages=100)])
def test_when_it_ends_a_persons_limit_of_connections_is_still_there(
    runtime: Runtime, peer: Peer, end: str, of_a_person: Limit
) -> None:
    built = to_yahoo(runtime, peer)
    set_limits(runtime, built, of_a_person)
    answer(runtime, YAHOO)
    with runtime.db.begin() as conn:
        (line,) = shaping.find_lines(conn, built.pool_id)
    if end == "by hand":
        shape.lift(runtime, built.organisation_id, built.pool_id, line.id, built.user_id)
    else:
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE shaping SET until = now()"))
        assert shape.end_due(runtime) == 1
    with runtime.db.begin() as conn:
        assert limit.list_limits(conn, built.pool_id) == [of_a_person]
    assert query(runtime, "SELECT stopped_until FROM pool_limit") == [(None,)]


def test_a_rate_that_a_reply_brings_holds_beside_the_limit_of_a_person_and_leaves_it(
    runtime: Runtime, peer: Peer
) -> None:
    built = to_yahoo(runtime, peer)
    set_limits(runtime, built, Limit("yahoo", 50.0, 100, 1000), Limit("", 500.0, 500))
    with runtime.db.begin() as conn:
        shaping.begin(conn, built.pool_id, "yahoo", rule(per_second=5.0), "too many complaints", 1)
        shaping.apply(conn, built.pool_id, ["yahoo"])
        left = {each.receiver: each for each in limit.find_left(conn, built.pool_id)}
        assert (left["yahoo"].per_second, left["yahoo"].burst, left["yahoo"].left) == (5.0, 5, 1000)
        assert (left[""].per_second, left[""].burst) == (500.0, 500)
    began = time.monotonic()
    while time.monotonic() < began + 1.5:
        send_range.drain(runtime)
        time.sleep(0.05)
    assert sent(runtime).get("yahoo.com", 0) <= 5 * (time.monotonic() - began) + 5
    assert sent(runtime)["example.org"] == 150
    set_limits(runtime, built, Limit("yahoo", 40.0, 100))  # while it is in effect
    with runtime.db.begin() as conn:
        assert limit.list_limits(conn, built.pool_id) == [Limit("yahoo", 40.0, 100)]
        assert [each.per_second for each in limit.find_left(conn, built.pool_id) if each.receiver == "yahoo"] == [5.0]
        conn.execute(text("UPDATE shaping SET until = now()"))
    shape.end_due(runtime)
    with runtime.db.begin() as conn:
        assert limit.list_limits(conn, built.pool_id) == [Limit("yahoo", 40.0, 100)]
        assert [each.per_second for each in limit.find_left(conn, built.pool_id)] == [40.0]


def test_taking_all_limits_away_leaves_what_a_receiver_asked_for(runtime: Runtime, peer: Peer) -> None:
    built = to_yahoo(runtime, peer)
    set_limits(runtime, built, Limit("yahoo", 50.0, 100))
    answer(runtime, YAHOO)
    set_limits(runtime, built)
    send_range.drain(runtime)
    assert sent(runtime) == {"example.org": 150}


def test_more_of_the_same_replies_prolong_it_and_are_counted(runtime: Runtime, peer: Peer) -> None:
    built = to_yahoo(runtime, peer)
    with runtime.db.begin() as conn:
        for replies in (1, 2):
            shaping.begin(conn, built.pool_id, "yahoo", rule(), "complaints", replies)
            conn.execute(text("UPDATE shaping SET until = now() + interval '1 minute'"))
        shaping.begin(conn, built.pool_id, "yahoo", rule(), "complaints", 3)
    assert query(runtime, "SELECT replies, until > now() + interval '50 minutes' FROM shaping") == [(6, True)]


def test_who_is_refused_is_heard_too(runtime: Runtime, peer: Peer) -> None:
    to_yahoo(runtime, peer)
    answer(runtime, YAHOO.replace("421", "554"), Refused)
    assert query(runtime, "SELECT receiver, rule FROM shaping") == [("yahoo", "yahoo_complaints")]


def told(runtime: Runtime, built: World, handoff_id: int, lead_id: int, minutes: float) -> None:
    """A webhook says that Yahoo put an email off, so many minutes ago."""
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    each = {"id": token_hex(4), "type": "deferred", "time": at.isoformat(), "handoff": handoff_id, "lead": lead_id}
    with runtime.db.begin() as conn:
        webhook.keep(conn, built.pool_id, token_hex(8), orjson.dumps({"events": [each | {"reason": YAHOO}]}))
    assert not ingest.read_waiting(runtime)


def test_what_a_webhook_tells_of_a_receivers_reply_acts_if_it_is_fresh(runtime: Runtime, peer: Peer) -> None:
    built = to_yahoo(runtime, peer)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, *[[Accepted("ref")] * len(each.lead_ids) for each in handoffs])
    at_yahoo = {lead.id for lead in page.leads if "yahoo" in lead.email}
    call, lead_id = next((each.id, lead_id) for each in handoffs for lead_id in each.lead_ids if lead_id in at_yahoo)
    told(runtime, built, call, lead_id, minutes=60)
    assert query(runtime, "SELECT count(*) FROM shaping") == [(0,)]
    told(runtime, built, call, lead_id, minutes=1)
    assert query(runtime, "SELECT receiver, reply FROM shaping") == [("yahoo", YAHOO)]
    send_range.drain(runtime)
    assert sent(runtime) == {"example.org": 150, "yahoo.com": 50}


def test_ones_own_rule_comes_before_the_shipped_ones_and_a_shipped_one_can_be_switched_off(
    runtime: Runtime, peer: Peer
) -> None:
    built = to_yahoo(runtime, peer)
    with runtime.db.begin() as conn:
        shaping.set_rule(conn, built.organisation_id, replace(SHIPPED["yahoo_complaints"], enabled=False))
    answer(runtime, YAHOO)
    assert query(runtime, "SELECT count(*) FROM shaping") == [(0,)]
    with runtime.db.begin() as conn:
        shaping.drop_rule(conn, built.organisation_id, "yahoo_complaints")
        shaping.set_rule(conn, built.organisation_id, rule(receiver="*", pattern=r"\[TSS04\]", per_second=2.0))
    answer(runtime, YAHOO)
    assert query(runtime, "SELECT receiver, per_second FROM shaping") == [("yahoo", 2.0)]


def test_a_receiver_that_nobody_knows_is_its_domain_and_there_are_never_too_many(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    with runtime.db.begin() as conn:
        names = [f"small{number}.example" for number in range(50)]
        conn.execute(text("INSERT INTO domain (name) SELECT unnest(CAST(:names AS text[]))"), {"names": names})
        ids = list(conn.execute(text("SELECT id FROM domain WHERE name LIKE 'small%' ORDER BY id")).scalars())
        shape.note(
            conn, built.organisation_id, built.pool_id, [(each, "421 4.7.0 Too many connections") for each in ids]
        )
    assert query(runtime, "SELECT count(*), max(per_second) FROM shaping") == [(shaping.MOST_UNKNOWN, 1.0)]
    assert query(runtime, "SELECT count(*) FROM pool_limit WHERE receiver LIKE 'small%.example'") == [
        (shaping.MOST_UNKNOWN,)
    ]


@pytest.mark.parametrize(("reply", "key"), REPLIES.items())
def test_each_shipped_rule_knows_its_receivers_reply(reply: str, key: str) -> None:
    asked = SHIPPED[key].receiver
    whose = "example.org" if asked == "*" else asked
    assert next(rule.key for rule in SHIPPED.values() if rule.fits(whose, "a.example") and rule.matches(reply)) == key


@pytest.mark.parametrize("reply", QUIET)
def test_no_shipped_rule_minds_an_ordinary_bounce(reply: str) -> None:
    assert [rule.key for rule in SHIPPED.values() if rule.matches(reply)] == []


def test_every_shipped_rule_could_be_written_by_a_person(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=10)
    with runtime.db.begin() as conn:
        for each in SHIPPED.values():
            shaping.set_rule(conn, built.organisation_id, each)
        kept = {each.key: each for each in shaping.list_rules(conn, built.organisation_id)}
    assert kept == {key: replace(each, changed=True) for key, each in SHIPPED.items()}
    assert {each.receiver for each in SHIPPED.values()} <= {*RECEIVERS, "*"}


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"receiver": "nobody"}, "receiver"),
        ({"pattern": "("}, "pattern"),
        ({"pattern": "x" * 301}, "pattern"),
        ({"pattern": ".*"}, "pattern"),
        ({"pattern": "(a{1000}){1000}"}, "pattern"),
        ({"pattern": r"(a)\1"}, "pattern"),
        ({"per_second": 0.0}, "per_second"),
        ({"seconds": 30}, "minutes"),
        ({"seconds": 10**7}, "minutes"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_name(
    runtime: Runtime, peer: Peer, wrong: dict[str, object], pointer: str
) -> None:
    built = launched(runtime, peer, leads=10)
    with pytest.raises(Invalid) as refused, runtime.db.begin() as conn:
        shaping.set_rule(conn, built.organisation_id, rule(**wrong))
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


def test_no_pattern_takes_longer_than_its_reply_is_long() -> None:
    began = time.monotonic()
    assert not rule(pattern=r"(a+)+(a+)+(a|aa|a?)*$b").matches("a" * 5000 + "c")
    assert time.monotonic() - began < 0.5
