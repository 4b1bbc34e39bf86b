"""Promises of the pages about what nobody knows: it is said in plain words, asked about, and decided once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import text

from app.flows import edit_campaign, pools, send_range, unknowns
from app.models import campaign_list, outbox, unknown, webhook
from app.models.unknown import Unknown
from app.models.webhook import Arrivals
from app.runtime import Runtime
from tests.peers import Peer, running_sink
from tests.sending_world import heard_since, later, letters_of, query, sums
from tests.web.campaign_world import add_draft, add_leads, add_sender, send_all
from tests.web.conftest import People, Visit, _logged_in
from tests.web.test_campaigns import words

LEADS = {f"lead{n}": "" for n in range(8)}


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_sink(batch=4) as peer:
        yield peer


def make(runtime: Runtime, people: People, peer: Peer, **values: object) -> int:
    """A campaign to eight leads, in two calls of which the replies were lost."""
    keys = "?idempotent=3600" if values.pop("keys", False) else "?lookup=1" if values.pop("asked", False) else ""
    add_leads(runtime, people.ours, LEADS)
    sender = add_sender(runtime, people.ours, peer.url + keys)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool SET batch = 4"))
    campaign_id = add_draft(runtime, people, sender_id=sender, **values)
    peer.behave(unsure=1.0)
    send_all(runtime, people, campaign_id)
    peer.behave(unsure=0.0)
    with runtime.db.begin() as conn:  # it was paused, having lost so many replies
        pool_id = conn.execute(text("SELECT id FROM pool")).scalar_one()
    pools.resume_pool(runtime, people.ours, pool_id)
    assert sums(runtime, campaign_id) == {"unknown": 8}
    return campaign_id


@pytest.fixture
def settling(runtime: Runtime, people: People, peer: Peer) -> int:
    return make(runtime, people, peer)


def calls_of(runtime: Runtime, campaign_id: int) -> list[Unknown]:
    with runtime.db.begin() as conn:
        return unknown.find(conn, campaign_id)


def webhooks_arrive(runtime: Runtime) -> None:
    """The pool's webhooks came within two seconds, nearly all within four."""
    with runtime.db.begin() as conn:
        pool_id = conn.execute(text("SELECT id FROM pool")).scalar_one()
        webhook.note_arrivals(conn, pool_id, Arrivals(datetime.now(UTC), datetime.now(UTC), [0, 900, 99], 999, 0, 0, 0))


def wait_for_locks(runtime: Runtime, waiting: int) -> None:
    """Until so many transactions wait for one another."""
    for _ in range(200):
        with runtime.db.begin() as conn:
            found = conn.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            ).scalar_one()
        if found >= waiting:
            return
        time.sleep(0.05)
    raise AssertionError(f"{waiting} transactions do not wait")


def section(page: str) -> str:
    """What the campaign's page says of its unknowns."""
    found = re.search(r'<section id="unknowns".*?</section>', page, re.DOTALL)
    assert found
    return words(found[0])


# -- What the page says ------------------------------------------------------------------------------------------------


def test_a_campaign_says_what_is_unknown_in_plain_words(settling: int, ann: Visit) -> None:
    said = section(ann.get(f"/campaigns/{settling}").text)
    assert "8 leads in 2 calls" in said
    assert "It is not known whether the provider took these emails." in said
    assert "None arrive from “Marketing”, so only a person can decide." in said
    assert said.count("4 leads") == 2
    assert said.count("Send again") == 2
    assert f'href="/campaigns/{settling}/recipients?kind=unknown"' in ann.get(f"/campaigns/{settling}").text


