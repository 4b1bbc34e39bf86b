"""Doing the same to many, each by itself: one that fails is logged and left to the next turn, and the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from app.errors import Unavailable

log = logging.getLogger(__name__)
Item = TypeVar("Item")


def do_each(items: Iterable[Item], act: Callable[[Item], int], what: str) -> int:
    """Act on each item, in order; the sum of what `act` gives. `what` names an item in the log: "range".

    Raises Unavailable: a server that is away is so for all of them.
    """
    done = 0
    for item in items:
        try:
            done += act(item)
        except Unavailable:
            raise
        except Exception as error:  # whatever is wrong with it; also where PostgreSQL ended one of two that waited
            log.exception("%s %s failed, and is tried again: %s", what, item, error)
    return done
