"""What chart.js draws: times, stacked bars of what was sent, lines of what happened afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Final

from app.models.figures import Figures

# label -> (colour: a token of app.css, the figures that it sums)
BARS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "Sent": ("good", ("sent",)),
    "Refused or failed": ("bad", ("refused", "failed")),
    "Unknown": ("warn", ("unknown",)),
    "Skipped or cancelled": ("line-strong", ("skipped", "cancelled")),
}
LINES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "Delivered": ("accent", ("delivered",)),
    "Bounced": ("bad", ("bounced",)),
    "Opened": ("info", ("opened",)),
    "Clicked": ("ink", ("clicked",)),
}
HOUR: Final = 3600
DAY: Final = 86_400
MOST: Final = 2000  # points; beyond it the gaps are left out


def chart(points: Mapping[int, Figures], step: int, zone: str, ends: Sequence[int] = ()) -> dict[str, object]:
    """For chart.js: `x` in seconds since 1970, and the series that are not all 0, each with its values.

    `zone` is "local" where x are moments, "UTC" where they stand for days. `ends` are on the axis in any case.
    """
    times = _filled(sorted({*points, *ends}), step)
    figures = [points.get(time, Figures()) for time in times]
    return {
        "x": times,
        "step": step,
        "zone": zone,
        "bars": _series(BARS, figures),
        "lines": _series(LINES, figures),
    }


def second_of(moment: datetime | date) -> int:
    """Where on the axis a moment stands, or a day: at its midnight in UTC."""
    if isinstance(moment, datetime):
        return int(moment.timestamp())
    return (moment - date(1970, 1, 1)).days * DAY


def _filled(times: Sequence[int], step: int) -> list[int]:
    """Every step from the first to the last, so that an hour without emails is seen as one."""
    if not times or (times[-1] - times[0]) // step > MOST:
        return list(times)
    regular = all((after - before) % step == 0 for before, after in pairwise(times))
    return list(range(times[0], times[-1] + 1, step)) if regular else list(times)


def _series(of: Mapping[str, tuple[str, tuple[str, ...]]], figures: Sequence[Figures]) -> list[dict[str, object]]:
    series: list[dict[str, object]] = []
    for label, (colour, names) in of.items():
        values = [sum(getattr(each, name) for name in names) for each in figures]
        if any(values):
            series.append({"label": label, "colour": colour, "values": values})
    return series
