"""The OpenAPI 3.1 document, made from the routes and their shapes: what it says is what the door does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import orjson
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from app.models.api_key import SCOPES
from web.api.door import ROOT
from web.api.nouns import ROUTES
from web.api.problems import HEADER
from web.api.route import Route

REFERENCE: Final = "#/components/schemas/{model}"
PLACES: Final = re.compile(r"<(?:(\w+):)?(\w+)>")
TYPES: Final = {"int": {"type": "integer", "minimum": 1}, None: {"type": "string"}}
PROBLEM: Final = {
    "type": "object",
    "description": "A problem (RFC 9457). `errors` say where: a JSON pointer into the body, a parameter, a header.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {name: {"type": "string"} for name in ("detail", "pointer", "parameter", "header")},
            },
        },
    },
}
# Which problems a route may answer with, beside those of its own.
PROBLEMS: Final = {
    "401": "No key, or none that is good.",
    "403": "The key lacks the scope.",
    "404": "There is no such thing, or it is another organisation's.",
    "409": "The thing is in a state that does not allow this, or the same request is under way.",
    "422": "Something in it needs mending; nothing was changed.",
    "429": "The key asked more often than it may.",
    "503": "The database cannot be reached: try again.",
}
KEY_PARAMETER: Final = {
    "name": HEADER,
    "in": "header",
    "description": "Within a day the same key and request get the same answer, and nothing is done twice.",
    "schema": {"type": "string", "maxLength": 255},
}
RATE_HEADERS: Final = {
    name: {"description": meaning, "schema": {"type": "string"}}
    for name, meaning in {
        "RateLimit-Policy": "How many requests the key may make in how many seconds.",
        "RateLimit": "How many are left, and for how many seconds.",
    }.items()
}


@cache
def document() -> bytes:
    """The document as JSON."""
    return orjson.dumps(_document())


def _document() -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Problem": PROBLEM}
    for route in ROUTES:
        path = PLACES.sub(lambda place: f"{{{place[2]}}}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Millrace", "version": version("millrace"), "description": "The door for programs."},
        "servers": [{"url": ROOT}],
        "security": [{"key": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in ROUTES)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": _scopes()}},
            "responses": {status: _problem(status) for status in PROBLEMS},
        },
    }


def _scopes() -> str:
    lines = "\n".join(f"- `{scope}`: {meaning}" for scope, meaning in SCOPES.items())
    return f"An API key. It may do what its scopes say:\n\n{lines}"


def _problem(status: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": PROBLEMS[status], "content": content}


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    words = " ".join((route.act.__doc__ or "").split())
    summary = words.split(". ")[0].split(": ")[0].split("; ")[0].rstrip(".")
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": summary,
        "description": f"{words} Scope: `{route.scope}`.",
        "security": [{"key": [route.scope]}],
        "parameters": list(_parameters(route, schemas)),
        "responses": _responses(route, schemas),
    }
    if route.body is not None:
        one = _schema(route.body, "validation", schemas)
        schema = {"oneOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": route.many}]}
        content = {"application/json": {"schema": schema if route.many else one}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route, schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind, name in PLACES.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": TYPES[kind or None]}
    if route.query is not None:
        shape = route.query.model_json_schema(ref_template=REFERENCE)
        for name, schema in shape["properties"].items():
            words = {"description": schema.pop("description")} if "description" in schema else {}
            schema.pop("title", None)
            required = {"required": True} if name in shape.get("required", ()) else {}
            yield {"name": name, "in": "query", **words, **required, "schema": schema}
    if route.takes_key:
        yield KEY_PARAMETER


def _responses(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done." if route.status != 202 else "Taken over.", "headers": RATE_HEADERS}
    if route.answer is not None:
        good["content"] = {"application/json": {"schema": _schema(route.answer, "serialization", schemas)}}
    if route.status == 201:
        location = {"description": "Where the new thing is.", "schema": {"type": "string"}}
        good["headers"] = RATE_HEADERS | {"Location": location}
    theirs = {"401", "403", "422", "429", "503"} | ({"404"} if "<" in route.path else set())
    theirs |= set() if route.is_safe else {"409"}
    return {str(route.status): good} | {
        status: {"$ref": f"#/components/responses/{status}"} for status in sorted(theirs)
    }


def _schema(shape: Any, mode: JsonSchemaMode, schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the shape, which is put among the schemas with all that it holds."""
    schema = TypeAdapter(shape).json_schema(mode=mode, ref_template=REFERENCE)
    for name, inner in schema.pop("$defs", {}).items():
        schemas.setdefault(_plain(name), inner)
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        name = _plain(shape.__name__)
        schemas.setdefault(name, schema)
        return {"$ref": REFERENCE.format(model=name)}
    return schema


def _plain(name: str) -> str:
    """Page[Lead] → Page_Lead_, as pydantic's own references have it."""
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", name)
