"""Repeating campaigns: made at each time, to who matches then and did not have it, and each time once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.errors import Conflict, Invalid
from app.flows import edit_campaign, launch, recur, send_range, steer
from app.flows.edit_campaign import Draft
from app.flows.recur import Repeats
from app.models import campaign, campaign_rate, recurrence
from app.models.campaign_rate import Rate
from app.models.schedule import OwnClock, Schedule
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.test_sending import build, runtime
from tests.world import HTML, SUBJECT, World

__all__ = ["runtime"]

MADE = """
SELECT id, name, state, audience, exclusions, occurs_at, schedule
  FROM campaign
 WHERE origin_id IS NOT NULL
 ORDER BY id
"""
NO_RULES = ["", "x", "FREQ=SECONDLY", "FREQ=DAILY;INTERVAL=0", "FREQ=DAILY;COUNT=0", "FREQ=DAILY;BYDAY=XX", "A" * 400]
NO_RULES += ["FREQ=DAILY;UNTIL=never", "FREQ=DAILY;EXRULE=1", "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30"]
NO_RULES += ["FREQ=DAILY\nDTSTART:1", "FREQ=DAILY;INTERVAL=00001000099999999", "FREQ=DAILY;COUNT=00000000010001"]


def repeating(runtime: Runtime, built: World, rule: str = "FREQ=DAILY", **more: Any) -> int:
    """A campaign that repeats, launched; its first time has just come."""
    with runtime.db.begin() as conn:
        start_at = campaign.now(conn) + timedelta(hours=1)
    chosen = more.pop("schedule", Schedule())
    draft = Draft("Weekly", built.sender_id, None, SUBJECT, HTML, "", start_at, schedule=chosen)
    draft = edit_campaign.replace(draft, repeats=Repeats(rule, **more))
    campaign_id = edit_campaign.create(runtime, built.organisation_id, built.user_id, draft)
    launch.launch(runtime, built.organisation_id, campaign_id)
    come(runtime, campaign_id)
    return campaign_id


def come(runtime: Runtime, campaign_id: int, hours: float = 1.0) -> None:
    """So many hours pass for it."""
    with runtime.db.begin() as conn:
        values = {"id": campaign_id, "step": timedelta(hours=hours)}
        conn.execute(text("UPDATE campaign SET start_at = start_at - :step WHERE id = :id"), values)
        conn.execute(text("UPDATE campaign SET occurs_at = occurs_at - :step WHERE origin_id = :id"), values)
        conn.execute(text("UPDATE recurrence SET begins = begins - :step"), values)


def made(runtime: Runtime) -> list[Any]:
    with runtime.db.begin() as conn:
        return list(conn.execute(text(MADE)))


def origin(runtime: Runtime, campaign_id: int) -> Any:
    with runtime.db.begin() as conn:
        return world.row(
            conn, "SELECT * FROM campaign JOIN recurrence ON campaign_id = id WHERE id = :id", id=campaign_id
        )


def test_each_time_goes_to_who_matches_then_and_did_not_have_it(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    campaign_id = repeating(runtime, built)
    assert launch.start_due(runtime) == 1
    assert launch.start_due(runtime) == 0
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM lead WHERE id <= 5"))
        conn.execute(
            text("INSERT INTO lead (organisation_id, domain_id, email) VALUES (:o, 1, 'new@example.com')"),
            {"o": built.organisation_id},
        )
    come(runtime, campaign_id, 24)
    assert launch.start_due(runtime) == 1
    first, second = made(runtime)
    assert (first.state, first.audience) == ("finished", 20)
    assert (second.state, second.audience, second.exclusions) == ("sending", 1, {"had it before": 15})
    assert peer.sink.book.stats()["accepted"] == 20
    kept = origin(runtime, campaign_id)
    assert (kept["state"], kept["made"], kept["missed"]) == ("scheduled", 2, 0)


def test_every_copy_goes_no_faster_than_the_campaign_may(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    campaign_id = repeating(runtime, built)
    with runtime.db.begin() as conn:
        campaign_rate.set_rate(conn, campaign_id, Rate(100, "minute"))
    assert launch.start_due(runtime) == 1
    (first,) = made(runtime)
    with runtime.db.begin() as conn:
        kept = campaign_rate.find(conn, first.id)
    assert kept is not None
    assert kept.rate == Rate(100, "minute")


def test_who_had_it_gets_it_again_where_that_is_wanted(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    campaign_id = repeating(runtime, built, skip_sent=False)
    launch.start_due(runtime)
    send_range.drain(runtime)
    come(runtime, campaign_id, 24)
    launch.start_due(runtime)
    assert [each.audience for each in made(runtime)] == [20, 20]


def test_two_clocks_make_a_time_once(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    repeating(runtime, built)
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _: launch.start_due(runtime), range(4))) == 1
    assert len(made(runtime)) == 1


def test_of_times_that_were_missed_the_last_is_made(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    campaign_id = repeating(runtime, built)
    come(runtime, campaign_id, 24 * 3 + 2)
    launch.start_due(runtime)
    assert len(made(runtime)) == 1
    kept = origin(runtime, campaign_id)
    assert (kept["made"], kept["missed"]) == (1, 3)
    with runtime.db.begin() as conn:
        assert timedelta(0) < kept["start_at"] - campaign.now(conn) < timedelta(days=1)


def test_what_is_too_late_is_skipped_and_said(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    campaign_id = repeating(runtime, built, schedule=Schedule(lateness=30))
    come(runtime, campaign_id, 1)
    launch.start_due(runtime)
    assert made(runtime) == []
    kept = origin(runtime, campaign_id)
    assert (kept["state"], kept["made"], kept["missed"]) == ("scheduled", 0, 1)


def test_a_campaign_that_is_too_late_is_a_draft_again_and_says_so(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    with runtime.db.begin() as conn:
        conn.execute(
            text("""UPDATE campaign SET start_at = now() + interval '1 hour', schedule = '{"lateness": 30}'""")
        )
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET start_at = now() - interval '31 minutes'"))
    assert launch.start_due(runtime) == 0
    with runtime.db.begin() as conn:
        kept = world.row(conn, "SELECT state, notice FROM campaign")
        assert kept["state"] == "draft"
        assert "31 minutes later" in kept["notice"]
        conn.execute(text("UPDATE campaign SET start_at = now() + interval '1 hour'"))
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET start_at = now() - interval '29 minutes'"))
    assert launch.start_due(runtime) == 1  # overdue, and allowed: it goes at once


def test_a_rule_that_ends_ends_the_campaign(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    campaign_id = repeating(runtime, built, "FREQ=DAILY;COUNT=1")
    launch.start_due(runtime)
    kept = origin(runtime, campaign_id)
    assert (kept["state"], kept["made"]) == ("finished", 1)
    assert "end of its rule" in kept["notice"]


def test_paused_it_makes_nothing_and_does_not_make_up_for_it(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    campaign_id = repeating(runtime, built)
    recur.pause(runtime, built.organisation_id, campaign_id)
    assert launch.start_due(runtime) == 0
    come(runtime, campaign_id, 48)
    recur.go_on(runtime, built.organisation_id, campaign_id)
    assert launch.start_due(runtime) == 0
    with runtime.db.begin() as conn:
        assert origin(runtime, campaign_id)["start_at"] > campaign.now(conn)
    recur.end(runtime, built.organisation_id, campaign_id)
    assert origin(runtime, campaign_id)["state"] == "finished"
    with pytest.raises(Conflict):
        recur.pause(runtime, built.organisation_id, campaign_id)
    with pytest.raises(Conflict):
        steer.cancel(runtime, built.organisation_id, campaign_id)


def test_every_copy_has_times_as_far_from_its_own_as_the_first(runtime: Runtime, peer: Peer) -> None:
    built = build(runtime, peer, leads=20)
    with runtime.db.begin() as conn:
        by = campaign.now(conn) + timedelta(hours=3)
    campaign_id = repeating(runtime, built, schedule=Schedule(deliver_by=by))
    with runtime.db.begin() as conn:  # what passes for the campaign passes for its schedule
        conn.execute(
            text("UPDATE campaign SET schedule = jsonb_build_object('deliver_by', CAST(:by AS text)) WHERE id = :id"),
            {"by": (by - timedelta(hours=1)).isoformat(), "id": campaign_id},
        )
    launch.start_due(runtime)
    (first,) = made(runtime)
    later = datetime.fromisoformat(first.schedule["deliver_by"]) - first.occurs_at
    assert abs(later - timedelta(hours=2)) <= timedelta(seconds=1)  # rules know whole seconds


def test_times_go_by_the_clock_of_the_zone_and_not_by_hours() -> None:
    repeats = recurrence.Recurrence(1, "FREQ=DAILY", datetime(2026, 3, 27, 9), "Europe/Berlin")
    found = recur.next_times(repeats, Schedule(), datetime(2026, 3, 27, tzinfo=UTC), 3)
    assert [at.hour for at in found] == [8, 8, 7]  # of UTC: on the third day the clocks were put forward
    own = recur.next_times(repeats, Schedule(own=OwnClock(repeats.begins)), datetime(2026, 3, 26, tzinfo=UTC), 1)
    assert own == [datetime(2026, 3, 26, 19, tzinfo=UTC)]  # the first zone in the world


@pytest.mark.parametrize("rule", NO_RULES)
def test_what_is_no_rule_is_refused_by_name(rule: str) -> None:
    with pytest.raises(Invalid) as caught:
        recurrence.check(rule, datetime(2026, 1, 1, 9))
    assert caught.value.faults[0].pointer == "rule"


def test_a_rule_of_a_time_a_minute_is_refused_and_one_of_a_time_an_hour_is_not() -> None:
    hours = f"FREQ=DAILY;BYHOUR={','.join(map(str, range(24)))}"
    recurrence.check(hours, datetime(2026, 1, 1, 9))
    recurrence.check("FREQ=DAILY;BYHOUR=9,9,9;BYMINUTE=" + "0,30," * 12 + "0", datetime(2026, 1, 1, 9))
    for minutes in ("0,30", ",".join(map(str, range(60)))):
        with pytest.raises(Invalid, match="a day") as caught:
            recurrence.check(f"{hours};BYMINUTE={minutes}", datetime(2026, 1, 1, 9))
        assert [each.pointer for each in caught.value.faults] == ["rule"]


def test_the_next_time_of_a_rule_that_began_years_ago_is_found_from_near_it() -> None:
    every_minute = f"BYHOUR={','.join(map(str, range(24)))};BYMINUTE={','.join(map(str, range(60)))}"
    begins = datetime(2020, 2, 29, 9)
    for rule in ("DAILY", "WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU", "MONTHLY;BYDAY=MO,TU,WE,TH,FR,SA,SU"):
        repeats = recurrence.Recurrence(1, f"FREQ={rule};{every_minute}", begins, "UTC")  # kept before it was refused
        before = process_time()
        for _ in range(10):
            assert recur.next_times(repeats, Schedule(), datetime(2026, 3, 1, 9, tzinfo=UTC), 1)
        assert process_time() - before < 1.0, rule  # of three million steps each it was ten seconds


RULES = st.one_of(
    st.builds(
        "FREQ=DAILY;INTERVAL={}{}".format, st.sampled_from([1, 2, 3, 10, 40]), st.sampled_from(["", ";BYDAY=MO,SA"])
    ),
    st.builds(
        "FREQ=WEEKLY;INTERVAL={}{}{}".format,
        st.integers(1, 9),
        st.sampled_from(["", ";BYDAY=MO", ";BYDAY=SU,WE"]),
        st.sampled_from(["", ";WKST=SU", ";WKST=WE"]),
    ),
    st.builds(
        "FREQ=MONTHLY;INTERVAL={}{}".format,
        st.integers(1, 13),
        st.sampled_from(["", ";BYDAY=1MO", ";BYMONTHDAY=-1", ";BYDAY=MO,FR;BYSETPOS=-1", ";BYMONTHDAY=31"]),
    ),
    st.builds(
        "FREQ=YEARLY;INTERVAL={}{}".format,
        st.integers(1, 2),
        st.sampled_from(["", ";BYDAY=MO;BYMONTH=3", ";BYMONTH=2,5;BYMONTHDAY=28,31", ";BYDAY=20MO"]),
    ),
)


@settings(deadline=None, max_examples=60)
@given(
    RULES,
    st.sampled_from(["", ";BYHOUR=0,10,23", ";BYMINUTE=0,30"]),
    st.sampled_from([datetime(2024, 1, 31, 9), datetime(2024, 2, 29, 9)])  # days that are not in every month, or year
    | st.datetimes(datetime(2023, 1, 1), datetime(2024, 12, 31)),
    st.integers(0, 1300 * 24 * 60),
)
def test_from_near_now_a_rule_names_the_times_that_it_names_from_its_beginning(
    rule: str, hours: str, begins: datetime, minutes: int
) -> None:
    after = begins + timedelta(minutes=minutes)
    try:
        all_of_them = [at for at in recurrence.times(rule + hours, begins) if at > after][:7]
    except Invalid:
        return
    assert list(islice(recurrence.times(rule + hours, begins, after), len(all_of_them))) == all_of_them


@given(st.text(alphabet="FREQDAILYWKMONTHUSCBP=;,-+0123456789:", max_size=60))
def test_no_rule_breaks_anything_else(rule: str) -> None:
    try:
        found = list(islice(recurrence.times("FREQ=DAILY;" + rule, datetime(2026, 1, 1, 9)), 3))
    except Invalid:
        return
    assert found == sorted(found)
