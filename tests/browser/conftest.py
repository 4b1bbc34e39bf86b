"""Fixtures: the application behind a real HTTP server, and a headless Chromium that hears every complaint."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from werkzeug.serving import make_server

from tests.web.conftest import PASSWORD, People, app, password_hash, people, runtime

__all__ = ["app", "password_hash", "people", "runtime"]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


def chromium() -> str | None:
    """The browser to use: MILLRACE_CHROMIUM, or the first one on the PATH."""
    return os.environ.get("MILLRACE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("THERE IS NO CHROMIUM: install one, or name it in MILLRACE_CHROMIUM")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@pytest.fixture
def address(app: Flask, people: People) -> Iterator[str]:
    """Where the application is served."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about: scripts that failed, and everything that the policy forbade."""
    return []


@pytest.fixture
def browser_page(browser: Browser, address: str, complaints: list[str]) -> Iterator[Page]:
    """A page, logged in as Ann, an admin. The test fails when the browser had to complain."""
    context = browser.new_context(base_url=address, viewport=DESKTOP, locale="en-GB", timezone_id="Asia/Tokyo")
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: _hear(message, complaints))
    log_in(page)
    yield page
    context.close()
    assert complaints == []


def log_in(page: Page, email: str = "ann@example.com") -> None:
    page.goto("/login")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "/login" not in url)


def shot(page: Page, name: str) -> None:
    """Keeps a picture in the folder MILLRACE_SHOTS, where that is set: pages are judged by looking at them."""
    if folder := os.environ.get("MILLRACE_SHOTS"):
        width = (page.viewport_size or DESKTOP)["width"]
        page.screenshot(path=Path(folder) / f"{name}-{width}.png", full_page=True)


def _hear(message: ConsoleMessage, complaints: list[str]) -> None:
    refused_form = "status of 422" in message.text  # an answer, and no complaint of ours
    if message.type in ("error", "warning") and not refused_form:
        complaints.append(message.text)


def fits(page: Page, name: str) -> None:
    """On both sizes nothing is wider than the screen; pictures are kept where somebody asks for them."""
    for size in (PHONE, DESKTOP):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        shot(page, name)
