"""When a campaign goes, in a real browser: written, watched, moved; on a desk and on a phone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from app.flows import launch, schedule, send_range
from app.models.limit import Limit, set_limits
from app.runtime import Runtime
from tests import record
from tests.browser.conftest import fits
from tests.peers import running_sink
from tests.web.campaign_world import add_leads, add_sender
from tests.web.conftest import People

HTML = '<h1>Spring</h1><p>Our mill turns again.</p><p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"


@pytest.mark.usefixtures("complaints")
def test_a_campaign_is_spread_watched_and_moved(browser_page: Page, runtime: Runtime, people: People) -> None:
    page = browser_page
    add_leads(runtime, people.ours, {f"lead{n}": "" for n in range(600)})
    with running_sink() as peer:
        add_sender(runtime, people.ours, peer.url)
        page.goto("/campaigns/new")
        page.get_by_label("Name", exact=True).fill("Spring")
        page.get_by_label("From", exact=True).first.select_option(index=1)
        page.locator("#subject").fill("Our mill turns again")
        page.locator("#html").fill(HTML)
        expect(page.locator("#start")).to_be_hidden()
        expect(page.locator("#opens")).to_be_hidden()
        page.get_by_label("At a time by each lead's own clock").check()
        page.get_by_label("Only on some days and hours").check()
        page.locator("#repeats").select_option("own")
        expect(page.locator("#rule")).to_be_visible()
        page.locator("#rule").fill("FREQ=NEVER")
        page.locator("#start").fill(at(HOUR + timedelta(days=1)))
        page.get_by_role("button", name="Save draft").click()
        expect(page.locator("#rule-fault")).to_contain_text("FREQ is one of")
        fits(page, "schedule-form")
        page.locator("#repeats").select_option("")
        page.get_by_label("Only on some days and hours").uncheck()
        page.get_by_label("As soon as it is launched").check()
        page.locator("#zone").fill("UTC")
        page.locator("#deliver_by").fill(at(HOUR + timedelta(hours=3)))
        with runtime.db.begin() as conn:
            pool_id = conn.execute(text("SELECT id FROM pool")).scalar_one()
            set_limits(conn, pool_id, [Limit(per_second=0.01)])
        page.get_by_role("button", name="Save and check before launch").click()
        expect(page.get_by_text("Not all of it can go in time")).to_be_visible()
        fits(page, "schedule-check")
        with runtime.db.begin() as conn:
            set_limits(conn, pool_id, [])
        page.get_by_role("button", name="Send to").click()
        passed(runtime, minutes=70)
        send_range.drain(runtime)
        record.refresh_all(runtime)
        page.reload()
        expect(page.locator(".chart canvas").first).to_be_visible()
        fits(page, "schedule-sending")
        page.get_by_role("link", name="Move the rest").click()
        page.locator("#begins").fill(at(HOUR + timedelta(days=1)))
        page.locator("#deliver_by").fill(at(HOUR + timedelta(days=1, hours=4)))
        fits(page, "schedule-move")
        page.get_by_role("button", name="Move the rest").click()
        expect(page.get_by_text("Next are due", exact=True)).to_be_visible()
        schedule.keep_time(runtime)
        assert send_range.claim(runtime) is None
        fits(page, "schedule-moved")


@pytest.mark.usefixtures("complaints")
def test_a_campaign_that_repeats_is_watched_and_changed(browser_page: Page, runtime: Runtime, people: People) -> None:
    page = browser_page
    add_leads(runtime, people.ours, {f"lead{n}": "" for n in range(6)})
    add_sender(runtime, people.ours)
    page.goto("/campaigns/new")
    page.get_by_label("Name", exact=True).fill("Weekly")
    page.get_by_label("From", exact=True).first.select_option(index=1)
    page.locator("#subject").fill("Our mill turns again")
    page.locator("#html").fill(HTML)
    page.get_by_label("At a time", exact=True).check()
    page.locator("#start").fill(at(HOUR + timedelta(days=1)))
    page.locator("#repeats").select_option("FREQ=WEEKLY")
    page.get_by_role("button", name="Save and check before launch").click()
    fits(page, "repeats-check")
    page.get_by_role("button", name="Schedule for").click()
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET start_at = now()"))
    launch.start_due(runtime)
    page.reload()
    expect(page.get_by_text("Made of it")).to_be_visible()
    fits(page, "repeats-page")


def passed(runtime: Runtime, minutes: int) -> None:
    """So much time has passed since the launch."""
    with runtime.db.begin() as conn:
        values = {"step": timedelta(minutes=minutes)}
        for change in (
            "outbox SET due_at = due_at - :step",
            "campaign SET launched_at = launched_at - :step",
            "campaign_part SET deliver_by = deliver_by - :step, begins_at = begins_at - :step",
            "campaign_plan SET points = (SELECT jsonb_agg(jsonb_build_array((point ->> 0)::float8"
            " - extract(epoch FROM CAST(:step AS interval)), point -> 1)) FROM jsonb_array_elements(points) AS point)",
        ):
            conn.execute(text("UPDATE " + change), values)
