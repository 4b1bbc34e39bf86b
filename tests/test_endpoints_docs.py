"""Promises of docs/endpoints.md: its examples verify real posts, its body and real ones are of its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from app.config import Settings
from app.flows import endpoints
from app.mail import Kind
from app.models import event
from app.models.event import Fact
from app.runtime import Runtime
from tests import world
from tests.endpoint_readers import Reader, reading
from tests.endpoint_world import add, source, tell
from tests.world import World

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = json.loads((DOCS / "endpoint.schema.json").read_text())
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (DOCS / "endpoints.md").read_text(), re.DOTALL)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(replace(settings, private_providers=frozenset({"127.0.0.1"})))
    yield opened
    opened.close()


@pytest.fixture
def built(runtime: Runtime) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=1)


@pytest.fixture
def reader() -> Iterator[Reader]:
    with reading() as reader:
        yield reader


@pytest.fixture
def docs() -> dict[str, Any]:
    """What the examples define."""
    names: dict[str, Any] = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(block, names)  # noqa: S102 - our own page
    return names


def valid(post: object) -> None:
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(post)


def everything(runtime: Runtime, built: World) -> None:
    """An event of every kind, with and without details, and one that is taken back."""
    details: list[dict[str, object] | None] = [
        None,
        {"bounce": "soft", "reason": "later"},
        {"url": "https://example.com/", "from": "sender"},
    ]
    facts = [Fact(1, 1, kind, detail) for kind in Kind for detail in details]
    with runtime.db.begin() as conn:
        event.append(conn, source(built), [*facts, Fact(1, 0, Kind.UNKNOWN, None, -1)])


def test_every_post_is_of_the_schema(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader, with_email=True)
    everything(runtime, built)
    tell(runtime)
    endpoints.send_test(runtime, built.organisation_id, endpoint_id)
    assert len(reader.events) == 3 * len(Kind) + 1
    for post in reader.taken:
        valid(post)


def test_the_schema_names_exactly_what_is_told(runtime: Runtime, built: World, reader: Reader) -> None:
    add(runtime, built, reader, with_email=True)
    everything(runtime, built)
    tell(runtime)
    named = SCHEMA["$defs"]["event"]
    assert set(named["properties"]["type"]["enum"]) == set(Kind)
    for each in reader.events:
        assert set(each) == set(named["properties"]) == set(named["required"])
        assert set(each["lead"]) == set(named["properties"]["lead"]["properties"])


def test_the_pages_body_is_of_the_schema() -> None:
    (body,) = [block for language, block in BLOCKS if language == "json"]
    valid(json.loads(body))


def test_the_examples_verify_a_post_once_and_refuse_a_forged_one(
    runtime: Runtime, built: World, reader: Reader, docs: dict[str, Any]
) -> None:
    add(runtime, built, reader)
    everything(runtime, built)
    tell(runtime)
    ((headers, body),) = reader.tries
    seen: set[str] = set()
    assert docs["receive"](headers, body, reader.secret, seen) == (200, reader.events)
    assert docs["receive"](headers, body, reader.secret, seen) == (200, [])
    assert docs["receive"](headers, body.replace(b"sent", b"sunk"), reader.secret, set()) == (401, [])
    assert docs["is_genuine"](headers, body, reader.secret)
    assert not docs["is_genuine"](headers, body + b" ", reader.secret)
    assert not docs["is_genuine"](headers | {"webhook-timestamp": "1700000000"}, body, reader.secret)
