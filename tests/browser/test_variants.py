"""An A/B test in a real browser: written, launched, watched, chosen by hand; on a desk and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from app.flows import choose_winner, send_range, track
from app.models import track as tracking
from app.models.track import Hit
from app.runtime import Runtime
from tests.browser.conftest import fits
from tests.peers import running_sink
from tests.web.campaign_world import add_leads, add_sender
from tests.web.conftest import People

HTML = (
    '<h1>Spring</h1><p>Our mill turns again. <a href="https://shop.example.com/">Shop</a></p>'
    '<p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
)


@pytest.mark.usefixtures("complaints")
def test_a_test_is_written_watched_and_chosen(browser_page: Page, runtime: Runtime, people: People) -> None:
    page = browser_page
    add_leads(runtime, people.ours, {f"lead{n}": "" for n in range(1200)})
    with running_sink() as peer:
        add_sender(runtime, people.ours, peer.url)
        page.goto("/campaigns/new")
        page.get_by_label("Name", exact=True).fill("Spring")
        page.get_by_label("From", exact=True).first.select_option(index=1)
        page.locator("#subject").fill("Our mill turns again")
        page.locator("#html").fill(HTML)
        page.get_by_text("Variant B", exact=False).first.click()
        page.locator("#subject_b").fill("Fresh flour from the old mill, for everybody who waited all winter long")
        page.get_by_text("Variant C", exact=False).first.click()
        page.locator("#subject_c").fill("{{ lead.frist_name }}, come and see")
        page.locator("summary", has_text="A content of its own").nth(1).click()
        page.locator("#html_c").fill(HTML.replace("Spring", "Come and see"))
        page.get_by_label("Test on").fill("60")
        page.get_by_role("button", name="Save draft").click()
        expect(page.locator("#subject_c-fault")).to_contain_text("frist_name")
        expect(page.locator("#subject_b")).to_have_value(
            "Fresh flour from the old mill, for everybody who waited all winter long"
        )
        fits(page, "variants-faulty")
        page.locator("#subject_c").fill("Come and see")
        page.select_option("#track_clicks", "on")
        page.get_by_role("button", name="Save and preview").click()
        page.get_by_role("link", name="Variant C").click()
        expect(page.locator(".mail-head h2")).to_have_text("Come and see")
        expect(page.frame_locator("iframe").locator("h1")).to_have_text("Come and see")
        fits(page, "variants-preview")
        page.get_by_role("link", name="Check and launch").click()
        expect(page.get_by_text("about 240 leads each")).to_be_visible()
        fits(page, "variants-check")
        page.get_by_role("button", name="Send to").click()
        send_range.drain(runtime)
        choose_winner.choose_due(runtime)
        click(runtime, {0: 14, 1: 38, 2: 20})
        page.reload()
        expect(page.get_by_text("B does better than A; there is not enough to tell it from C.")).to_be_visible()
        expect(page.get_by_text("the rest waits for the winner of the test")).to_be_visible()
        fits(page, "variants-waiting")
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Send B to the rest now").click()
        expect(page.get_by_text("The rest gets variant B.")).to_be_visible()
        send_range.drain(runtime)
    page.reload()
    expect(page.get_by_text("Ann chose B for the rest")).to_be_visible()
    fits(page, "variants-chosen")


def click(runtime: Runtime, clicks: dict[int, int]) -> None:
    """So many leads of each variant follow its link."""
    with runtime.db.begin() as conn:
        for variant, leads in clicks.items():
            rows = conn.execute(
                text(
                    "SELECT campaign_id, lead_id, settled_at + interval '1 minute'"
                    " FROM handoff, unnest(lead_ids) AS lead_id WHERE variant = :variant ORDER BY lead_id LIMIT :leads"
                ),
                {"variant": variant, "leads": leads},
            )
            tracking.keep(conn, [Hit(campaign_id, lead_id, 1, at, None) for campaign_id, lead_id, at in rows])
    track.read_hits(runtime, wait=-3600)
