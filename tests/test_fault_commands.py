"""What operators type after a fault: whether a campaign adds up, what nobody knows of it, and what is decided."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from app.config import Settings
from app.flows import finish, pools, send_range
from app.mail import Accepted
from app.models import outbox
from app.runtime import Runtime
from cli.main import main
from tests.peers import Peer
from tests.sending_world import hand_over, launched, query, settle_with, sums
from tests.test_sending import events, state


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=50))
    yield runtime
    runtime.close()


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))


def millrace(*words: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], answer)


def change(runtime: Runtime, statement: str) -> None:
    with runtime.db.begin() as conn:
        assert conn.execute(text(statement)).rowcount > 0


@pytest.fixture
def sent(runtime: Runtime, peer: Peer) -> int:
    """A finished campaign to 100 leads."""
    built = launched(runtime, peer, leads=100)
    send_range.drain(runtime)
    assert state(runtime, built.campaign_id) == "finished"
    return built.campaign_id


@pytest.fixture
def unknown(runtime: Runtime, peer: Peer) -> int:
    """A settling campaign to 100 leads in two calls, of which nobody knows whether the provider took them."""
    peer.behave(unsure=1.0)
    built = launched(runtime, peer, leads=100)
    send_range.drain(runtime)
    peer.behave(unsure=0.0)
    pools.resume_pool(runtime, built.organisation_id, built.pool_id)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id).keys() <= {"unknown", "sent"}
    return built.campaign_id


# -- millrace reconcile ------------------------------------------------------------------------------------------------


def test_what_adds_up_is_said_and_exits_with_0(sent: int) -> None:
    told = millrace("reconcile", sent)
    assert told.exit_code == 0
    assert "These add up." in told.output
    facts = json.loads(millrace("reconcile", sent, "--json").output)
    assert (facts["adds_up"], facts["ranges"]["sent"], facts["events"]["sent"], facts["leads"]) == (True, 100, 100, [])


def test_what_differs_is_named_lead_by_lead_and_exits_with_1(runtime: Runtime, sent: int) -> None:
    change(runtime, "DELETE FROM event WHERE lead_id IN (SELECT lead_id FROM event ORDER BY lead_id LIMIT 30)")
    told = millrace("reconcile", sent)
    assert told.exit_code == 1
    assert "sent: ranges count 100, events 70" in told.output
    assert told.output.count("says sent; the record says nothing") == 20
    assert "and 10 more leads" in told.output
    assert len(json.loads(millrace("reconcile", sent, "--json").output)["leads"]) == 30
    assert events(runtime, sent) == {"sent": 70}, "nothing was changed"


def test_mending_writes_what_is_missing_and_sends_nothing(runtime: Runtime, peer: Peer, sent: int) -> None:
    change(runtime, "DELETE FROM event WHERE lead_id IN (SELECT lead_id FROM event ORDER BY lead_id LIMIT 30)")
    told = millrace("reconcile", sent, "--mend")
    assert told.exit_code == 0, told.output
    assert "Mended: 30 events written again" in told.output
    assert events(runtime, sent) == {"sent": 100}
    assert send_range.drain(runtime) == 0
    assert peer.sink.book.stats()["accepted"] == 100


def test_somebody_who_was_never_served_is_queued_again_by_mending(runtime: Runtime, peer: Peer, sent: int) -> None:
    change(runtime, "DELETE FROM handoff WHERE id = (SELECT min(id) FROM handoff)")
    change(runtime, "DELETE FROM event WHERE lead_id NOT IN (SELECT unnest(lead_ids) FROM handoff)")
    told = millrace("reconcile", sent, "--mend")
    assert told.exit_code == 0 and "50 leads queued again" in told.output
    assert state(runtime, sent) == "sending"
    send_range.drain(runtime)
    assert sums(runtime, sent) == {"sent": 100}
    assert state(runtime, sent) == "finished"


def test_somebody_who_stands_in_two_calls_is_alarmed_and_never_called_right(runtime: Runtime, sent: int) -> None:
    change(
        runtime,
        "INSERT INTO handoff (range_id, campaign_id, pool_id, run, key, state, lead_ids, outcomes)"
        " SELECT range_id, campaign_id, pool_id, run, gen_random_uuid(), state, lead_ids[1:1], 's'"
        " FROM handoff LIMIT 1",
    )
    change(runtime, "INSERT INTO event SELECT * FROM event WHERE lead_id = (SELECT lead_ids[1] FROM handoff LIMIT 1)")
    told = millrace("reconcile", sent, "--mend")
    assert told.exit_code == 1
    assert "were mailed twice, which cannot be mended" in told.output
    assert query(runtime, "SELECT kind FROM alert WHERE cleared_at IS NULL AND kind = 'doubled'") == [("doubled",)]


@pytest.mark.parametrize("where", ["ready", "leased", "quarantined"])
def test_nothing_is_mended_while_anything_is_under_way(runtime: Runtime, peer: Peer, where: str) -> None:
    built = launched(runtime, peer, leads=100)
    page, handoffs = hand_over(runtime)
    settle_with(runtime, page, handoffs, *[[Accepted("ref")] * len(each.lead_ids) for each in handoffs])
    if where == "leased":
        hand_over(runtime)
    elif where == "quarantined":
        change(runtime, "UPDATE outbox SET state = 'quarantined' WHERE state = 'ready'")
    assert query(runtime, "SELECT state FROM outbox WHERE state <> 'done'") == [(where,)]
    change(runtime, "DELETE FROM event WHERE lead_id = (SELECT min(lead_id) FROM event)")
    refused = millrace("reconcile", built.campaign_id, "--mend")
    assert refused.exit_code == 1 and "not all of it is over" in refused.output
    assert events(runtime, built.campaign_id) == {"sent": 49}


def test_mending_waits_for_whoever_holds_a_range_and_counts_what_they_left(runtime: Runtime, sent: int) -> None:
    change(runtime, "UPDATE outbox SET sent = sent - 1, failed = 1")
    done = threading.Thread(target=finish.mend_now, args=(runtime, sent))
    with runtime.db.begin() as conn:
        outbox.lock_all(conn, sent)
        done.start()
        done.join(0.5)
        assert done.is_alive()
    done.join(10)
    assert not done.is_alive()
    assert sums(runtime, sent) == {"sent": 100}


def test_a_draft_has_nothing_to_count(runtime: Runtime, sent: int) -> None:
    change(runtime, "UPDATE campaign SET launched_at = NULL, state = 'draft'")
    refused = millrace("reconcile", sent)
    assert refused.exit_code == 1 and "was not launched" in refused.output


# -- What nobody knows -------------------------------------------------------------------------------------------------


def test_what_is_unknown_is_listed_with_its_calls(runtime: Runtime, unknown: int) -> None:
    leads = sums(runtime, unknown)["unknown"]
    assert f"Unknown: {leads:,} leads in" in millrace("campaign", "status", unknown).output
    assert "hold" in millrace("campaign", "status", unknown).output
    facts = json.loads(millrace("campaign", "status", unknown, "--json").output)
    assert (facts["unknown_calls"]["leads"], facts["unknown_policy"], facts["run"]) == (leads, "hold", 1)
    assert f"Unknown: {leads:,} leads in" in millrace("campaign", "unknowns", unknown).output
    listed = json.loads(millrace("campaign", "unknowns", unknown, "--json").output)
    assert sum(each["leads"] for each in listed) == leads


def test_nobody_gets_it_twice_without_being_asked(runtime: Runtime, unknown: int) -> None:
    before = sums(runtime, unknown)
    asked = millrace("campaign", "unknowns", unknown, "--send-again", answer="n\n")
    assert asked.exit_code == 1
    assert f"{before['unknown']:,} people may get it twice" in asked.output
    assert sums(runtime, unknown) == before
    assert millrace("campaign", "unknowns", unknown, "--send-again", "--yes").exit_code == 0
    send_range.drain(runtime)
    assert sums(runtime, unknown) == {"sent": 100}
    assert "Nothing is unknown." in millrace("campaign", "unknowns", unknown).output


def test_what_was_left_is_sent_to_in_a_second_run(runtime: Runtime, unknown: int) -> None:
    leads = sums(runtime, unknown)["unknown"]
    assert f"{leads:,} leads count as failed" in millrace("campaign", "unknowns", unknown, "--leave").output
    asked = millrace("campaign", "send-failed-again", unknown, answer="y\n")
    assert f"{leads:,} of them may get it twice" in asked.output
    assert f"Run 2 sends to {leads:,} leads." in asked.output
    refused = millrace("campaign", "send-failed-again", unknown, "--yes")
    assert refused.exit_code == 1 and "The campaign is sending" in refused.output
    send_range.drain(runtime)
    assert sums(runtime, unknown) == {"sent": 100}
    assert "Nobody failed." in millrace("campaign", "send-failed-again", unknown).output
