"""Promises of a pool's page: a receiver's connections are set as typed; what nobody knows is shown to admins alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.flows import pools
from app.models import limit, unread
from app.models.limit import Limit
from app.models.webhook import Post
from app.providers.unread import unread as unread_event
from app.runtime import Runtime
from tests.web.conftest import People, Visit
from tests.web.test_campaigns import words

URL = "smtp://mail.example.com:25?tls=none&connections=9"


@pytest.fixture
def pool_id(runtime: Runtime, people: People) -> int:
    return pools.add_pool(runtime, people.ours, "Own server", URL)


def kept(runtime: Runtime, pool_id: int) -> list[Limit]:
    with runtime.db.begin() as conn:
        return limit.list_limits(conn, pool_id)


def typed(connections: str, messages: str, receiver: str = "Yahoo and AOL") -> dict[str, str]:
    columns = {"receiver": receiver, "per_second": "", "burst": "", "per_day": ""}
    row = columns | {"connections": connections, "messages": messages}
    return {"per_second-0": "", "per_day-0": "", **{f"{name}-1": value for name, value in row.items()}}


def test_a_receivers_connections_are_set_as_they_are_typed(ann: Visit, runtime: Runtime, pool_id: int) -> None:
    assert ann.post(f"/pools/{pool_id}/limits", typed("2", "20")).status_code == 302
    assert kept(runtime, pool_id) == [Limit("yahoo", None, 1, None, 2, 20)]
    page = words(ann.get(f"/pools/{pool_id}").text)
    assert "Yahoo and AOL – – – 2 20" in page and "0 of 9 connections are open now" in page
    assert 'name="connections-1" value="2"' in ann.get(f"/pools/{pool_id}/limits").text
    assert ann.post(f"/pools/{pool_id}/limits", typed("", "")).status_code == 422  # a receiver, and nothing about it
    assert ann.post(f"/pools/{pool_id}/limits", typed("", "", "")).status_code == 302
    assert kept(runtime, pool_id) == []


@pytest.mark.parametrize(("connections", "messages"), [("0", ""), ("101", ""), ("x", ""), ("", "0"), ("", "100001")])
def test_a_faulty_number_of_connections_changes_nothing(
    ann: Visit, runtime: Runtime, pool_id: int, connections: str, messages: str
) -> None:
    response = ann.post(f"/pools/{pool_id}/limits", typed(connections, messages))
    assert response.status_code == 422
    assert ("fault-connections-1" in response.text) == bool(connections)
    assert ("fault-messages-1" in response.text) == bool(messages)
    assert kept(runtime, pool_id) == []


def test_connections_are_offered_where_there_are_any(ann: Visit, runtime: Runtime, people: People) -> None:
    other = pools.add_pool(runtime, people.ours, "Sink", "sink+http://127.0.0.1:9")
    for path in (f"/pools/{other}", f"/pools/{other}/limits"):
        assert "Connections" not in ann.get(path).text


def test_what_nobody_knows_is_shown_and_forgotten_by_its_own_admins(
    ann: Visit, bob: Visit, eve: Visit, runtime: Runtime, pool_id: int
) -> None:
    now = datetime.now(UTC)
    strange = unread_event("<b>reacted</b>", {"note": "<script>alert(1)</script>"}, lambda _: now)
    with runtime.db.begin() as conn:
        conn.execute(text("SELECT keep_webhook_days(8)"))
        unread.note(conn, pool_id, [], [(Post(1, now, "", b""), strange)])
    page = ann.get(f"/pools/{pool_id}").text
    assert "&lt;b&gt;reacted&lt;/b&gt;" in page and "<script>alert" not in page and "1 event," in page
    forget = {"type": "<b>reacted</b>"}
    assert eve.post(f"/pools/{pool_id}/unread", forget).status_code == 404
    assert bob.post(f"/pools/{pool_id}/unread", forget).status_code == 403
    assert "reacted" in ann.get(f"/pools/{pool_id}").text
    ann.post(f"/pools/{pool_id}/unread", {"type": "\0"})
    assert ann.post(f"/pools/{pool_id}/unread", forget).status_code == 302
    assert "reacted" not in ann.get(f"/pools/{pool_id}").text
