"""Problems as programs read them (RFC 9457): what is wrong, and where in the request."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from flask import Response
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.errors import Fault, Invalid, MillraceError, UnderWay
from web.problems import STATUS

log = logging.getLogger(__name__)
MOST: Final = 100  # faults told at a time
HEADER: Final = "Idempotency-Key"
# How pydantic's types of faults are said; the others by their own sentence.
SAID: Final = {
    "extra_forbidden": "There is no such field.",
    "missing": "This is needed.",
    "string_type": "This must be a text.",
    "bool_type": "This must be true or false.",
    "int_type": "This must be a whole number.",
    "float_type": "This must be a number.",
    "dict_type": "This must be an object.",
    "model_type": "This must be an object.",
    "model_attributes_type": "This must be an object.",
    "list_type": "This must be a list.",
    "timezone_aware": "Say its time zone, too: 2026-12-01T09:00:00Z, or with +01:00 at its end.",
    "datetime_from_date_parsing": "This must be a time, as 2026-12-01T09:00:00Z.",
    "datetime_parsing": "This must be a time, as 2026-12-01T09:00:00Z.",
    "datetime_type": "This must be a time, as 2026-12-01T09:00:00Z.",
    "timezone_naive": "Leave the time zone out: 2026-12-01T09:00:00.",
    "int_parsing": "This must be a whole number.",
    "int_from_float": "This must be a whole number.",
    "literal_error": "This is one of {expected}.",
    "too_long": "Of these there are {max_length:,} at most, and here are {actual_length:,}.",
    "too_short": "Of these there must be at least {min_length:,}.",
    "string_too_long": "This has {max_length:,} characters at most.",
    "greater_than_equal": "This is {ge:,} or more.",
    "less_than_equal": "This is {le:,} or less.",
}


class Refused(Exception):
    """What is asked cannot be looked at: an answer to it, with the headers that go with it."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, dict(headers or {})

    def response(self) -> Response:
        """The problem as JSON."""
        problem: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(self.status).phrase}
        problem |= {"status": self.status, "detail": self.detail}
        if self.errors:
            problem["errors"] = self.errors
        return Response(
            orjson.dumps(problem), self.status, headers=self.headers, content_type="application/problem+json"
        )


def of_error(error: MillraceError, at: Mapping[str, str], *, single: bool = False) -> Refused:
    """What a flow has raised; `at` says where in the body its faults are. `single`: there is one where many may be."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if status >= 500:
        log.warning("%s: %s", type(error).__name__, error)
    if not isinstance(error, Invalid):
        again = "1" if isinstance(error, UnderWay) else "5" if status == 503 else None
        return Refused(status, str(error), headers={"Retry-After": again} if again else None)
    return _unprocessable({**_place(fault, at, single=single), "detail": fault.message} for fault in error.faults)


def of_body(error: ValidationError) -> Refused:
    """What is wrong with a body's shape."""
    return _unprocessable({"pointer": pointer(each["loc"]), "detail": _said(each)} for each in _details(error))


def of_query(error: ValidationError) -> Refused:
    """What is wrong behind the question mark."""
    return _unprocessable(
        {"parameter": str(each["loc"][0]) if each["loc"] else "", "detail": _said(each)} for each in _details(error)
    )


def pointer(path: Iterable[object]) -> str:
    """A JSON pointer (RFC 6901): ("leads", 3, "a/b") → "/leads/3/a~1b"."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


def _said(detail: ErrorDetails) -> str:
    said, figures = SAID.get(detail["type"]), detail.get("ctx", {})
    if said is None:
        return detail["msg"].removeprefix("Value error, ").rstrip(".") + "."
    return said.format(**figures)


def _place(fault: Fault, at: Mapping[str, str], *, single: bool) -> dict[str, str]:
    """Where a flow's fault is: flows say "name", "3.to", "attributes/plan", or a pointer into a condition."""
    name = fault.pointer
    if name == HEADER:
        return {"header": name}
    if name.startswith("/"):
        return {"pointer": at.get("/", "") + name}
    first, *rest = name.replace(".", "/").split("/")
    number = [first] if first.isdigit() and rest else []
    first, *rest = rest if number else [first, *rest]
    return {
        "pointer": pointer([] if single else number) + at.get(first, pointer([first]) if first else "") + pointer(rest)
    }


def _unprocessable(errors: Iterable[Mapping[str, str]]) -> Refused:
    found = list(errors)
    told = f"{len(found)} fields need mending; nothing was changed."
    only = found[0]["detail"] if len(found) == 1 else told
    return Refused(422, only, found[:MOST])