def test_a_campaign_without_unknowns_shows_nothing_of_it(
    runtime: Runtime, people: People, peer: Peer, ann: Visit
) -> None:
    add_leads(runtime, people.ours, LEADS)
    campaign_id = add_draft(runtime, people, sender_id=add_sender(runtime, people.ours, peer.url))
    send_all(runtime, people, campaign_id)
    page = ann.get(f"/campaigns/{campaign_id}").text
    assert re.search(r'<section id="unknowns"[^>]* hidden', page)
    assert "hx-trigger" not in re.search(r'<section id="unknowns"[^>]*>', page)[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("policy", "arrive", "said"),
    [
        ("hold", True, "It waits for a webhook or a person."),
        ("leave", False, "Each call is left, and its leads count as failed, 15 min after it was made."),
        ("resend", True, "Each call is sent again, once, 15 min after it was made"),
        ("resend", False, "until webhooks arrive it waits for a person"),
    ],
)
def test_the_policy_says_until_when_it_waits(
    runtime: Runtime, people: People, peer: Peer, ann: Visit, policy: str, arrive: bool, said: str
) -> None:
    campaign_id = make(runtime, people, peer, unknown_policy=policy)
    if arrive:
        webhooks_arrive(runtime)
    found = section(ann.get(f"/campaigns/{campaign_id}").text)
    assert said in found
    assert ("Half of those from “Marketing” come within 2 s of their call, nearly all within 4 s." in found) is arrive
    assert ("The policy " in found) is (policy == "leave" or (policy == "resend" and arrive))


