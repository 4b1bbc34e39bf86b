"""Cursors: where the next page begins, in letters that mean something to us alone."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

import orjson
from flask import g
from pydantic import BaseModel, ConfigDict, Field

from web.api.problems import Refused
from web.api.route import Query

LIMIT: Final = 50
MOST: Final = 200
Item = TypeVar("Item")
STRANGE: Final = "This is no cursor of ours: give `next` as it came, or nothing."


class Paged(Query):
    """A list is answered page by page: ask again with `after` set to `next`, until that is null."""

    after: Annotated[str | None, Field(description="What the page before had as next.", max_length=1000)] = None
    limit: Annotated[int, Field(description="How many at the most.", ge=1, le=MOST)] = LIMIT


class Page(BaseModel, Generic[Item]):
    """A page of a list; `next` is null on the last one."""

    model_config = ConfigDict(from_attributes=True)
    items: list[Item]
    next: str | None


def page_of(
    found: Sequence[Any], query: Paged, key: Callable[[Any], object], shape: Callable[[Any], Item]
) -> Page[Item]:
    """A page out of what was found when one more than `limit` was asked for; `key` says where an item stands."""
    items = found[: query.limit]
    following = _write(key(items[-1])) if len(found) > query.limit else None
    g.api_next = following
    return Page[Any](items=[shape(item) for item in items], next=following)


def number(query: Paged) -> int | None:
    """The number that a page begins behind. Raises Refused."""
    value = read(query)
    if value is None or (type(value) is int and 0 <= value < 2**63):
        return value
    raise strange()


def text(query: Paged) -> str:
    """The text that a page begins behind, "" on the first. Raises Refused."""
    value = read(query)
    if value is None or isinstance(value, str):
        return value or ""
    raise strange()


def read(query: Paged) -> Any:
    """What a cursor holds; None on the first page. Raises Refused."""
    if not query.after:
        return None
    try:
        return orjson.loads(urlsafe_b64decode(query.after + "=" * (-len(query.after) % 4)))
    except ValueError:
        raise strange() from None


def _write(value: object) -> str:
    return urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def strange() -> Refused:
    """What a cursor is answered with that is none of ours."""
    return Refused(422, STRANGE, [{"parameter": "after", "detail": STRANGE}])
