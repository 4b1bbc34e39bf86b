"""Reading what programs send: JSON of a bounded size and depth, in the shape that a route wants."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Final

import orjson
from flask import request
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from web.api import problems
from web.api.problems import Refused
from web.api.route import Query, Route

DEEPEST: Final = 24  # a segment's condition and a message's data have enough of that
NUL: Final = rb"\u0000"
Path = tuple[object, ...]
TOO_DEEP: Final = f"Nothing may lie deeper than {DEEPEST} levels."
NO_NUL: Final = "There is a NUL character in it, which cannot be kept."


def read_query(model: type[Query]) -> Query:
    """The query. Raises Refused naming every parameter that is wrong."""
    if unkept := [name for name, value in request.args.items() if "\0" in name + value]:
        raise Refused(422, NO_NUL, [{"parameter": name, "detail": NO_NUL} for name in unkept])
    repeated = [name for name in request.args if len(request.args.getlist(name)) > 1]
    if repeated:
        raise Refused(422, "Say it once.", [{"parameter": name, "detail": "Say it once."} for name in repeated])
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise problems.of_query(error) from None


def read_body(route: Route, raw: bytes) -> tuple[Any, bool]:
    """(the body, whether it is a single one where many are taken). Raises Refused naming every field that is wrong."""
    assert route.body is not None
    if not (request.mimetype == "application/json" or request.mimetype.endswith("+json")):
        raise Refused(415, "Send JSON, with Content-Type: application/json.")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"This is no JSON: {error}.") from None
    if _is_deep(value) or NUL in raw:
        _look_through(value)
    several = bool(route.many) and isinstance(value, list)
    adapter = _adapter(route.body, route.many if several else 0)
    try:
        found = adapter.validate_python(value)
    except ValidationError as error:
        raise problems.of_body(error) from None
    return ([found] if route.many and not several else found), bool(route.many) and not several


@cache
def _adapter(model: type[BaseModel], many: int) -> TypeAdapter[Any]:
    if not many:
        return TypeAdapter(model)
    return TypeAdapter(Annotated[list[model], Field(min_length=1, max_length=many)])  # type: ignore[valid-type,arg-type]


def _is_deep(value: object) -> bool:
    """Level by level, so that no depth of theirs becomes a depth of ours; a thousand messages take a millisecond."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _look_through(value: object) -> None:
    """The same once more, for where it is: whatever lies too deep, or has a NUL in it. Raises Refused."""
    level: list[tuple[Path, object]] = [((), value)]
    for _ in range(DEEPEST):
        level = [inner for at, outer in level for inner in _within(at, outer)]
    if level:
        where = problems.pointer(level[0][0])
        raise Refused(422, TOO_DEEP, [{"pointer": where, "detail": TOO_DEEP}])


def _within(at: Path, outer: object) -> list[tuple[Path, object]]:
    """The objects and lists that lie right within one."""
    pairs: Iterable[tuple[object, object]] = ()
    if isinstance(outer, dict | list):
        pairs = outer.items() if isinstance(outer, dict) else enumerate(outer)
    found: list[tuple[Path, object]] = []
    for key, inner in pairs:
        if isinstance(inner, dict | list):
            found.append(((*at, key), inner))
        if any("\0" in each for each in (key, inner) if isinstance(each, str)):
            raise Refused(422, NO_NUL, [{"pointer": problems.pointer((*at, key)), "detail": NO_NUL}])
    return found
