"""The main job in a real browser, from a file to a report; worker, clock and sink are real."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.config import Settings
from app.errors import Invalid
from app.flows import launch, steer
from app.runtime import Runtime
from tests.browser.conftest import DESKTOP, PHONE, shot
from tests.peers import Peer, running_sink
from tests.web.campaign_world import add_draft, add_leads, add_sender, send_all
from tests.web.conftest import People
from workers.broker import Bell, open_broker

CHECKOUT = Path(__file__).parents[2]
LEADS = 3000
CONDITION = '{"combinator":"and","rules":[{"field":"attributes.country","operator":"=","value":"France"}]}'
# Ways to run a script that were found in the wild; each is the HTML of a campaign, or a part of it.
PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)></svg>",
    "<svg><script>alert(1)</script></svg>",
    "<body onload=alert(1)>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='javascript:alert(1)'></object>",
    "<embed src='javascript:alert(1)'>",
    "<details open ontoggle=alert(1)>x</details>",
    "<input autofocus onfocus=alert(1)>",
    "<select autofocus onfocus=alert(1)></select>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)></audio>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
    "<style>@import 'javascript:alert(1)';</style>",
    "<link rel=stylesheet href='javascript:alert(1)'>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href='javascript:alert(1)//'>",
    "<form action='javascript:alert(1)'><input type=submit autofocus></form>",
    "<a href='javascript:alert(1)' id=go>go</a>",
    "<script src='data:text/javascript,alert(1)'></script>",
    "<script>top.location='/'; parent.document.body.innerHTML='';</script>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_sink(latency=0.3, refuse=0.02) as peer:
        yield peer


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """The web's own runtime: its bell reaches the worker."""
    broker = open_broker(settings.redis_url)
    opened = Runtime(settings, Bell(broker))
    yield opened
    opened.close()
    broker.close()


@pytest.fixture
def processes(settings: Settings, tmp_path: Path) -> Iterator[None]:
    """A worker and a clock, as the Procfile starts them."""
    worker = ("dramatiq", "workers.main", "--processes", "1", "--threads", "4")
    with _process(settings, tmp_path / "worker", *worker), _process(settings, tmp_path / "clock", "cli", "clock"):
        yield


@contextmanager
def _process(settings: Settings, log: Path, *module: str) -> Iterator[None]:
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_HOME": str(settings.home),
        "MILLRACE_RANGE_SIZE": "40",
        "MILLRACE_CALLS": "2",  # so slowly that somebody can watch
        "PYTHONPATH": str(CHECKOUT),
    }
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=CHECKOUT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            try:
                process.wait(25)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _file(folder: Path) -> Path:
    path = folder / "leads.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("email", "first_name", "country"))
        writer.writerows(
            (f"lead{n}@mail{n % 3}.example.org", f"Name {n}", "France" if n % 3 else "Japan") for n in range(LEADS)
        )
        writer.writerow(("no address", "x", "France"))
    return path


@pytest.mark.usefixtures("processes")
def test_a_file_becomes_a_campaign_that_is_sent_and_reported(
    browser_page: Page, runtime: Runtime, people: People, peer: Peer, tmp_path: Path
) -> None:
    page = browser_page
    expected = LEADS - len(range(0, LEADS, 3))
    _import(page, tmp_path)
    _segment(page, expected)
    add_sender(runtime, people.ours, peer.url)
    _write(page)
    expect(page.locator(".figure strong")).to_have_text(f"{expected:,}")
    expect(page.frame_locator("iframe").get_by_text(re.compile("Hello Name"))).to_be_visible()
    shot(page, "launch")
    page.get_by_role("button", name=f"Send to {expected:,} leads").click()
    _watch(page)
    refused = _report(page, peer, expected)
    _recipients(page, refused)


def _import(page: Page, folder: Path) -> None:
    page.goto("/")
    page.get_by_role("link", name="Import leads").click()
    page.get_by_label("CSV file").set_input_files(_file(folder))
    page.get_by_role("button", name="Import").click()
    expect(page.locator(".page-title .badge")).to_have_text("finished", timeout=30_000)
    expect(page.locator(".tile", has_text="Added")).to_contain_text(f"{LEADS:,}")


