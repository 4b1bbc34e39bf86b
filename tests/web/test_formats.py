"""Promises of how figures and times are written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from flask import Flask

from web import formats


@pytest.mark.parametrize("value, written", [(None, "–"), (0, "0"), (1234567, "1,234,567"), (2.5, "2.50")])
def test_numbers_are_read_at_a_glance(value: float | None, written: str) -> None:
    assert formats.number(value) == written


@pytest.mark.parametrize(
    "part, whole, written",
    [
        (1, 0, "–"),
        (0, 9, "0 %"),
        (9, 9, "100 %"),
        (1, 8, "12.5 %"),
        (1, 10_000_000, "< 0.1 %"),
        (9_999_999, 10_000_000, "> 99.9 %"),
    ],
)
def test_a_share_is_never_all_or_nothing_by_rounding(part: int, whole: int, written: str) -> None:
    assert formats.percent(part, whole) == written


@pytest.mark.parametrize("value, written", [(999, "999 bytes"), (1500, "1.5 kB"), (20_000, "20 kB"), (5e9, "5.0 GB")])
def test_sizes_have_a_unit(value: float, written: str) -> None:
    assert formats.size(int(value)) == written


@pytest.mark.parametrize(
    "seconds, written", [(0.2, "1 s"), (89, "89 s"), (180, "3 min"), (7500, "2 h 5 min"), (14_400, "4 h")]
)
def test_durations_are_said_as_people_say_them(seconds: float, written: str) -> None:
    assert formats.duration(seconds) == written


def test_a_time_is_written_in_utc_wherever_it_comes_from() -> None:
    moment = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert "28 Feb 2026, 23:30 UTC" in formats.when(moment)
    assert 'datetime="2026-02-28T23:30:00Z"' in formats.when(moment.astimezone(UTC))
    assert formats.when(None) == "–"


def test_an_address_breaks_before_its_at_and_stays_text() -> None:
    assert formats.address("<i>@example.org") == "&lt;i&gt;<wbr>@example.org"


def test_every_filter_that_a_page_uses_is_there(app: Flask) -> None:
    for name in app.jinja_env.list_templates():
        app.jinja_env.get_template(name)  # Jinja looks for most filters as it compiles
    for name in ("number", "size", "percent", "when", "tone", "attribute", "address", "duration"):
        assert name in app.jinja_env.filters


def test_every_icon_that_a_page_names_is_drawn() -> None:
    pages = Path(formats.__file__).parent / "templates"
    drawn = set(re.findall(r'^  "(\w+)": "M', (pages / "_parts.html").read_text(), re.MULTILINE))
    named = {name for page in pages.rglob("*.html") for name in re.findall(r'\bicon\("(\w+)"\)', page.read_text())}
    assert named and named <= drawn
