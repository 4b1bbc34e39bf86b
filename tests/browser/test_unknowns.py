"""What nobody knows, and the question before anybody may get it twice, in a real browser on a phone and a desk."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from sqlalchemy import text

from app.flows import unknowns
from app.models import unknown
from app.runtime import Runtime
from tests.browser.conftest import DESKTOP, PHONE, shot
from tests.peers import running_sink
from tests.sending_world import heard_since, later, query, sums
from tests.web.campaign_world import add_draft
from tests.web.conftest import People
from tests.web.test_unknowns import make, webhooks_arrive

REASON = "HTTP 503 from the provider: upstream connect error or disconnect/reset before headers"


def unknown_campaign(runtime: Runtime, people: People) -> int:
    """Seven calls that nobody knows of, one of them asked again; a pool that waits, and one that was refused."""
    with running_sink(batch=4) as peer:
        campaign_id = make(runtime, people, peer, name="Autumn at the mill", unknown_policy="resend")
    webhooks_arrive(runtime)
    later(runtime, 300)
    [(pool_id,)] = query(runtime, "SELECT id FROM pool")
    heard_since(runtime, int(str(pool_id)), 3600)
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO handoff (range_id, campaign_id, pool_id, run, variant, key, lead_ids, outcomes, state,"
                " handed_at, settled_at, unknown_since, answer, frozen, repeat_at)"
                " SELECT range_id, campaign_id, pool_id, run, variant, gen_random_uuid(), lead_ids, outcomes, state,"
                "        handed_at + make_interval(secs => n), settled_at, unknown_since,"
                "        CASE WHEN n > 2 THEN 'The worker died or lost the range while the call was under way.'"
                "        ELSE answer END,"
                "        CASE WHEN n = 1 THEN '\\x00'::bytea END, CASE WHEN n = 1 THEN now() END"
                "   FROM (SELECT * FROM handoff ORDER BY id LIMIT 1) AS first CROSS JOIN generate_series(1, 5) AS n"
            )
        )
        conn.execute(  # some went through another pool, of which no webhooks come; some long ago
            text(
                "INSERT INTO pool (organisation_id, name, provider, url, shown_url, batch)"
                " SELECT organisation_id, 'Spare at the other provider', provider, url, shown_url, batch FROM pool"
            )
        )
        conn.execute(
            text(
                "UPDATE handoff SET pool_id = (SELECT max(id) FROM pool)"
                " WHERE id IN (SELECT id FROM handoff WHERE repeat_at IS NULL ORDER BY id LIMIT 2 OFFSET 1)"
            )
        )
        conn.execute(
            text(
                "UPDATE handoff SET handed_at = handed_at - interval '20 minutes'"
                " WHERE id IN (SELECT id FROM handoff WHERE repeat_at IS NULL ORDER BY id LIMIT 2 OFFSET 2)"
            )
        )
        conn.execute(
            text(
                "UPDATE pool SET state = 'paused', reason = :reason, failures = 5,"
                " resume_at = now() + interval '8 minutes'"
            ),
            {"reason": REASON},
        )
    return campaign_id


def test_what_is_unknown_fits_a_phone_and_a_desk(browser_page: Page, runtime: Runtime, people: People) -> None:
    campaign_id = unknown_campaign(runtime, people)
    draft = add_draft(runtime, people)
    with runtime.db.begin() as conn:
        left, call, *_ = unknown.find_undecided(conn, campaign_id)
    unknowns.leave(runtime, people.ours, campaign_id, [left])
    pages = {
        "unknown-campaign": f"/campaigns/{campaign_id}",
        "unknown-list": f"/campaigns/{campaign_id}/unknowns",
        "unknown-question": f"/campaigns/{campaign_id}/unknowns/send-again?call={call}",
        "unknown-question-all": f"/campaigns/{campaign_id}/unknowns/send-again",
        "failed-question": f"/campaigns/{campaign_id}/failed/send-again",
        "unknown-pool": "/senders",
        "unknown-form": f"/campaigns/{draft}/edit",
    }
    for size in (DESKTOP, PHONE):
        browser_page.set_viewport_size(size)  # type: ignore[arg-type]
        for name, path in pages.items():
            browser_page.goto(path)
            browser_page.wait_for_load_state("networkidle")
            shot(browser_page, name)
            width = browser_page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{path} is {width} pixels wide on {size['width']}"


def test_nobody_gets_it_twice_before_a_question_was_answered(
    browser_page: Page, runtime: Runtime, people: People
) -> None:
    with running_sink(batch=4) as peer:
        campaign_id = make(runtime, people, peer)
        browser_page.goto(f"/campaigns/{campaign_id}")
        section = browser_page.locator("#unknowns")
        expect(section.locator(".figure")).to_have_text("8 leads in 2 calls to the provider")
        section.get_by_role("link", name="Send again", exact=True).first.click()
        expect(browser_page.locator(".lead-in")).to_contain_text("4 people may get it twice.")
        browser_page.get_by_role("link", name="Not now").click()
        assert sums(runtime, campaign_id) == {"unknown": 8}
        section.get_by_role("link", name="Send again", exact=True).first.click()
        browser_page.get_by_role("button", name="Send again to 4 leads").click()
        expect(browser_page.locator(".notice.good")).to_have_text("It is sent again to 4 leads.")
        section.get_by_role("button", name="Leave", exact=True).click()
        expect(browser_page.locator(".notice.good")).to_contain_text("4 leads count as failed now.")
        assert sums(runtime, campaign_id) == {"open": 4, "failed": 4}