def _segment(page: Page, expected: int) -> None:
    page.goto("/segments/new")
    page.get_by_label("Name").fill("The French")
    page.get_by_label("Condition").fill(CONDITION)
    expect(page.locator(".figure strong")).to_have_text(f"{expected:,}")
    page.get_by_role("button", name="Save segment").click()


def _write(page: Page) -> None:
    page.goto("/campaigns/new")
    page.get_by_label("Name", exact=True).fill("Spring in France")
    page.get_by_label("From", exact=True).first.select_option(label="Old Mill Bakery <hello@bakery.example.com>")
    page.get_by_label("To", exact=True).select_option(label="The French")
    page.get_by_label("Subject", exact=True).first.fill("News, {{ lead.frist_name }}")
    page.get_by_role("button", name="Save and check").click()
    expect(page.locator(".fault")).to_contain_text("lead.frist_name")
    shot(page, "campaign-fault")
    page.get_by_label("Subject", exact=True).first.fill("News, {{ lead.first_name }}")
    page.get_by_role("button", name="Save and check").click()


def _watch(page: Page) -> None:
    """The progress moves without a reload, stands still while paused, and comes to its end."""
    expect(page.locator(".page-title .badge")).to_have_text("sending")
    done = page.locator("#progress .figure strong")
    expect(done).not_to_have_text("0", timeout=15_000)
    expect(page.locator(".rate")).to_contain_text("emails a second")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".page-title .badge")).to_have_text("paused")
    shot(page, "campaign-paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".page-title .badge")).to_have_text("finished", timeout=45_000)
    expect(page.locator(".adds-up")).to_be_visible()


def _report(page: Page, peer: Peer, expected: int) -> int:
    """The page's figures are the sink's; how many it refused."""
    sent, refused = (_figure(page, name) for name in ("Sent", "Refused"))
    assert sent + refused == expected
    book = peer.sink.book.stats()
    assert (book["accepted"], book["duplicates"]) == (sent, 0)
    expect(page.locator(".chart canvas")).to_be_visible()
    shot(page, "campaign-finished")
    page.goto("/reports")
    page.get_by_role("link", name="Today").click()
    expect(page.locator(".sentence strong")).to_have_text(f"{sent:,}")
    page.get_by_role("link", name="7 days").click()
    expect(page.locator(".chart canvas")).to_be_visible()
    shot(page, "report")
    return refused


def _recipients(page: Page, refused: int) -> None:
    page.get_by_role("link", name="Spring in France").click()
    page.get_by_role("link", name="Who it went to").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name=f"Refused {refused}").click()
    expect(page.locator("tbody .badge", has_text="refused")).to_have_count(min(refused, 50))
    shot(page, "recipients")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV of refused").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert len(rows) == refused
    assert {row["outcome"] for row in rows} == {"refused"}


def _figure(page: Page, name: str) -> int:
    row = page.locator(".outcomes-list > div", has=page.locator("dt", has_text=name))
    return int((row.locator("dd").evaluate("dd => dd.firstChild.textContent") or "0").replace(",", ""))


def test_the_campaigns_pages_fit_a_phone_and_a_desk(browser_page: Page, runtime: Runtime, people: People) -> None:
    with running_sink() as peer:
        sender = add_sender(runtime, people.ours, peer.url)
        add_leads(runtime, people.ours, {f"a-lead-with-a-rather-long-name-{n}" * 2: "Ada" for n in range(60)})
        sent = add_draft(runtime, people, name="A name without end, " * 9, sender_id=sender)
        send_all(runtime, people, sent)
        draft = add_draft(runtime, people, name="Unbroken" * 20, sender_id=sender, subject="W" * 400)
        later = add_draft(runtime, people, sender_id=sender)
    pages = {
        "campaigns": "/",
        "campaign": f"/campaigns/{sent}",
        "campaign-draft": f"/campaigns/{draft}",
        "campaign-edit": f"/campaigns/{draft}/edit",
        "campaign-new": "/campaigns/new",
        "campaign-launch": f"/campaigns/{later}/launch",
        "campaign-preview": f"/campaigns/{draft}/preview",
        "campaign-preview-phone": f"/campaigns/{draft}/preview?width=phone",
        "campaign-preview-text": f"/campaigns/{draft}/preview?part=text",
        "recipients": f"/campaigns/{sent}/recipients",
        "reports": "/reports",
    }
    for size in (DESKTOP, PHONE):
        browser_page.set_viewport_size(size)  # type: ignore[arg-type]
        for name, path in pages.items():
            browser_page.goto(path)
            browser_page.wait_for_load_state("networkidle")
            shot(browser_page, name)
            width = browser_page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{path} is {width} pixels wide on {size['width']}"


