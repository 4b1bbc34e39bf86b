"""Periods: whole days of a time zone, and the level that their sums are read from."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from app.errors import Invalid
from app.models import report

DAY = date(2026, 11, 16)


def test_the_level_is_the_coarsest_that_fits() -> None:
    levels = {zone: report.period(DAY, DAY, zone).level for zone in ("UTC", "Europe/Berlin", "Asia/Kolkata")}
    assert levels == {"UTC": "day", "Europe/Berlin": "hour", "Asia/Kolkata": "5min"}


def test_a_period_that_cannot_be_is_refused() -> None:
    for first, last, zone, pointer in (
        (DAY, DAY, "Europe/Nowhere", "zone"),
        (DAY, DAY, "../../etc/passwd", "zone"),
        (DAY, DAY, "", "zone"),
        (DAY, date(2026, 11, 15), "UTC", "last"),
        (date(2000, 1, 1), DAY, "UTC", "last"),
    ):
        with pytest.raises(Invalid) as caught:
            report.period(first, last, zone)
        assert caught.value.faults[0].pointer == pointer


def test_a_period_ends_with_its_last_day_also_when_the_clocks_change() -> None:
    days = report.period(date(2026, 10, 25), date(2026, 10, 25), "Europe/Berlin")
    assert (days.since, days.until) == (datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 23, tzinfo=UTC))
