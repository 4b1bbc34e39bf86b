"""Promises of the pages about reputation: what holds mail back is shown with its cause, and a person may change it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import text

from app.flows import launch, pools, rate, senders, shape, stand, warm
from app.flows.senders import Identity
from app.models import campaign_rate, lead, shaping, standing, warm_up
from app.models.campaign_rate import Rate
from app.models.shaping import SHIPPED
from app.runtime import Runtime
from tests.web.campaign_world import NOWHERE, add_draft, add_leads, add_sender
from tests.web.conftest import People, Visit
from tests.web.programs import faults, program
from tests.web.test_campaigns import words
from tests.web.test_pools import fault_of


@pytest.fixture
def sender_id(runtime: Runtime, people: People) -> int:
    return add_sender(runtime, people.ours)


def pool_of(runtime: Runtime, people: People, sender_id: int) -> int:
    return senders.find(runtime, people.ours, sender_id).pool_id


def begin_warm_up(runtime: Runtime, people: People, pool_id: int, *curve: int, day: int = 1) -> None:
    with runtime.db.begin() as conn:
        first = warm_up.today(conn) - timedelta(days=day - 1)
    warm.set_warm_up(runtime, people.ours, first, curve, pool_id=pool_id)


# -- Warm-ups ----------------------------------------------------------------------------------------------------------


def test_a_pool_begins_to_warm_up_and_its_page_says_how_far_it_is(
    runtime: Runtime, people: People, ann: Visit, sender_id: int
) -> None:
    pool_id = pool_of(runtime, people, sender_id)
    page = ann.get(f"/pools/{pool_id}/warm-up?curve=quick").text
    assert "50 100 500 1000" in page
    with runtime.db.begin() as conn:
        first = warm_up.today(conn) - timedelta(days=2)
    answer = ann.post(f"/pools/{pool_id}/warm-up", {"starts_on": first.isoformat(), "curve": "50 100\n200  400"})
    assert answer.location == f"/pools/{pool_id}"
    page = words(ann.get(f"/pools/{pool_id}").text)
    assert "day 3 of 4" in page
    assert "200 emails in 24 hours, 0 of them sent." in page
    assert "Tomorrow 400." in page
    ann.post(f"/pools/{pool_id}/warm-up/end")
    with runtime.db.begin() as conn:
        assert warm_up.find(conn, people.ours, pool_id=pool_id) == []


@pytest.mark.parametrize("curve", ["", "50, 100", "1,000 2,000", "ten", "0", "5 -1", "9" * 12, "1 " * 367])
def test_a_curve_that_cannot_be_read_is_named_kept_and_changes_nothing(
    runtime: Runtime, people: People, ann: Visit, sender_id: int, curve: str
) -> None:
    pool_id = pool_of(runtime, people, sender_id)
    begin_warm_up(runtime, people, pool_id, 10, 20)
    answer = ann.post(f"/pools/{pool_id}/warm-up", {"starts_on": "2026-01-01", "curve": curve})
    assert answer.status_code == 422
    assert fault_of(answer.text, "curve")
    assert 'value="2026-01-01"' in answer.text
    assert curve[:300].strip() in answer.text
    with runtime.db.begin() as conn:
        assert warm_up.find(conn, people.ours, pool_id=pool_id)[0].curve == (10, 20)


def test_a_senders_domain_warms_up_from_its_page(runtime: Runtime, people: People, ann: Visit, sender_id: int) -> None:
    answer = ann.post(f"/senders/{sender_id}/warm-up", {"starts_on": "2026-01-01", "curve": "5 10"})
    assert answer.location == f"/senders/{sender_id}/standing"
    with runtime.db.begin() as conn:
        assert [each.domain for each in warm_up.find(conn, people.ours, domain="bakery.example.com")] == [
            "bakery.example.com"
        ]
    assert "Warm-up of bakery.example.com" in ann.get(f"/senders/{sender_id}/standing").text


# -- Campaigns ---------------------------------------------------------------------------------------------------------


def launched(runtime: Runtime, people: People, sender_id: int, leads: int = 60) -> int:
    add_leads(runtime, people.ours, {f"lead{number}": "" for number in range(leads)})
    campaign_id = add_draft(runtime, people, sender_id=sender_id)
    launch.launch(runtime, people.ours, campaign_id)
    return campaign_id


def test_a_campaign_says_what_a_warm_up_does_to_its_end_before_and_after_its_launch(
    runtime: Runtime, people: People, ann: Visit, sender_id: int
) -> None:
    pool_id = pool_of(runtime, people, sender_id)
    add_leads(runtime, people.ours, {f"lead{number}": "" for number in range(60)})
    campaign_id = add_draft(runtime, people, sender_id=sender_id)
    assert "at the earliest" not in ann.get(f"/campaigns/{campaign_id}/launch").text
    begin_warm_up(runtime, people, pool_id, 10, 20, 40)
    said = "at the earliest: the warm-up of its pool lets no more go"
    assert said in words(ann.get(f"/campaigns/{campaign_id}/launch").text)
    launch.launch(runtime, people.ours, campaign_id)
    assert said in words(ann.get(f"/campaigns/{campaign_id}").text)
    begin_warm_up(runtime, people, pool_id, *[1] * 366)
    rate.set_rate(runtime, people.ours, campaign_id, Rate(1, "hour"))
    assert "at the earliest" in words(ann.get(f"/campaigns/{campaign_id}").text)


def test_a_campaigns_rate_is_set_changed_and_taken_away_while_it_sends(
    runtime: Runtime, people: People, ann: Visit, sender_id: int
) -> None:
    campaign_id = launched(runtime, people, sender_id)
    assert ann.get(f"/campaigns/{campaign_id}/rate").status_code == 200
    ann.post(f"/campaigns/{campaign_id}/rate", {"emails": "1,800", "per": "hour"})
    page = words(ann.get(f"/campaigns/{campaign_id}").text)
    assert "1,800 an hour at most" in page
    copied = ann.post(f"/campaigns/{campaign_id}/duplicate").location.split("/")[2]
    assert "1,800 an hour at most" in words(ann.get(f"/campaigns/{copied}").text)
    ann.post(f"/campaigns/{campaign_id}/rate", {"emails": "", "per": "hour"})
    with runtime.db.begin() as conn:
        assert campaign_rate.find(conn, campaign_id) is None


@pytest.mark.parametrize(
    ("emails", "per", "field"), [("0", "second", "emails"), ("x", "hour", "emails"), ("5", "year", "per")]
)
def test_a_rate_that_makes_no_sense_is_named_and_kept(
    runtime: Runtime, people: People, ann: Visit, sender_id: int, emails: str, per: str, field: str
) -> None:
    campaign_id = launched(runtime, people, sender_id)
    answer = ann.post(f"/campaigns/{campaign_id}/rate", {"emails": emails, "per": per})
    assert answer.status_code == 422
    assert fault_of(answer.text, field)
    assert f'value="{emails}"' in answer.text


def test_nobody_sets_the_rate_of_anothers_campaign(
    runtime: Runtime, people: People, eve: Visit, sender_id: int
) -> None:
    campaign_id = launched(runtime, people, sender_id)
    assert eve.get(f"/campaigns/{campaign_id}/rate").status_code == 404
    assert eve.post(f"/campaigns/{campaign_id}/rate", {"emails": "1", "per": "hour"}).status_code == 404


# -- Shaping -----------------------------------------------------------------------------------------------------------


def replied(runtime: Runtime, people: People, pool_id: int, reply: str) -> None:
    with runtime.db.begin() as conn:
        domain = lead.number_domains(conn, ["yahoo.com"])["yahoo.com"]
        shape.note(conn, people.ours, pool_id, [(domain, reply)])


def test_what_a_reply_brought_about_is_shown_with_the_reply_and_can_be_lifted(
    runtime: Runtime, people: People, ann: Visit, eve: Visit, sender_id: int
) -> None:
    pool_id = pool_of(runtime, people, sender_id)
    replied(runtime, people, pool_id, "421 4.7.0 [TSS04] <b>Messages</b> temporarily deferred")
    page = ann.get(f"/pools/{pool_id}").text
    assert "nothing goes" in page and "&lt;b&gt;Messages" in page and "Yahoo" in page
    with runtime.db.begin() as conn:
        line = shaping.find_lines(conn, pool_id)[0]
    assert eve.post(f"/pools/{pool_id}/shaping/{line.id}/lift").status_code in (302, 404)
    with runtime.db.begin() as conn:
        assert shaping.find_lines(conn, pool_id)[0].ended_at is None
    ann.post(f"/pools/{pool_id}/shaping/{line.id}/lift")
    assert "lifted by Ann" in words(ann.get(f"/pools/{pool_id}").text)


def test_rules_are_listed_written_changed_and_put_back(runtime: Runtime, people: People, ann: Visit) -> None:
    page = ann.get("/shaping").text
    assert all(rule.receiver == "*" or rule.why.split("'")[0] in page for rule in SHIPPED.values())
    own = {"receiver": "Yahoo and AOL", "pattern": "slow <down>", "per_second": "2.5", "minutes": "30", "enabled": "y"}
    assert ann.post("/shaping/new", own).location == "/shaping"
    assert ann.post("/shaping/google_rate", own | {"receiver": "gmail.com", "enabled": ""}).location == "/shaping"
    with runtime.db.begin() as conn:
        mine, *_ = rules = shaping.list_rules(conn, people.ours)
        assert (mine.receiver, mine.pattern, mine.per_second, mine.seconds) == ("yahoo", "slow <down>", 2.5, 1800)
        changed = next(each for each in rules if each.key == "google_rate")
        assert (changed.receiver, changed.changed) == ("gmail.com", True)
    ann.post("/shaping/google_rate/delete")
    ann.post(f"/shaping/{mine.key}/delete")
    with runtime.db.begin() as conn:
        assert shaping.list_rules(conn, people.ours) == list(SHIPPED.values())


def test_a_rule_that_makes_no_sense_is_named_and_kept(ann: Visit) -> None:
    typed = {"receiver": "nobody", "pattern": "(", "per_second": "-1", "minutes": "0", "enabled": "y"}
    answer = ann.post("/shaping/new", typed)
    assert answer.status_code == 422
    for field in ("receiver", "pattern", "per_second", "minutes"):
        assert fault_of(answer.text, field)
    assert 'value="nobody"' in answer.text and 'value="("' in answer.text


def test_nobody_changes_anothers_rules(runtime: Runtime, people: People, ann: Visit, eve: Visit) -> None:
    own = {"receiver": "", "pattern": "slow down", "per_second": "", "minutes": "30", "enabled": "y"}
    ann.post("/shaping/new", own)
    with runtime.db.begin() as conn:
        key = shaping.list_rules(conn, people.ours)[0].key
    assert eve.get(f"/shaping/{key}").status_code == 404
    assert eve.post(f"/shaping/{key}", own).status_code == 404
    assert eve.post(f"/shaping/{key}/delete").status_code == 404


# -- Standing and purposes ---------------------------------------------------------------------------------------------


def test_a_senders_page_shows_its_figures_and_its_moves_and_a_person_moves_it(
    runtime: Runtime, people: People, ann: Visit, sender_id: int
) -> None:
    campaign_id = launched(runtime, people, sender_id)
    with runtime.db.begin() as conn:
        now = replace(standing.find_standing(conn, people.ours, sender_id), sent=1000, bounced=60, complained=0)
        to = standing.judge(standing.Policy(), now)
        assert to is not None
        standing.move(conn, now, to)
    page = words(ann.get(f"/senders/{sender_id}/standing").text)
    assert "paused since" in page
    assert "60 of 1,000 emails came back (6 %; 5 % are put up with)." in page
    assert "Sent 1,000, came back 60, complained 0." in page
    assert "The sender “Old Mill Bakery” is paused: 60 of 1,000" in words(ann.get(f"/campaigns/{campaign_id}").text)
    assert "paused" in words(ann.get("/senders").text)
    ann.post(f"/senders/{sender_id}/standing", {"to": "good"})
    page = words(ann.get(f"/senders/{sender_id}/standing").text)
    assert "in good standing since" in page and "By Ann." in page


def test_who_is_no_admin_sees_a_standing_and_changes_nothing(
    runtime: Runtime, people: People, bob: Visit, eve: Visit, sender_id: int
) -> None:
    assert bob.get(f"/senders/{sender_id}/standing").status_code == 200
    assert bob.post(f"/senders/{sender_id}/standing", {"to": "paused"}).status_code == 403
    assert eve.get(f"/senders/{sender_id}/standing").status_code == 404
    for path in ("/standing", "/shaping", f"/senders/{sender_id}/warm-up", "/pools/1/warm-up"):
        assert bob.get(path).status_code == 403


def test_thresholds_are_changed_in_percent_and_bad_ones_are_named(
    runtime: Runtime, people: People, ann: Visit, sender_id: int
) -> None:
    pool_id = pool_of(runtime, people, sender_id)
    typed = {
        "days": "14",
        "bounced_share": "4.5",
        "bounced_after": "400",
        "complained_share": "0.25",
        "complained_after": "2000",
        "quarantine_pool_id": str(pool_id),
        "back_after_days": "10",
        "better_pool_id": "",
        "better_after_days": "60",
        "better_after": "5000",
    }
    assert ann.post("/standing", typed).location == "/senders"
    with runtime.db.begin() as conn:
        assert standing.find_policy(conn, people.ours) == standing.Policy(
            14, 400, 0.045, 2000, 0.0025, pool_id, 10, None, 60, 5000
        )
    answer = ann.post("/standing", typed | {"days": "0", "bounced_share": "", "better_pool_id": str(pool_id)})
    assert answer.status_code == 422
    assert fault_of(answer.text, "bounced_share")
    assert 'value="0.25"' in answer.text


def test_a_pool_is_there_for_what_it_says(runtime: Runtime, people: People, ann: Visit, sender_id: int) -> None:
    pool_id = pool_of(runtime, people, sender_id)
    ann.post(f"/pools/{pool_id}/purpose", {"purpose": "transactional"})
    assert "One sender sends its campaigns through it" in words(ann.get(f"/pools/{pool_id}").text)
    other = pools.add_pool(runtime, people.ours, "Receipts", NOWHERE)
    ann.post(f"/pools/{other}/purpose", {"purpose": "transactional"})
    ann.post(f"/pools/{pool_id}/purpose", {"purpose": "dedicated"})
    typed = {"name": "Shop", "address": "shop@example.com", "pool": str(other), "transactional_pool": str(pool_id)}
    answer = ann.post("/senders/new", typed)
    assert answer.status_code == 422
    assert "for messages alone" in fault_of(answer.text, "pool")
    assert "dedicated to another sender" in fault_of(answer.text, "transactional_pool")
    known = senders.find(runtime, people.ours, sender_id)
    identity = Identity(known.pool_id, known.name, known.address, None, None, other)
    senders.edit(runtime, people.ours, sender_id, identity)
    assert "messages: Receipts" in words(ann.get("/senders").text)
    assert stand.judge_senders(runtime) == 0


def test_a_message_from_who_sends_campaigns_alone_is_refused_at_its_sender(
    app: Flask, runtime: Runtime, people: People, ann: Visit, sender_id: int
) -> None:
    shop = program(app, runtime, people)
    own = {"to": "ann@example.com", "subject": "Hi", "text": "Hello"}
    assert shop.post("/messages", own).status_code == 202
    pool_id = pool_of(runtime, people, sender_id)
    ann.post(f"/pools/{pool_id}/purpose", {"purpose": "marketing"})
    page = words(ann.get(f"/pools/{pool_id}").text)
    assert "One sender sends its messages through it" in page and "carries something else" not in page
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET purpose = 'marketing'"))  # as an older version let it be
    assert "It carries something else as well. One sender sends" in words(ann.get(f"/pools/{pool_id}").text)
    assert faults(shop.post("/messages", own)) == {
        "/sender": "The pool of this sender is for campaigns alone: give the sender a pool for messages."
    }


def test_a_pool_that_is_for_messages_alone_is_no_better_one(
    runtime: Runtime, people: People, ann: Visit, sender_id: int
) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Receipts", NOWHERE)
    pools.set_purpose(runtime, people.ours, pool_id, "transactional")
    typed = {"days": "7", "bounced_share": "5", "bounced_after": "500", "complained_share": "0.3"}
    typed |= {"complained_after": "1000", "back_after_days": "7", "better_after_days": "30", "better_after": "10000"}
    answer = ann.post("/standing", typed | {"quarantine_pool_id": "", "better_pool_id": str(pool_id)})
    assert answer.status_code == 422
    assert "Campaigns of many senders go through it" in fault_of(answer.text, "better_pool_id")
