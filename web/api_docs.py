"""The API's page: how to begin, and every route as the OpenAPI document has it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import orjson
from flask import Blueprint, render_template

from app.models.api_key import SCOPES
from web.api.openapi import document
from web.api.rate import WINDOW
from web.context import runtime

blueprint: Final = Blueprint("api_docs", __name__)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a body, or a parameter; `kind` is its type in words."""

    name: str
    kind: str
    needed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A route as the page shows it."""

    tag: str
    method: str
    path: str
    summary: str
    words: str
    scope: str
    many: int
    fields: tuple[Field, ...]
    parameters: tuple[Field, ...]


@blueprint.get("/api")
def index() -> str:
    whole = orjson.loads(document())
    found = [_operation(whole, path, method) for path, methods in whole["paths"].items() for method in methods]
    tags = [(tag, list(each)) for tag, each in groupby(found, key=lambda operation: operation.tag)]
    return render_template("api/index.html", tags=tags, scopes=SCOPES, base=runtime().settings.base_url, window=WINDOW)


def _operation(whole: dict[str, Any], path: str, method: str) -> Operation:
    operation = whole["paths"][path][method]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    one, *several = body.get("oneOf", [body])
    shape = _resolve(whole, one)
    needed = shape.get("required", [])
    words = operation["description"].rpartition(" Scope: ")[0]
    return Operation(
        tag=operation["tags"][0],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        words=words,
        scope=operation["security"][0]["key"][0],
        many=several[0]["maxItems"] if several else 0,
        fields=tuple(_field(name, each, name in needed) for name, each in shape.get("properties", {}).items()),
        parameters=tuple(
            _field(each["name"], each["schema"] | each, each.get("required", False))
            for each in operation["parameters"]
            if each["in"] == "query"
        ),
    )


def _field(name: str, schema: dict[str, Any], needed: bool) -> Field:
    return Field(name, _kind(schema), needed, schema.get("description", ""))


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a word or two: "text", "list of text", "number or null"."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"]))
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema.get('items', {}))}"
        case "string":
            return {"date-time": "time", "date": "day"}.get(schema.get("format", ""), "text")
        case "boolean":
            return "true or false"
        case None:
            return "object"
        case kind:
            return str(kind)


def _resolve(whole: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = whole["components"]["schemas"][name] if name else schema
    return found