def test_no_script_of_a_campaign_ever_runs(
    browser_page: Page, runtime: Runtime, people: People, complaints: list[str]
) -> None:
    add_leads(runtime, people.ours, {"ada": "<img src=x onerror=alert(1)>"})
    dialogs: list[str] = []
    browser_page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    shown = 0
    for number, payload in enumerate(PAYLOADS):
        html = f"{payload}<p>{{{{ lead.first_name }}}}</p><p><a href='{{{{ unsubscribe_url }}}}'>x</a></p>"
        try:
            campaign_id = add_draft(runtime, people, name=payload, subject=f"{number} {payload}", html=html)
        except Invalid:  # some are refused as they are saved already
            continue
        shown += 1
        browser_page.goto(f"/campaigns/{campaign_id}/preview")
        browser_page.goto(browser_page.locator("iframe").get_attribute("src") or "")  # also outside of its frame
        browser_page.wait_for_timeout(50)
    browser_page.goto("/")
    assert shown > len(PAYLOADS) / 2
    assert dialogs == []
    complaints.clear()  # the browser complained, of every payload: that is the point


def test_who_writes_is_helped_where_the_cursor_is(browser_page: Page, runtime: Runtime, people: People) -> None:
    add_leads(runtime, people.ours, {"ada": "Ada"})
    browser_page.goto("/campaigns/new")
    area = browser_page.get_by_label("HTML", exact=True).first
    area.fill("one\ntwo {{ lead.nobody }}\nthree")
    area.press("Control+End")
    browser_page.get_by_role("button", name="{{ lead.email }}").click()
    expect(area).to_have_value("one\ntwo {{ lead.nobody }}\nthree{{ lead.email }}")
    browser_page.get_by_label("Name", exact=True).fill("x")
    browser_page.get_by_label("Subject", exact=True).first.fill("x")
    browser_page.get_by_role("button", name="Save draft").click()
    browser_page.get_by_role("button", name="Line 2").click()
    selected = area.evaluate("area => area.value.slice(area.selectionStart, area.selectionEnd)")
    assert selected == "two {{ lead.nobody }}"
    expect(browser_page.get_by_label("Day and time")).to_be_hidden()
    browser_page.get_by_label("At a time", exact=True).check()
    expect(browser_page.get_by_label("Day and time")).to_be_visible()
    expect(browser_page.get_by_label("Time zone")).to_have_value("Asia/Tokyo")


def test_cancelling_is_asked_about_first(browser_page: Page, runtime: Runtime, people: People) -> None:
    add_leads(runtime, people.ours, {"ada": "Ada"})
    campaign_id = add_draft(runtime, people, sender_id=add_sender(runtime, people.ours))
    launch.launch(runtime, people.ours, campaign_id)
    steer.pause(runtime, people.ours, campaign_id)
    browser_page.goto(f"/campaigns/{campaign_id}")
    asked: list[str] = []
    browser_page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    browser_page.get_by_role("button", name="Cancel").click()
    assert "0 of 1 emails had gone" in asked[0]
    expect(browser_page.locator(".page-title .badge")).to_have_text("paused")
    browser_page.once("dialog", lambda dialog: dialog.accept())
    browser_page.get_by_role("button", name="Cancel").click()
    expect(browser_page.locator(".page-title .badge")).to_have_text("cancelled")
