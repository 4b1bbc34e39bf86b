"""The clock that deadlines are measured by goes on while the machine sleeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.uptime import uptime

ASLEEP = 1200  # seconds
ASK = "import time; from app.uptime import uptime; print(uptime() - time.monotonic())"


def test_it_counts_what_the_machine_slept() -> None:
    """The kernel gives a process of its own a clock that has slept for twenty minutes more than the other one."""
    asleep = ["unshare", "--map-root-user", "--time", f"--boottime={ASLEEP}", "--fork", sys.executable, "-c", ASK]
    try:
        asked = subprocess.run(asleep, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not here")
    if asked.returncode:
        pytest.skip(f"this kernel gives no time of one's own: {asked.stderr.strip()}")
    slept = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=30, check=True)
    assert float(asked.stdout) - float(slept.stdout) == pytest.approx(ASLEEP, abs=1.0)


def test_it_only_grows() -> None:
    seen = [uptime() for _ in range(1000)]
    assert seen == sorted(seen)
