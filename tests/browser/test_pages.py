"""Promises that only a browser can check: what moves, what fits, and what works without scripts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.flows import api_keys, endpoints, import_leads, pools, segments, senders
from app.models import lead
from app.models.api_key import SCOPES
from app.runtime import Runtime
from tests.browser.conftest import DESKTOP, PHONE, log_in, shot
from tests.web.conftest import People

ROWS = "email,first_name,country,age,signed_up\n" + "".join(
    f"lead{n}@example.org,Name {n},{'France' if n % 4 else 'Japan'},{20 + n % 60},2026-0{1 + n % 9}-11\n"
    for n in range(400)
)


@pytest.fixture
def furnished(runtime: Runtime, people: People, tmp_path: Path) -> None:
    """A house with something in every room."""
    with (tmp_path / "leads.csv").open("w+b") as file:
        file.write(f"{ROWS}no address,x,France,1,2026-01-01\n".encode())
        file.seek(0)
        import_leads.receive(runtime, people.ours, people.ann, "leads with a rather long file name.csv", file)
    import_leads.run_waiting(runtime)
    condition = {"combinator": "and", "rules": [{"field": "attributes.country", "operator": "=", "value": "France"}]}
    segments.create(runtime, people.ours, "The French", condition)
    pool = pools.add_pool(runtime, people.ours, "Marketing", "smtp://a:b@smtp.example.com:587?tls=starttls")
    senders.add_sender(runtime, people.ours, pool, "Old Mill Bakery", "hello@bakery.example.com")
    long = "https://hooks.example.com/" + "a-rather-long-path/" * 8
    endpoint_id = endpoints.add(runtime, people.ours, endpoints.Entry("Warehouse", long)).id
    endpoints.disable(runtime, people.ours, endpoint_id, people.ann)
    api_keys.create(runtime, people.ours, people.ann, "A shop with a rather long name", tuple(SCOPES)[:-1])


@pytest.mark.usefixtures("furnished")
def test_every_page_fits_a_phone_and_a_desk(browser_page: Page, runtime: Runtime, people: People) -> None:
    with runtime.db.begin() as conn:
        someone = lead.find_page(conn, people.ours, "", None, 1)[0].id
    rooms = {
        "api": "/api",
        "api-keys": "/api/keys",
        "api-key-new": "/api/keys/new",
        "leads": "/leads",
        "lead": f"/leads/{someone}",
        "imports": "/imports",
        "import": "/imports/1",
        "import-new": "/imports/new",
        "segments": "/segments",
        "segment": "/segments/1",
        "segment-new": "/segments/new",
        "senders": "/senders",
        "sender-new": "/senders/new",
        "pool-new": "/pools/new",
        "pool-new-ses": "/pools/new?kind=ses",
        "pool": "/pools/1",
        "pool-edit": "/pools/1/edit",
        "pool-limits": "/pools/1/limits",
        "sender-edit": "/senders/1/edit",
        "endpoints": "/endpoints",
        "endpoint": "/endpoints/1",
        "endpoint-new": "/endpoints/new",
        "account": "/account",
    }
    for size in (DESKTOP, PHONE):
        browser_page.set_viewport_size(size)  # type: ignore[arg-type]
        for name, path in rooms.items():
            browser_page.goto(path)
            browser_page.wait_for_load_state("networkidle")
            shot(browser_page, name)
            width = browser_page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{path} is {width} pixels wide on {size['width']}"


def test_the_menu_opens_without_scripts_on_a_phone(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, viewport=PHONE, java_script_enabled=False)  # type: ignore[arg-type]
    page = context.new_page()
    log_in(page)
    page.locator("summary").first.click()
    shot(page, "menu")
    page.get_by_role("link", name="Segments").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Segments")
    context.close()


@pytest.mark.usefixtures("furnished")
def test_times_are_shown_in_the_readers_own_zone(browser_page: Page, runtime: Runtime, people: People) -> None:
    from zoneinfo import ZoneInfo

    with runtime.db.begin() as conn:
        added = lead.find_page(conn, people.ours, "lead0@", None, 1)[0].created_at
    browser_page.goto("/leads?q=lead0@")
    expect(browser_page.locator("td time")).to_contain_text(added.astimezone(ZoneInfo("Asia/Tokyo")).strftime("%H:%M"))


def test_a_file_is_sent_and_watched_until_it_is_read(browser_page: Page, runtime: Runtime, tmp_path: Path) -> None:
    file = tmp_path / "spring.csv"
    file.write_text(ROWS + "nobody,x,Japan,1,2026-01-01\n")
    browser_page.goto("/imports/new")
    browser_page.get_by_label("CSV file").set_input_files(file)
    browser_page.get_by_role("button", name="Import").click()
    expect(browser_page.get_by_role("heading", level=1)).to_have_text("spring.csv")
    expect(browser_page.get_by_text("Waiting for a worker.")).to_be_visible()
    worker = threading.Thread(target=import_leads.run_waiting, args=(runtime,))
    worker.start()
    expect(browser_page.locator(".page-title .badge")).to_have_text("finished")
    worker.join()
    expect(browser_page.locator(".tile", has_text="Added")).to_contain_text("400")
    expect(browser_page.locator(".tile", has_text="Rejected")).to_contain_text("1")
    with browser_page.expect_download() as download:
        browser_page.get_by_role("link", name="Rejected rows").click()
    assert "nobody" in download.value.path().read_text()


def test_a_file_that_is_none_is_refused_with_a_sentence(browser_page: Page, tmp_path: Path) -> None:
    file = tmp_path / "sheet.csv"
    file.write_bytes(b"PK\x03\x04 not really")
    browser_page.goto("/imports/new")
    browser_page.get_by_label("CSV file").set_input_files(file)
    browser_page.get_by_role("button", name="Import").click()
    expect(browser_page.locator(".fault")).to_contain_text("Excel")


@pytest.mark.usefixtures("furnished")
def test_a_condition_is_counted_while_one_types(browser_page: Page) -> None:
    browser_page.goto("/segments/new")
    figure = browser_page.locator(".figure strong")
    expect(figure).to_have_text("400")
    condition = browser_page.get_by_label("Condition")
    condition.fill('{"combinator":"and","rules":[{"field":"attributes.country","operator":"=","value":"Japan"}]}')
    expect(figure).to_have_text("100")
    condition.fill('{"combinator":"and","rules":[{"field":"attributes.county","operator":"=","value":"Japan"}]}')
    expect(browser_page.locator("#preview")).to_contain_text("/rules/0/field")
    shot(browser_page, "segment-fault")
    browser_page.get_by_role("button", name="Every lead").click()
    expect(figure).to_have_text("400")
    browser_page.get_by_label("Name").fill("Everybody")
    browser_page.get_by_role("button", name="Save segment").click()
    expect(browser_page.get_by_role("link", name="Everybody")).to_be_visible()


@pytest.mark.usefixtures("furnished")
def test_leads_are_found_while_one_types(browser_page: Page) -> None:
    browser_page.goto("/leads")
    browser_page.get_by_role("searchbox").press_sequentially("lead39")
    expect(browser_page.locator("tbody tr")).to_have_count(11)
    assert "q=lead39" in browser_page.url


def test_a_page_of_somebody_who_was_logged_out_goes_to_the_login(
    browser_page: Page, runtime: Runtime, complaints: list[str]
) -> None:
    from app.models.user import Login

    browser_page.goto("/segments/new", wait_until="networkidle")  # what the page asks for by itself has come
    with runtime.db.session() as session:
        session.query(Login).delete()
    browser_page.get_by_label("Condition").fill("{}")
    browser_page.wait_for_url("**/login?next=/segments/new")
