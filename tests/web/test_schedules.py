"""When a campaign goes, on its pages: written, shown, changed before the start, and moved while it sends."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.flows import launch, send_range
from app.models import outbox, recurrence
from app.models import schedule as planned
from app.models.limit import Limit, set_limits
from app.models.schedule import OwnClock, Schedule
from app.runtime import Runtime
from tests import record, world
from tests.peers import running_sink
from tests.web.campaign_world import add_draft, add_leads, add_sender
from tests.web.conftest import People, Visit

HTML = '<p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
FORM = {"name": "Spring", "sender": "", "segment": "", "subject": "News", "html": HTML, "text": "", "when": "now"}
FORM |= {"lateness": "", "deliver_by": "", "start": "", "repeats": "", "rule": ""}  # as browsers send them
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).replace(hour=10, minute=0, second=0, microsecond=0)
WINDOWS = {"windows": "y", "days": ["1", "5"], "opens": "08:30", "closes": "18:00", "windows_own": "y"}


def at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"


def create(ann: Visit, **values: object) -> int:
    """A draft, written on its page."""
    response = ann.post("/campaigns/new", FORM | {"zone": "UTC"} | values)
    assert response.status_code == 302
    return int(response.location.split("/")[2])


def test_all_of_a_schedule_is_kept_and_shown_again(runtime: Runtime, people: People, ann: Visit) -> None:
    by = TOMORROW + timedelta(hours=8)
    times = {"when": "later", "start": at(TOMORROW), "deliver_by": at(by), "lateness": "90"}
    campaign_id = create(ann, **times, **WINDOWS, repeats="own", rule="freq=weekly;byday=mo", skip_sent="y")
    with runtime.db.begin() as conn:
        kept, repeats = planned.find(conn, campaign_id), recurrence.find(conn, campaign_id)
    assert kept.start_at == TOMORROW
    assert (kept.schedule.deliver_by, kept.schedule.lateness) == (by, 90)
    assert kept.schedule.windows is not None
    assert (kept.schedule.windows.days, kept.schedule.windows.own) == ((1, 5), True)
    assert repeats is not None
    assert (repeats.rule, repeats.begins) == ("FREQ=WEEKLY;BYDAY=MO", TOMORROW.replace(tzinfo=None))
    page = ann.get(f"/campaigns/{campaign_id}/edit").text
    for value in (at(TOMORROW), at(by), "90", "08:30", "FREQ=WEEKLY;BYDAY=MO"):
        assert f'value="{value}"' in page
    shown = ann.get(f"/campaigns/{campaign_id}").text
    assert "Mon, Fri, 08:30 to 18:00 by each lead" in shown


def test_by_leads_own_clocks_the_times_have_no_zone(runtime: Runtime, people: People, ann: Visit) -> None:
    campaign_id = create(ann, when="own", start=at(TOMORROW), past="next_day", zone="Europe/Berlin")
    with runtime.db.begin() as conn:
        kept = planned.find(conn, campaign_id)
    assert kept.schedule.own is not None
    assert kept.schedule.own.starts == TOMORROW.replace(tzinfo=None)
    assert kept.start_at == TOMORROW - timedelta(hours=14)
    assert (kept.schedule.own.past, kept.schedule.zone) == ("next_day", "Europe/Berlin")
    assert f'value="{at(TOMORROW)}"' in ann.get(f"/campaigns/{campaign_id}/edit").text


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("deliver_by", {"when": "later", "start": at(TOMORROW), "deliver_by": at(TOMORROW - timedelta(hours=1))}),
        ("deliver_by", {"deliver_by": "soon"}),
        ("deliver_by", {"when": "own", "start": at(TOMORROW), "deliver_by": at(TOMORROW)}),
        ("start", {"when": "own", "start": ""}),
        ("days", WINDOWS | {"days": []}),
        ("opens", WINDOWS | {"opens": "8 o'clock"}),
        ("lateness", {"lateness": "-5"}),
        ("lateness", {"lateness": "long"}),
        ("zone", {"zone": "Middle/Earth"}),
        ("rule", {"when": "later", "start": at(TOMORROW), "repeats": "own", "rule": "FREQ=NEVER"}),
        ("start", {"repeats": "FREQ=DAILY"}),
    ],
)
def test_what_cannot_be_meant_is_said_at_its_field(
    runtime: Runtime, people: People, ann: Visit, field: str, values: dict[str, object]
) -> None:
    response = ann.post("/campaigns/new", FORM | {"zone": "UTC", "subject": "Kept"} | values)
    assert response.status_code == 422
    assert f'id="{field}-fault"' in response.text
    assert 'value="Kept"' in response.text
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM campaign")).scalar_one() == 0


def scheduled(runtime: Runtime, people: People, chosen: Schedule, start_at: datetime | None) -> int:
    sender = add_sender(runtime, people.ours)
    add_leads(runtime, people.ours, {f"lead{n}": "" for n in range(60)})
    campaign_id = add_draft(runtime, people, sender_id=sender, start_at=start_at, schedule=chosen)
    launch.launch(runtime, people.ours, campaign_id)
    return campaign_id


def test_the_time_is_changed_on_the_page_before_it_starts(runtime: Runtime, people: People, ann: Visit) -> None:
    campaign_id = scheduled(runtime, people, Schedule(), TOMORROW)
    assert f"/campaigns/{campaign_id}/reschedule" in ann.get(f"/campaigns/{campaign_id}").text
    later = TOMORROW + timedelta(days=1)
    bad = ann.post(f"/campaigns/{campaign_id}/reschedule", {"when": "later", "start": "", "zone": "UTC"})
    assert bad.status_code == 422
    assert 'id="start-fault"' in bad.text
    values = {"when": "later", "start": at(later), "zone": "UTC", "deliver_by": at(later + timedelta(hours=3))}
    assert ann.post(f"/campaigns/{campaign_id}/reschedule", values).status_code == 302
    with runtime.db.begin() as conn:
        kept = planned.find(conn, campaign_id)
    assert (kept.state, kept.start_at) == ("scheduled", later)


def test_the_rest_is_moved_on_the_page(runtime: Runtime, people: People, ann: Visit) -> None:
    campaign_id = scheduled(runtime, people, Schedule(deliver_by=TOMORROW), None)
    assert f"/campaigns/{campaign_id}/move" in ann.get(f"/campaigns/{campaign_id}").text
    bad = ann.post(f"/campaigns/{campaign_id}/move", {"begins": "", "zone": "UTC"})
    assert bad.status_code == 422
    assert 'id="begins-fault"' in bad.text
    later = TOMORROW + timedelta(days=1)
    values = {"begins": at(later), "deliver_by": at(later + timedelta(hours=2)), "zone": "UTC"}
    assert ann.post(f"/campaigns/{campaign_id}/move", values).status_code == 302
    with runtime.db.begin() as conn:
        due = world.row(conn, "SELECT min(due_at) AS first, max(due_at) AS last, sum(size) AS leads FROM outbox")
        assert outbox.progress(conn, campaign_id).adds_up
    assert later <= due["first"] < due["last"] < later + timedelta(hours=2)
    assert due["leads"] == 60
    page = ann.get(f"/campaigns/{campaign_id}").text
    assert "Next are due" in page


def test_the_curve_is_planned_to_the_last_lead(runtime: Runtime, people: People, ann: Visit) -> None:
    campaign_id = scheduled(runtime, people, Schedule(deliver_by=TOMORROW), None)
    drawn = ann.get(f"/campaigns/{campaign_id}/curve").json
    assert drawn is not None
    names = {line["label"]: line["values"] for line in drawn["lines"]}
    assert (names["Planned"][0], names["Planned"][-1]) == (0, 60)
    assert names["Planned"] == sorted(names["Planned"])
    assert names["Gone"][0] == 0
    assert names["Gone"][-1] is None


def test_the_curve_counts_what_went_in_the_minutes_of_the_launch(runtime: Runtime, people: People, ann: Visit) -> None:
    campaign_id = scheduled(runtime, people, Schedule(deliver_by=TOMORROW), None)
    with runtime.db.begin() as conn:
        ago = "time_bucket('5 minutes', now()) - interval '7 minutes'"  # within five minutes, and not where they begin
        launched_at = conn.execute(text(f"UPDATE campaign SET launched_at = {ago} RETURNING launched_at")).scalar_one()
        record.append(conn, launched_at + timedelta(seconds=20), "sent", 7, campaign_id=campaign_id)
    record.refresh_all(runtime)
    drawn = ann.get(f"/campaigns/{campaign_id}/curve").json
    assert drawn is not None
    assert [known for known in drawn["lines"][1]["values"] if known is not None][-1] == 7


def test_no_end_is_foretold_by_the_pace_of_a_campaign_that_keeps_time(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    add_leads(runtime, people.ours, {f"lead{n}": "" for n in range(60)})
    with running_sink() as peer:
        sender = add_sender(runtime, people.ours, peer.url)
        campaign_id = add_draft(runtime, people, sender_id=sender, schedule=Schedule(deliver_by=TOMORROW))
        launch.launch(runtime, people.ours, campaign_id)
        send_range.drain(runtime)  # the first, who are due at once
    page = f"/campaigns/{campaign_id}/progress?seen={datetime.now(UTC).timestamp() - 5:.2f}-0"
    shown = ann.get(page).text
    assert "emails a second" in shown
    assert " left" not in shown
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM campaign_plan"))
    assert " left" in ann.get(page).text


def test_nobody_is_behind_before_the_time_of_the_first(runtime: Runtime, people: People, ann: Visit) -> None:
    sender = add_sender(runtime, people.ours)
    add_leads(runtime, people.ours, {f"lead{n}": "" for n in range(60)})
    chosen = Schedule(own=OwnClock((datetime.now(UTC) + timedelta(hours=6)).replace(tzinfo=None)))
    campaign_id = add_draft(runtime, people, sender_id=sender, start_at=chosen.first_moment(), schedule=chosen)
    launch.launch(runtime, people.ours, campaign_id)
    earlier = "jsonb_set(points, '{0,0}', to_jsonb((points -> 0 ->> 0)::float8 - 36000))"  # it began ten hours ago
    with runtime.db.begin() as conn:
        conn.execute(text(f"UPDATE campaign_plan SET points = {earlier}"))
    page = ann.get(f"/campaigns/{campaign_id}").text
    assert "behind the plan" not in page
    page = ann.get(f"/campaigns/{campaign_id}/progress?seen={datetime.now(UTC).timestamp() - 5:.2f}-0").text
    assert "the first are due" in page
    assert "on their way" not in page


def test_windows_of_utc_stay_those_when_another_zone_was_used_last(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    campaign_id = create(ann, **WINDOWS | {"windows_own": ""})
    create(ann, zone="Asia/Tokyo", when="later", start=at(TOMORROW))
    assert re.search(r'id="zone"[^>]* value="UTC"', ann.get(f"/campaigns/{campaign_id}/edit").text)


def test_limits_that_make_it_impossible_are_said_before_the_launch(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    sender = add_sender(runtime, people.ours)
    add_leads(runtime, people.ours, {f"lead{n}": "" for n in range(60)})
    by = datetime.now(UTC) + timedelta(hours=2)
    campaign_id = add_draft(runtime, people, sender_id=sender, schedule=Schedule(deliver_by=by))
    assert "Not all of it can go in time" not in ann.get(f"/campaigns/{campaign_id}/launch").text
    with runtime.db.begin() as conn:
        pool_id = conn.execute(text("SELECT id FROM pool")).scalar_one()
        set_limits(conn, pool_id, [Limit(per_second=0.005)])  # 36 in two hours
    assert "Not all of it can go in time" in ann.get(f"/campaigns/{campaign_id}/launch").text
    launch.launch(runtime, people.ours, campaign_id)
    assert "Not all of it can go in time" in ann.get(f"/campaigns/{campaign_id}").text


def test_a_campaign_that_repeats_says_when_and_can_be_paused_and_ended(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    sender = add_sender(runtime, people.ours)
    add_leads(runtime, people.ours, {"ada": "Ada"})
    campaign_id = create(ann, sender=sender, when="later", start=at(TOMORROW), repeats="FREQ=DAILY", skip_sent="y")
    assert ann.post(f"/campaigns/{campaign_id}/launch", {}).status_code == 302
    page = ann.get(f"/campaigns/{campaign_id}").text
    assert "every day" in page
    assert page.count(f"{TOMORROW:%H:%M}:00Z") >= 5
    ann.post(f"/campaigns/{campaign_id}/repeats/pause", {})
    assert "Paused" in ann.get(f"/campaigns/{campaign_id}").text
    ann.post(f"/campaigns/{campaign_id}/repeats/go-on", {})
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET start_at = now() WHERE id = :id"), {"id": campaign_id})
    launch.start_due(runtime)
    page = ann.get(f"/campaigns/{campaign_id}").text
    assert "Made of it" in page
    made = ann.get(f"/campaigns/{campaign_id + 1}").text
    assert "One of" in made
    assert ann.post(f"/campaigns/{campaign_id}/repeats/end", {}).status_code == 302
    assert "repeats no more" in ann.get(f"/campaigns/{campaign_id}").text


def test_what_began_long_ago_is_mended_on_its_page_and_goes_on_as_it_began(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    times = {"when": "later", "start": at(TOMORROW), "deliver_by": at(TOMORROW + timedelta(hours=2))}
    repeats = {"repeats": "own", "rule": "FREQ=DAILY;COUNT=5", "skip_sent": "y"}
    campaign_id = create(ann, **times, **repeats)
    began = TOMORROW - timedelta(days=3)
    with runtime.db.begin() as conn:
        by = (began + timedelta(hours=2)).isoformat()
        schedule = "jsonb_build_object('deliver_by', CAST(:by AS text))"
        conn.execute(text(f"UPDATE campaign SET start_at = :began, schedule = {schedule}"), {"began": began, "by": by})
        conn.execute(text("UPDATE recurrence SET begins = :began"), {"began": began.replace(tzinfo=None)})
    next_by = (TOMORROW + timedelta(hours=2)).isoformat()  # today's, where it is not yet ten
    shown = ann.get(f"/campaigns/{campaign_id}").text
    assert next_by[:19] in shown or (TOMORROW - timedelta(hours=22)).isoformat()[:19] in shown
    form = FORM | {"zone": "UTC", "name": "Mended"} | times | repeats
    form |= {"start": at(began), "deliver_by": at(began + timedelta(hours=2))}
    assert ann.post(f"/campaigns/{campaign_id}/edit", form).status_code == 302
    with runtime.db.begin() as conn:
        kept = recurrence.find(conn, campaign_id)
        assert planned.find(conn, campaign_id).start_at == began
    assert kept is not None
    assert kept.begins == began.replace(tzinfo=None)
    another = form | {"start": at(began + timedelta(days=1))}
    assert "has passed already" in ann.post(f"/campaigns/{campaign_id}/edit", another).text
    once = form | {"repeats": "", "rule": ""}
    assert "has passed already" in ann.post(f"/campaigns/{campaign_id}/edit", once).text


def test_what_repeats_and_was_taken_back_is_offered_for_its_next_time_and_not_now(
    runtime: Runtime, people: People, ann: Visit
) -> None:
    sender = add_sender(runtime, people.ours)
    add_leads(runtime, people.ours, {"ada": "Ada", "bea": "Bea"})
    with runtime.db.begin() as conn:
        pool_id = conn.execute(text("SELECT pool_id FROM sender WHERE id = :id"), {"id": sender}).scalar_one()
        set_limits(conn, pool_id, [Limit(per_day=1)])
    times = {"when": "later", "start": at(TOMORROW), "repeats": "FREQ=WEEKLY", "skip_sent": "y"}
    campaign_id = create(ann, sender=sender, **times)
    with runtime.db.begin() as conn:
        began = {"began": TOMORROW - timedelta(days=21)}
        conn.execute(text("UPDATE campaign SET start_at = :began"), began)
        conn.execute(text("UPDATE recurrence SET begins = CAST(:began AS timestamptz) AT TIME ZONE 'UTC'"), began)
    page = ann.get(f"/campaigns/{campaign_id}/launch").text
    assert f"Schedule for {TOMORROW:%a} {TOMORROW.day} {TOMORROW:%b %Y, %H:%M}" in page
    assert "Send to" not in page and "what has gone does not come back" not in page
    ends = re.search(r'It ends on <time datetime="([^"]+)"', page)
    assert ends is not None and datetime.fromisoformat(ends[1]) >= TOMORROW + timedelta(days=1)
    listed = ann.get("/").text
    assert "planned for" not in listed and "repeats" in listed
    assert ann.post(f"/campaigns/{campaign_id}/launch", {}).status_code == 302
    with runtime.db.begin() as conn:
        assert planned.find(conn, campaign_id).start_at == TOMORROW
