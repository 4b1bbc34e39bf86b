"""The door of the API: who asks, whether they may, what they want; then the answer, once where it is asked for so."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlencode

from flask import Response, current_app, g, request
from pydantic import BaseModel

from app.errors import MillraceError
from app.flows import answer_once
from app.flows.api_keys import Known
from app.models.api_answer import Answer
from app.models.api_key import ApiKey
from app.runtime import Runtime
from web.api import problems
from web.api.problems import HEADER, Refused
from web.api.rate import Left, Rates
from web.api.reading import read_body, read_query
from web.api.route import Caller, Made, Route
from web.context import runtime

ROOT: Final = "/api/v1"
EXTENSION: Final = "millrace-api-desk"
REALM: Final = 'Bearer realm="millrace"'
BEARER: Final = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
# A string of RFC 9651, as the draft has it, or the same without its quotes, as most programs send it.
KEY: Final = re.compile(r'"([ !#-\[\]-~]{1,255})"|([!#-\[\]-~]{1,255})')


@dataclass(frozen=True, slots=True)
class Desk:
    """What the door of a process has at hand."""

    keys: Known
    rates: Rates


def open_door(route: Route) -> Callable[..., Response]:
    """The view of a route."""

    def view(**ids: Any) -> Response:
        try:
            return _answer(route, ids)
        except Refused as refused:
            return refused.response()
        except MillraceError as error:
            return problems.of_error(error, route.at, single=g.get("api_single", False)).response()

    view.__doc__ = route.act.__doc__
    return view


def add_headers(response: Response) -> Response:
    """What every answer of the API carries."""
    left: Left | None = g.get("api_left")
    if left is not None:
        response.headers.update(left.headers)
    following = g.get("api_next")
    if following is not None:
        query = urlencode(request.args.to_dict() | {"after": following})
        response.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return response


def _answer(route: Route, ids: Mapping[str, int | str]) -> Response:
    key = _identify()
    _count(key)
    if route.scope not in key.scopes:
        raise Refused(
            403,
            f"The key may not do this: it needs the scope {route.scope}.",
            headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{route.scope}"'},
        )
    raw = b"" if route.is_safe else request.get_data(cache=False)
    wanted: dict[str, Any] = dict(ids)
    if route.query is not None:
        wanted["query"] = read_query(route.query)
    elif request.args:
        raise Refused(422, "Nothing may stand behind the question mark here.")
    if route.body is not None:
        wanted["body"], g.api_single = read_body(route, raw)

    def act(hands: Runtime) -> Answer:
        return _say(route, route.act(Caller(key, hands), **wanted))

    again = False
    named = _idempotency_key() if route.takes_key else None
    if named is None:
        answer = act(runtime())
    else:
        asked = answer_once.identify(key.id, named, request.method, request.full_path, raw)
        given = answer_once.answer_once(runtime(), asked, act, secret=route.secret)
        answer, again = given.answer, given.again
    return _respond(answer, again=again)


def _identify() -> ApiKey:
    """Whose key it is. Raises Refused. No cookie is looked at: no page of others can ask in its reader's name."""
    found = BEARER.fullmatch(request.headers.get("Authorization", "").strip())
    if found is None:
        raise Refused(401, "Send a key: Authorization: Bearer mill_…", headers={"WWW-Authenticate": REALM})
    key = _desk().keys.read(runtime(), found[1])
    if key is None:
        unknown = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
        raise Refused(401, "There is no such key, or it was revoked.", headers=unknown)
    return key


def _count(key: ApiKey) -> None:
    g.api_left = left = _desk().rates.count(key)
    if left is not None and left.over:
        raise Refused(429, f"This key asks more than {left.quota:,} times a minute: again in {left.seconds} s.")


def _desk() -> Desk:
    desk: Desk | None = current_app.extensions.get(EXTENSION)
    if desk is None:
        desk = current_app.extensions[EXTENSION] = Desk(Known(), Rates(runtime().settings.redis_url))
    return desk


def _idempotency_key() -> str | None:
    written = request.headers.get(HEADER)
    if written is None:
        return None
    found = KEY.fullmatch(written.strip())
    if found is None:
        detail = "Use 1 to 255 printable ASCII characters, without quotes or backslashes in it."
        raise Refused(400, detail, [{"header": HEADER, "detail": detail}])
    return cast(str, found[1] or found[2])


def _say(route: Route, value: object) -> Answer:
    match value:
        case Made(inner, location):
            return Answer(route.status, _dump(inner), f"{ROOT}/{location}")
        case _:
            return Answer(route.status, _dump(value))


def _dump(value: object) -> bytes:
    match value:
        case None:
            return b""
        case bytes():  # JSON already, of a thousand ids
            return value
        case BaseModel():
            return value.model_dump_json().encode()
    raise TypeError(f"A route answered {type(value).__name__}.")


def _respond(answer: Answer, *, again: bool) -> Response:
    response = Response(answer.body, answer.status, content_type="application/json")
    if not answer.body:
        del response.headers["Content-Type"]
    if answer.location:
        response.headers["Location"] = answer.location
    if again:
        response.headers["Idempotency-Replayed"] = "true"
    return response
