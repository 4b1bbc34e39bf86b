"""How long this machine has been up, its sleep included: what deadlines are measured by that others keep, too.

`time.monotonic` stands still on Linux while the machine sleeps: a worker that woke after twenty minutes would think
that a second had passed, and make a call whose range, or whose key, is no longer its own.
"""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # elsewhere than on Linux, sleep may be left out


def uptime() -> float:
    """Seconds since the machine started, or some other moment before; they only grow."""
    return time.clock_gettime(_CLOCK)
