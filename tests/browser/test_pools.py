"""A pool's page as people see it: limits by receiver, the mailbox, and events that nobody knows; on a phone, too."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from app.flows import pools, returns
from app.models import limit, mailbox, unread
from app.models.limit import Limit
from app.models.mailbox import Taken
from app.models.webhook import Post
from app.providers.unread import unread as unread_event
from app.runtime import Runtime
from tests.browser.conftest import DESKTOP, PHONE, shot
from tests.web.conftest import People


@pytest.fixture
def pool_id(runtime: Runtime, people: People) -> int:
    made = pools.add_pool(runtime, people.ours, "Own server", "smtp://u:p@mail.example.com:587?connections=12")
    returns.set_mailbox(runtime, made, "imaps://bounces:p@imap.example.com/INBOX?then=delete")
    told = {"event": "reacted", "email": "ada@example.com", "emoji": "🎉", "user_agent": "Mozilla/5.0 " + "x" * 300}
    strange = [
        (Post(1, datetime.now(UTC), "", b""), unread_event("reacted", told | {"n": n}, lambda _: datetime.now(UTC)))
        for n in range(5)
    ]
    with runtime.db.begin() as conn:
        limit.set_limits(conn, made, [Limit("", 50.0, 50, 100_000), Limit("yahoo", 5.0, 5, None, 2, 20)])
        mailbox.note_taken(conn, made, Taken(1234, 2, 17, 1))
        box = mailbox.find(conn, made)
        assert box is not None
        mailbox.note_read(conn, box)
        mailbox.note_failed(conn, box, "The mailbox cannot be read: Connection refused.")
        conn.execute(text("SELECT keep_webhook_days(8)"))
        unread.note(conn, made, [], strange)
    return made


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_pools_page_fits_and_says_what_is_there(browser_page: Page, pool_id: int, size: dict[str, int]) -> None:
    browser_page.set_viewport_size(size)  # type: ignore[arg-type]
    browser_page.goto(f"/pools/{pool_id}")
    expect(browser_page.locator("#mailbox")).to_contain_text("1,234 reports about emails of ours")
    expect(browser_page.locator("#unread")).to_contain_text("5 events")
    browser_page.locator("#unread summary").first.click()
    expect(browser_page.locator("#unread pre").first).to_contain_text("ada@example.com")
    assert fits(browser_page)
    shot(browser_page, "pool")
    browser_page.goto(f"/pools/{pool_id}/limits")
    assert fits(browser_page)
    shot(browser_page, "limits")
    browser_page.goto(f"/pools/{pool_id}/mailbox")
    browser_page.get_by_label("Server").fill("imap.example.com:993")
    browser_page.get_by_role("button", name="Try and save").click()
    expect(browser_page.locator("#host-fault")).to_be_visible()
    assert fits(browser_page)
    shot(browser_page, "mailbox")


def test_an_event_that_nobody_knows_is_forgotten_by_a_click(browser_page: Page, pool_id: int) -> None:
    browser_page.goto(f"/pools/{pool_id}")
    browser_page.get_by_role("button", name="Forget").click()
    expect(browser_page.locator("#mailbox")).to_be_visible()
    expect(browser_page.locator("#unread")).to_have_count(0)


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
