"""A program that uses the API: it has a key, and sends JSON."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from app.flows import api_keys
from app.models.api_key import SCOPES
from app.runtime import Runtime
from tests.web.conftest import People

ROOT = "/api/v1"


class Program:
    """Calls the application as a program would, with one key."""

    def __init__(self, app: Flask, secret: str) -> None:
        self.client = app.test_client()
        self.headers = {"Authorization": f"Bearer {secret}"}

    def call(self, method: str, path: str, json: Any = None, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        options: dict[str, Any] = {} if json is None else {"json": json}
        return self.client.open(ROOT + path, method=method, headers={**self.headers, **named}, **options)

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.call("GET", path, **headers)

    def post(self, path: str, json: Any = None, **headers: str) -> TestResponse:
        return self.call("POST", path, json, **headers)

    def patch(self, path: str, json: Any, **headers: str) -> TestResponse:
        return self.call("PATCH", path, json, **headers)

    def delete(self, path: str, **headers: str) -> TestResponse:
        return self.call("DELETE", path, **headers)


def program(app: Flask, runtime: Runtime, people: People, *scopes: str, theirs: bool = False, **more: Any) -> Program:
    """A program with a key of ours (or theirs) that may do what `scopes` say, everything where none is given."""
    owner = (people.theirs, people.eve) if theirs else (people.ours, people.ann)
    return Program(app, api_keys.create(runtime, *owner, "Shop", scopes or tuple(SCOPES), **more).secret)


def faults(response: TestResponse) -> dict[str, str]:
    """place → what is wrong there."""
    assert response.status_code == 422, response.text
    assert response.mimetype == "application/problem+json"
    return {
        next(each[kind] for kind in ("pointer", "parameter", "header") if kind in each): each["detail"]
        for each in response.json["errors"]  # type: ignore[index]
    }
