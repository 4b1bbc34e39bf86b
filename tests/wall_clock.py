"""Processes whose wall clock is wrong: libfaketime before the C library, and everything else as it is.

The clock that counts seconds since the start (CLOCK_MONOTONIC) stays right, as it does where a machine's time is set.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SHOW = "import time; print(time.time())"


@dataclass(frozen=True, slots=True)
class WallClock:
    """The wall clock of some processes, that may be set while they run."""

    file: Path

    def set(self, offset: str) -> None:
        """As far off as this, "-10m" or "+10m", from now on."""
        new = self.file.with_suffix(".new")
        new.write_text(offset)
        new.replace(self.file)

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes a process go by it."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }


def wall_clock(folder: Path, offset: str = "+0") -> WallClock:
    """One that begins so far off."""
    clock = WallClock(folder / "wall_clock")
    clock.set(offset)
    return clock


@cache
def library() -> Path | None:
    """The library of the package libfaketime (dev requirements); None where it is not, or not for this machine."""
    found = find_spec("libfaketime")
    for place in (found.submodule_search_locations or []) if found else []:
        for path in Path(place).glob("vendor/**/libfaketime.so.1"):
            return path
    return None


def find(folder: Path) -> str:
    """Why it cannot be had here; "" where it can."""
    if library() is None:
        return "the package libfaketime is not installed"
    clock = wall_clock(folder, "-1d")
    asked = [
        subprocess.run([sys.executable, "-c", SHOW], env=env, capture_output=True, text=True, check=True)
        for env in (dict(clock.environment), {})
    ]
    wrong, right = (float(each.stdout) for each in asked)
    return "" if right - wrong > 80_000 else "the package libfaketime has no library for this machine"
