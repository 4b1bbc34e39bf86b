"""Fixtures: the application on a database of the test's own, with two organisations that must not see each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.config import Settings
from app.models.user import Organisation, User
from app.passwords import hash_password
from app.runtime import Runtime
from web import create_app

PASSWORD = "water over the wheel"
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


class Visit:
    """A browser without a screen: it keeps cookies, and sends the token of the page that it saw last."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.token = ""

    def get(self, path: str, **options: Any) -> TestResponse:
        response = self.client.get(path, **options)
        if response.mimetype == "text/html" and (found := TOKEN.search(response.text)):
            self.token = found[1]
        return response

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        if not self.token:
            self.get("/login")
            self.get("/account")
        return self.client.post(path, data={"csrf_token": self.token, **(data or {})}, **options)

    def log_in(self, email: str, password: str = PASSWORD, **extra: str) -> TestResponse:
        self.get("/login")
        response = self.post("/login", {"email": email, "password": password, **extra})
        self.token = ""
        return response


@dataclass(frozen=True, slots=True)
class People:
    """Ann runs one organisation, Bob works in it; Eve runs another."""

    ann: int
    bob: int
    eve: int
    ours: int
    theirs: int


@pytest.fixture(scope="session")
def password_hash() -> str:
    return hash_password(PASSWORD)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(settings)
    yield opened
    opened.close()


@pytest.fixture
def app(runtime: Runtime) -> Flask:
    return create_app(runtime)


@pytest.fixture
def people(runtime: Runtime, password_hash: str) -> People:
    with runtime.db.session() as session:
        ours, theirs = Organisation(name="Ours"), Organisation(name="Theirs")
        session.add_all([ours, theirs])
        session.flush()
        users = [
            User(organisation_id=home.id, email=f"{name}@example.com", name=name.title(), role=role)
            for home, name, role in ((ours, "ann", "admin"), (ours, "bob", "marketer"), (theirs, "eve", "admin"))
        ]
        for user in users:
            user.password_hash = password_hash
        session.add_all(users)
        session.flush()
        return People(*(user.id for user in users), ours.id, theirs.id)


@pytest.fixture
def stranger(app: Flask, people: People) -> Visit:
    """Somebody who is not logged in."""
    return Visit(app.test_client())


@pytest.fixture
def ann(app: Flask, people: People) -> Visit:
    """An admin, logged in."""
    return _logged_in(app, "ann@example.com")


@pytest.fixture
def bob(app: Flask, people: People) -> Visit:
    """A marketer of the same organisation, logged in."""
    return _logged_in(app, "bob@example.com")


@pytest.fixture
def eve(app: Flask, people: People) -> Visit:
    """An admin of another organisation, logged in."""
    return _logged_in(app, "eve@example.com")


def _logged_in(app: Flask, email: str) -> Visit:
    visit = Visit(app.test_client())
    assert visit.log_in(email).status_code == 302
    return visit
