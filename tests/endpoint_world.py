"""A world with endpoints that hear of it: a runtime that may post to this machine, and time that passes for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from app.flows import endpoints, tell_endpoints
from app.flows.endpoints import Entry
from app.mail import Kind
from app.models import endpoint, endpoint_post, event
from app.models.event import Fact, Source
from app.runtime import Runtime
from tests.endpoint_readers import Reader
from tests.world import World

__all__ = ["add", "happen", "kept", "line", "pass_time", "posts", "source", "tell", "told"]


def add(runtime: Runtime, built: World, reader: Reader, name: str = "Warehouse", **more: Any) -> int:
    """An endpoint at the reader; its number. The reader verifies what it is told from now on."""
    added = endpoints.add(runtime, built.organisation_id, Entry(name, reader.url, **more))
    reader.secret = added.secret
    return added.id


def source(built: World) -> Source:
    """Events of the world's campaign."""
    return Source(built.organisation_id, built.user_id, built.campaign_id, built.pool_id)


def happen(runtime: Runtime, built: World, leads: int = 1, kind: Kind = Kind.SENT, **detail: str) -> None:
    """One event each of so many leads, from number 1 on."""
    facts = [Fact(number, 0, kind, detail or None) for number in range(1, leads + 1)]
    with runtime.db.begin() as conn:
        event.append(conn, source(built), facts)


def tell(runtime: Runtime) -> int:
    """Tell what is due; how many posts were taken."""
    return tell_endpoints.tell_due(runtime)


def pass_time(runtime: Runtime, seconds: float, *, ageing: bool = False) -> None:
    """So much time has passed for endpoints and their posts. `ageing`: since they were made, too, which is told."""
    columns = {
        "endpoint_post": ("since", "due_at", "trying_until", *(["created_at"] if ageing else [])),
        "endpoint": ("failing_since", "resume_at", "old_until", "disabled_at"),
    }
    with runtime.db.begin() as conn:
        for table, names in columns.items():
            changes = ", ".join(f"{name} = {name} - make_interval(secs => :s)" for name in names)
            conn.execute(text(f"UPDATE {table} SET {changes}"), {"s": seconds})


def line(runtime: Runtime, endpoint_id: int) -> endpoint.Line:
    """The endpoint as lists show it."""
    return endpoints.find(runtime, None, endpoint_id)


def posts(runtime: Runtime, endpoint_id: int) -> list[endpoint_post.Line]:
    """Its posts, the newest first."""
    with runtime.db.begin() as conn:
        return endpoint_post.find_page(conn, endpoint_id, None, 1000)


def kept(runtime: Runtime) -> int:
    """Rows of news that wait."""
    with runtime.db.begin() as conn:
        return int(conn.execute(text("SELECT count(*) FROM news")).scalar_one())


def told(reader: Reader) -> list[tuple[str, int]]:
    """(type, lead) of all events that it took."""
    return [(event["type"], event["lead"]["id"]) for event in reader.events]
