"""Paging by key: a page knows how the next one begins, never how many there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from flask import request, url_for

Item = TypeVar("Item")
LIMIT = 50


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """The items to show; `first` and `next` are addresses, None where there is no such page."""

    items: Sequence[Item]
    first: str | None
    next: str | None


def page_of(found: Sequence[Item], key: Callable[[Item], object], limit: int = LIMIT) -> Page[Item]:
    """A page out of what was found when one more than `limit` was asked for; its address carries `after`."""
    items = found[:limit]
    following = _address(after=key(items[-1])) if len(found) > limit else None
    return Page(items, _address(after=None) if "after" in request.args else None, following)


def after_number() -> int | None:
    """The key that this page begins behind, where keys are numbers; None on the first page."""
    return request.args.get("after", type=int)


def _address(**changes: object) -> str:
    kept: dict[str, object] = {**request.args.to_dict(), **(request.view_args or {}), **changes}
    values = {name: str(value) for name, value in kept.items() if value not in (None, "") and not _steers(name)}
    return url_for(request.endpoint or "", **values)  # type: ignore[arg-type]


def _steers(name: str) -> bool:
    """Whether `url_for` would take a query's name for a word to itself: `endpoint`, `_scheme`, `_external`, …"""
    return name == "endpoint" or name.startswith("_")
