"""Every error becomes a page, or a JSON problem (RFC 9457) where JSON was asked for: one table, no route's business."""

from __future__ import annotations

import logging

import orjson
from flask import Flask, Response, g, render_template, request
from flask_wtf.csrf import CSRFError
from psycopg.errors import NumericValueOutOfRange
from sqlalchemy.exc import DataError
from werkzeug.exceptions import HTTPException

from app.errors import Conflict, Invalid, LeaseLost, MillraceError, NotFound, ProviderError, Unavailable, Unverified

log = logging.getLogger(__name__)
PROGRAMS = "/api/v1/"  # the door of programs
STATUS: dict[type[MillraceError], int] = {
    Invalid: 422,
    Unverified: 401,
    NotFound: 404,
    Conflict: 409,
    LeaseLost: 409,
    Unavailable: 503,
    ProviderError: 503,
}
TITLES = {
    400: "That request made no sense",
    401: "Please log in",
    403: "That is not yours to do",
    404: "There is nothing here",
    405: "That cannot be done here",
    409: "Not now",
    413: "That is too large",
    422: "Something in it needs mending",
    429: "Too many tries",
    500: "Something broke on our side",
    503: "Millrace is out of breath",
}
SENTENCES = {
    403: "It takes an admin of your organisation to do that.",
    404: "The page does not exist, or it is not yours to see.",
    405: "The address exists, but not for this kind of request.",
    429: "That was tried too often. Please wait a minute, then try again.",
    413: "What was sent is larger than we take here.",
    500: "It was written to the log. Trying again may help; if not, the log says what happened.",
}
STALE = "The form was too old, or cookies are blocked. Please go back, reload the page and send it again."


def init_app(app: Flask) -> None:
    app.register_error_handler(MillraceError, _ours)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(DataError, _data)
    app.register_error_handler(NumericValueOutOfRange, _too_large)
    app.register_error_handler(Exception, _unforeseen)


def wants_json() -> bool:
    """Whether the answer is for a program: it is at its door, or says so and does not also take HTML as gladly."""
    if request.path.startswith(PROGRAMS):
        return True
    accept = request.accept_mimetypes
    return max(accept["application/json"], accept["application/problem+json"]) > accept["text/html"]


def _ours(error: MillraceError) -> Response:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if status >= 500:
        log.warning("%s: %s", type(error).__name__, error)
    response = _answer(status, str(error), error.faults if isinstance(error, Invalid) else ())
    if status == 503:
        response.headers["Retry-After"] = "5"
    return response


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    sentence = STALE if isinstance(error, CSRFError) else SENTENCES.get(status, error.description or "")
    response = _answer(status, sentence)
    if status == 405:
        response.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    if status == 429:
        response.headers["Retry-After"] = "60"
    return response


def _data(error: DataError) -> Response:
    return _too_large(error) if isinstance(error.orig, NumericValueOutOfRange) else _unforeseen(error)


def _too_large(error: Exception) -> Response:
    """An id that no column can hold is nobody's id. Logged, for a sum of ours that overflows would end here too."""
    log.warning("%s %s: a number is out of range", request.method, request.path)
    return _answer(404, SENTENCES[404])


def _unforeseen(error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.path)
    return _answer(500, SENTENCES[500])


def _answer(status: int, sentence: str, faults: tuple[object, ...] = ()) -> Response:
    title = TITLES.get(status, "That did not work")
    if wants_json():
        problem = {"type": "about:blank", "title": title, "status": status, "detail": sentence}
        if faults:
            problem["faults"] = faults
        return Response(orjson.dumps(problem), status, content_type="application/problem+json")
    g.problem = True  # the page's menu asks nothing of a database that may be what is broken
    page = render_template("problem.html", status=status, title=title, sentence=sentence)
    return Response(page, status, content_type="text/html; charset=utf-8")