def test_a_call_that_was_sent_again_once_is_not_said_to_be_again(
    runtime: Runtime, people: People, peer: Peer, ann: Visit
) -> None:
    campaign_id = make(runtime, people, peer, unknown_policy="resend")
    webhooks_arrive(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET resent = true"))
    said = section(ann.get(f"/campaigns/{campaign_id}").text)
    assert "The policy sends it again" not in said
    assert said.count("Sent again once already: the policy does not do so twice.") == 2


AGAIN = "The policy sends it again at "
KEEP_COMING = "if the webhooks of “Marketing” keep coming"
GAP = "It waits for you: the webhooks of “Marketing” did not come all the while, so one about it may have been lost."
UNREAD = "It waits for newer webhooks of “Marketing”, or for you"
NEVER = "It waits for you: no webhooks of “Marketing” arrive, so silence means nothing."


@pytest.mark.parametrize(
    ("seconds", "came", "said", "resent"),
    [
        (30, "all the while", [AGAIN, KEEP_COMING], 0),
        (30, "not yet", [NEVER], 0),
        (300, "all the while", [AGAIN, KEEP_COMING], 0),
        (300, "with a gap", [GAP], 0),
        (1000, "all the while", ["The policy sends it again within minutes"], 8),
        (1000, "with a gap", [GAP], 0),
        (1000, "unread", [UNREAD], 0),
        (1000, "not yet", [NEVER], 0),
    ],
)
def test_what_is_said_of_a_call_is_what_its_policy_does(
    runtime: Runtime, people: People, peer: Peer, ann: Visit, seconds: int, came: str, said: list[str], resent: int
) -> None:
    campaign_id = make(runtime, people, peer, unknown_policy="resend")
    later(runtime, seconds)
    [(pool_id,)] = query(runtime, "SELECT id FROM pool")
    if came != "not yet":
        webhooks_arrive(runtime)
    if came in ("all the while", "unread"):
        heard_since(runtime, int(str(pool_id)), 3600)
    if came == "unread":
        with runtime.db.begin() as conn:
            conn.execute(text("INSERT INTO webhook (pool_id, delivery, body) SELECT id, 'x', '{}' FROM pool"))
    found = section(ann.get(f"/campaigns/{campaign_id}").text)
    assert all(found.count(each) == 2 for each in said)
    assert unknowns.apply_policies(runtime) == resent


def test_each_call_is_told_of_by_the_pool_that_it_went_through(
    runtime: Runtime, people: People, peer: Peer, ann: Visit
) -> None:
    """As after a failover: the second pool's webhooks take hours, the first one's do not come."""
    campaign_id = make(runtime, people, peer, unknown_policy="resend")
    first, second = (each.id for each in calls_of(runtime, campaign_id))
    with runtime.db.begin() as conn:
        spare = conn.execute(
            text(
                "INSERT INTO pool (organisation_id, name, provider, url, shown_url, batch)"
                " SELECT organisation_id, 'Spare', provider, url, shown_url, batch FROM pool RETURNING id"
            )
        ).scalar_one()
        conn.execute(text("UPDATE handoff SET pool_id = :spare WHERE id = :id"), {"spare": spare, "id": second})
        lags = [0] * 12 + [1000]  # within 4,096 seconds
        conn.execute(
            text("INSERT INTO pool_webhook (pool_id, seen_at, handed_at, lags) VALUES (:p, now(), now(), :lags)"),
            {"p": spare, "lags": lags},
        )
    page = ann.get(f"/campaigns/{campaign_id}").text
    said = section(page)
    assert "None arrive from “Marketing”, so only a person can decide." in said
    assert "Nearly all from “Spare” come within 68 min of their call. Silence means something after 2 h 17 min." in said
    assert "Each call is sent again, once, 15 min to 2 h 17 min after it was made" in said
    own = page.split(f'id="send-again-{first}"')
    assert NEVER in words(own[0]) and "through “Marketing”" in words(own[0])
    assert "if the webhooks of “Spare” keep coming" in words(own[1]) and "through “Spare”" in words(own[1])
    due = calls_of(runtime, campaign_id)[1].handed_at + timedelta(seconds=8192)
    assert due.strftime("%Y-%m-%dT%H:%M:%SZ") in own[1]
    questions = [
        words(ann.get(f"/campaigns/{campaign_id}/unknowns/send-again?call={call}").text) for call in (first, second)
    ]
    assert ["Spare" in each for each in questions] == ["Marketing" not in each for each in questions] == [False, True]


@pytest.mark.parametrize(("policy", "hours", "acts"), [("leave", 1, True), ("leave", 25, False), ("resend", 1, False)])
def test_of_a_cancelled_campaign_is_said_whether_its_policy_still_decides(
    runtime: Runtime, people: People, peer: Peer, ann: Visit, policy: str, hours: int, acts: bool
) -> None:
    campaign_id = make(runtime, people, peer, unknown_policy=policy)
    webhooks_arrive(runtime)
    ann.post(f"/campaigns/{campaign_id}/cancel")
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET finished_at = now() - make_interval(hours => :hours)"), {"hours": hours})
    said = section(ann.get(f"/campaigns/{campaign_id}").text)
    assert ("The policy " in said) is acts
    assert ("It is cancelled: nothing is decided by itself." in said) is not acts


@pytest.mark.parametrize("asked", [True, False])
def test_when_the_provider_is_asked_is_said_where_it_can_be(
    runtime: Runtime, people: People, peer: Peer, ann: Visit, asked: bool
) -> None:
    campaign_id = make(runtime, people, peer, asked=asked)
    said = section(ann.get(f"/campaigns/{campaign_id}").text)
    assert said.count("Millrace asks the provider about it at ") == (2 if asked else 0)
    assert ("It can be asked" in said) is asked
    later(runtime, 40)
    assert ("about it within a minute" in section(ann.get(f"/campaigns/{campaign_id}").text)) is asked


def test_what_is_asked_again_by_itself_has_no_buttons(runtime: Runtime, people: People, peer: Peer, ann: Visit) -> None:
    campaign_id = make(runtime, people, peer, keys=True)
    page = ann.get(f"/campaigns/{campaign_id}").text
    assert "Millrace makes all of these calls again by itself" in section(page)
    assert "/unknowns/send-again" not in page
    assert "/unknowns/leave" not in page
    call = calls_of(runtime, campaign_id)[0].id
    assert (
        "makes this call again by itself" in ann.get(f"/campaigns/{campaign_id}/unknowns/send-again?call={call}").text
    )
    assert "Nothing to send again" in ann.get(f"/campaigns/{campaign_id}/unknowns/send-again").text
    ann.post(f"/campaigns/{campaign_id}/unknowns/send-again", {"call": call, "leads": "4"})
    ann.post(f"/campaigns/{campaign_id}/unknowns/leave", {"call": call})
    assert sums(runtime, campaign_id) == {"unknown": 8}


def test_the_list_of_calls_goes_on_by_key(runtime: Runtime, settling: int, ann: Visit) -> None:
    first, second = (each.id for each in calls_of(runtime, settling))
    page = ann.get(f"/campaigns/{settling}/unknowns").text
    assert f"leave-{first}" in page and f"leave-{second}" in page
    rest = ann.get(f"/campaigns/{settling}/unknowns?after={first}").text
    assert f"leave-{first}" not in rest and f"leave-{second}" in rest


# -- Sending again -----------------------------------------------------------------------------------------------------


def test_sending_again_is_asked_about_with_the_number_of_people(runtime: Runtime, settling: int, ann: Visit) -> None:
    call = calls_of(runtime, settling)[0]
    question = words(ann.get(f"/campaigns/{settling}/unknowns/send-again?call={call.id}").text)
    assert "4 people may get it twice." in question
    everything = words(ann.get(f"/campaigns/{settling}/unknowns/send-again").text)
    assert "8 people may get it twice." in everything
    assert sums(runtime, settling) == {"unknown": 8}


def test_one_call_is_sent_again_and_the_other_stays(runtime: Runtime, settling: int, ann: Visit) -> None:
    call = calls_of(runtime, settling)[0]
    page = ann.post(
        f"/campaigns/{settling}/unknowns/send-again", {"call": call.id, "leads": "4"}, follow_redirects=True
    )
    assert "It is sent again to 4 leads." in page.text
    send_range.drain(runtime)
    assert sums(runtime, settling) == {"sent": 4, "unknown": 4}


def test_all_calls_are_sent_again(runtime: Runtime, settling: int, ann: Visit) -> None:
    ann.post(f"/campaigns/{settling}/unknowns/send-again", {"call": "all", "leads": "8"})
    send_range.drain(runtime)
    assert sums(runtime, settling) == {"sent": 8}
    page = ann.get(f"/campaigns/{settling}").text
    assert "All is known" in ann.get(f"/campaigns/{settling}/unknowns").text
    assert re.search(r'<section id="unknowns"[^>]* hidden', page)


@pytest.mark.parametrize("said", [{}, {"call": ""}, {"call": "x"}, {"call": "0"}, {"call": str(10**30)}])
def test_who_does_not_say_which_call_does_not_mean_all(
    runtime: Runtime, settling: int, ann: Visit, said: dict[str, str]
) -> None:
    for act in ("send-again", "leave"):
        assert ann.post(f"/campaigns/{settling}/unknowns/{act}", {"leads": "8"} | said).status_code == 404
    assert sums(runtime, settling) == {"unknown": 8}


def test_more_than_was_asked_about_is_asked_about_again(runtime: Runtime, settling: int, ann: Visit) -> None:
    asked = ann.post(f"/campaigns/{settling}/unknowns/send-again", {"call": "all", "leads": "4"})
    assert asked.status_code == 200
    assert "it is 8 leads now" in asked.text
    assert sums(runtime, settling) == {"unknown": 8}


def test_two_browsers_at_once_send_to_nobody_twice(
    app: Flask, runtime: Runtime, people: People, peer: Peer, settling: int
) -> None:
    call = calls_of(runtime, settling)[0]
    visits = [_logged_in(app, name) for name in ("ann@example.com", "bob@example.com")]
    for visit in visits:
        visit.get(f"/campaigns/{settling}")
    address, data = f"/campaigns/{settling}/unknowns/send-again", {"call": call.id, "leads": "4"}
    with ThreadPoolExecutor(2) as threads:
        with runtime.db.begin() as conn:
            outbox.lock_all(conn, settling)  # both have found the call before either may change it
            pressed = [threads.submit(visit.post, address, data) for visit in visits]
            wait_for_locks(runtime, 2)
        assert [each.result().status_code for each in pressed] == [302, 302]
    send_range.drain(runtime)
    assert sums(runtime, settling) == {"sent": 4, "unknown": 4}
    assert sorted(letters_of(runtime)) == ["aaaa", "ssss", "uuuu"]  # type: ignore[type-var]
    assert peer.sink.book.stats()["accepted"] == 12  # the eight that nobody knows of, and four once more
    told = " ".join(words(visit.get(f"/campaigns/{settling}").text) for visit in visits)
    assert told.count("It is sent again to 4 leads.") == 1
    assert told.count("somebody else has just decided") == 1


# -- Leaving -----------------------------------------------------------------------------------------------------------


def test_what_is_left_counts_as_failed(runtime: Runtime, settling: int, ann: Visit) -> None:
    call = calls_of(runtime, settling)[0]
    page = ann.post(f"/campaigns/{settling}/unknowns/leave", {"call": call.id}, follow_redirects=True)
    assert "4 leads count as failed now." in words(page.text)
    assert sums(runtime, settling) == {"failed": 4, "unknown": 4}
    ann.post(f"/campaigns/{settling}/unknowns/leave", {"call": "all"})
    assert sums(runtime, settling) == {"failed": 8}
    late = ann.post(f"/campaigns/{settling}/unknowns/leave", {"call": call.id}, follow_redirects=True)
    assert "Nothing to decide any more" in late.text


def test_a_cancelled_campaign_sends_nothing_again(runtime: Runtime, settling: int, ann: Visit) -> None:
    ann.post(f"/campaigns/{settling}/cancel")
    page = ann.get(f"/campaigns/{settling}").text
    assert "/unknowns/send-again" not in page
    assert "/unknowns/leave" in page
    told = ann.post(f"/campaigns/{settling}/unknowns/send-again", {"call": "all", "leads": "8"}, follow_redirects=True)
    assert "The campaign is cancelled" in told.text
    assert sums(runtime, settling) == {"unknown": 8}


# -- The failed, once more ---------------------------------------------------------------------------------------------


def test_the_failed_are_sent_to_in_another_run(runtime: Runtime, settling: int, ann: Visit) -> None:
    assert "failed again" not in ann.get(f"/campaigns/{settling}").text
    call = calls_of(runtime, settling)[0]
    ann.post(f"/campaigns/{settling}/unknowns/leave", {"call": call.id})
    assert "Send to the 4 failed again" in ann.get(f"/campaigns/{settling}").text
    question = words(ann.get(f"/campaigns/{settling}/failed/send-again").text)
    assert "All of them were left while it was not known" in question
    assert "may get it twice" in question
    page = ann.post(f"/campaigns/{settling}/failed/send-again", follow_redirects=True).text
    assert "Run 2 sends to 4 leads who had failed." in words(page)
    assert "· run 2" in words(page)
    second = ann.post(f"/campaigns/{settling}/failed/send-again", follow_redirects=True).text
    assert "The campaign is sending" in second
    send_range.drain(runtime)
    assert sums(runtime, settling) == {"sent": 4, "unknown": 4}


def test_those_who_truly_failed_get_it_once(runtime: Runtime, settling: int, ann: Visit) -> None:
    with runtime.db.begin() as conn:  # as after a day of being put off
        conn.execute(text("UPDATE handoff SET outcomes = 'ffff', state = 'settled', unknown_since = NULL"))
        conn.execute(text("UPDATE outbox SET failed = 8, unknown = 0"))
        conn.execute(text("UPDATE campaign SET state = 'finished'"))
    question = words(ann.get(f"/campaigns/{settling}/failed/send-again").text)
    assert "Send to the 8 leads that failed?" in question
    assert "Nobody gets it twice" in question


def test_who_failed_after_an_unknown_call_may_get_it_twice(runtime: Runtime, settling: int, ann: Visit) -> None:
    call = calls_of(runtime, settling)[0]
    ann.post(f"/campaigns/{settling}/unknowns/send-again", {"call": call.id, "leads": "4"})
    send_range.drain(runtime)
    with runtime.db.begin() as conn:  # as after a day of being put off; and a third run of it, which failed too
        conn.execute(text("UPDATE handoff SET outcomes = 'ffff' WHERE outcomes = 'ssss'"))
        conn.execute(text("UPDATE outbox SET failed = 4, sent = 0 WHERE resent"))
    for _ in range(2):
        question = words(ann.get(f"/campaigns/{settling}/failed/send-again").text)
        assert "Send to the 4 leads that failed?" in question
        assert "these people may get it twice" in question
        ann.post(f"/campaigns/{settling}/failed/send-again")
        send_range.drain(runtime)
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE handoff SET outcomes = 'ffff' WHERE outcomes = 'ssss'"))
            conn.execute(text("UPDATE outbox SET failed = 4, sent = 0 WHERE sent = 4"))
            conn.execute(text("UPDATE campaign SET state = 'settling'"))


# -- The campaign's policy ---------------------------------------------------------------------------------------------


def test_a_policy_is_chosen_with_the_campaign_shown_and_copied(runtime: Runtime, people: People, ann: Visit) -> None:
    campaign_id = add_draft(runtime, people)
    page = ann.get(f"/campaigns/{campaign_id}/edit").text
    assert re.search(r'<input checked[^>]*name="unknown_policy"[^>]*value="hold"', page)
    form = {"name": "Spring", "when": "now", "zone": "UTC", "unknown_policy": "leave"}
    assert ann.post(f"/campaigns/{campaign_id}/edit", form).status_code == 302
    assert "If unknown Leave" in words(ann.get(f"/campaigns/{campaign_id}").text)
    copied = edit_campaign.duplicate(runtime, people.ours, people.ann, campaign_id)
    with runtime.db.begin() as conn:
        assert campaign_list.find(conn, people.ours, copied).unknown_policy == "leave"


def test_a_policy_that_there_is_not_is_refused_by_name(runtime: Runtime, people: People, ann: Visit) -> None:
    form = {"name": "Spring", "when": "now", "zone": "UTC", "unknown_policy": "guess"}
    refused = ann.post("/campaigns/new", form)
    assert refused.status_code == 422
    assert "Choose one of these" in refused.text.split('id="unknown_policy-fault"')[1].split("</p>")[0]


def test_a_policy_acts_by_itself_and_the_page_follows(runtime: Runtime, people: People, peer: Peer, ann: Visit) -> None:
    campaign_id = make(runtime, people, peer, unknown_policy="leave")
    later(runtime, 901)
    assert "within minutes" in section(ann.get(f"/campaigns/{campaign_id}").text)
    assert unknowns.apply_policies(runtime) == 8
    assert sums(runtime, campaign_id) == {"failed": 8}
    assert "Send to the 8 failed again" in ann.get(f"/campaigns/{campaign_id}").text


# -- Whose it is -------------------------------------------------------------------------------------------------------


def test_a_call_of_another_campaign_is_not_there(
    runtime: Runtime, people: People, settling: int, ann: Visit, eve: Visit
) -> None:
    call = calls_of(runtime, settling)[0].id
    other = add_draft(runtime, people, name="Other")
    theirs = edit_campaign.create(runtime, people.theirs, people.eve, edit_campaign.Draft("Theirs"))
    data = {"call": call, "leads": "8"}
    for visit, campaign_id in ((ann, other), (eve, theirs), (eve, settling)):
        assert visit.get(f"/campaigns/{campaign_id}/unknowns/send-again?call={call}").status_code == 404
        for act in ("send-again", "leave"):
            assert visit.post(f"/campaigns/{campaign_id}/unknowns/{act}", data).status_code == 404
    assert sums(runtime, settling) == {"unknown": 8}
