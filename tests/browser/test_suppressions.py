"""Promises of the suppressions' pages that only a browser can check: they fit, and the way through them works."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.models import lead, suppression
from app.models.suppression import Entry
from app.runtime import Runtime
from tests import world
from tests.browser.conftest import DESKTOP, PHONE, shot
from tests.web.conftest import People

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME = "a.rather.long.name.for.an.address"


@pytest.fixture
def furnished(runtime: Runtime, people: People) -> int:
    """Some addresses of every sort; the lead of one that was taken back once."""
    with runtime.db.begin() as conn:
        values = {"organisation_id": people.ours, "name": "Marketing", "provider": "sink", "shown_url": "sink"}
        pool_id = world.insert(conn, "pool", **values, url=b"", batch=50)
        values = {"organisation_id": people.ours, "name": "Old Mill Bakery", "address": "hello@bakery.example.com"}
        sender_id = world.insert(conn, "sender", **values, pool_id=pool_id)
        domain = lead.number_domains(conn, ["example.org"])["example.org"]
        world.merge(conn, people.ours, [f"{NAME}@example.org\t{domain}\t\\N\t{{}}\n"])
        suppression.suppress(conn, people.ours, [f"{NAME}@example.org"], "bounced", "campaign 7", at=SINCE)
        suppression.remove(conn, people.ours, [f"{NAME}@example.org"], user_id=people.ann)
        entries = [
            *(
                Entry(f"{n}.{reason}@example.org", reason, f"campaign {n + 1}", at=SINCE)
                for n, reason in enumerate(suppression.REASONS)
            ),
            Entry(f"{NAME}@example.org", "unsubscribed", "campaign 12", at=SINCE),
            Entry(f"{NAME}@example.org", "manual", "asked us on the phone not to get the weekly letter", sender_id),
        ]
        suppression.suppress_each(conn, people.ours, entries, user_id=people.ann)
        found = lead.find_id(conn, people.ours, f"{NAME}@example.org")
    assert found is not None
    return found


def test_every_page_of_suppressions_fits_a_phone_and_a_desk(browser_page: Page, furnished: int) -> None:
    rooms = {
        "suppressions": "/suppressions",
        "suppressions-found": "/suppressions?q=zz",
        "suppression-new": "/suppressions/new",
        "suppression-import": "/suppressions/import",
        "suppression-remove": f"/suppressions/remove?email={NAME}@example.org",
        "suppressed-lead": f"/leads/{furnished}",
    }
    for size in (DESKTOP, PHONE):
        browser_page.set_viewport_size(size)  # type: ignore[arg-type]
        for name, path in rooms.items():
            browser_page.goto(path)
            browser_page.wait_for_load_state("networkidle")
            shot(browser_page, name)
            wide = browser_page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} is {wide} px too wide at {size['width']}"


def test_a_list_is_imported_searched_and_one_address_taken_back(
    browser_page: Page, runtime: Runtime, people: People, tmp_path: Path
) -> None:
    (tmp_path / "old.csv").write_text("email,reason\nada@example.org,unsubscribed\nbo@example.org,bounced\nnobody,\n")
    browser_page.goto("/suppressions")
    browser_page.get_by_role("link", name="Import a list").click()
    browser_page.get_by_label("CSV file").set_input_files(tmp_path / "old.csv")
    browser_page.get_by_role("button", name="Import").click()
    expect(browser_page.get_by_text("Rows that were not taken")).to_be_visible()
    shot(browser_page, "suppressions-imported")
    browser_page.get_by_role("link", name="See all suppressions").click()
    browser_page.get_by_role("searchbox").fill("ada")
    expect(browser_page.get_by_text("bo@example.org")).to_be_hidden()
    browser_page.get_by_role("link", name="Mail again").click()
    browser_page.get_by_role("button", name="Mail again").click()
    expect(browser_page.get_by_text("taken back only when they ask")).to_be_visible()
    browser_page.get_by_label("They have asked").check()
    browser_page.get_by_role("button", name="Mail again").click()
    expect(browser_page.get_by_text("ada@example.org may be mailed again.")).to_be_visible()
    with runtime.db.begin() as conn:
        assert not suppression.is_suppressed(conn, people.ours, "ada@example.org")
        assert suppression.is_suppressed(conn, people.ours, "bo@example.org")
