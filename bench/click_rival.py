"""The rival of our clicks: the same web process, the same redirect, and an INSERT that is committed before it."""

from __future__ import annotations

import os

import psycopg
from flask import Flask
from psycopg_pool import ConnectionPool

from app import config
from app.flows.take_hit import Door
from app.runtime import Runtime
from web import create_app
from web.tracking import Tracking

INSERT = "INSERT INTO hit (at, lead_id, campaign_id, position, machine) VALUES (now(), %s, %s, %s, %s)"


class InsertingDoor(Door):
    """Writes each hit before it is answered, on one of sixteen connections: one a thread."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.pool: ConnectionPool[psycopg.Connection[tuple[object, ...]]] = ConnectionPool(
            runtime.settings.database_url, min_size=16, max_size=16, kwargs={"autocommit": True}, open=True
        )

    def _note(self, campaign_id: int, lead_id: int, position: int, machine: str | None) -> None:
        with self.pool.connection() as conn:
            conn.execute(INSERT, [lead_id, campaign_id, position, machine], prepare=True)


def create_rival() -> Flask:
    """Our application with that door."""
    runtime = Runtime(config.read(os.environ), name="millrace rival")
    app = create_app(runtime)
    door = app.wsgi_app
    assert isinstance(door, Tracking)
    door.door = InsertingDoor(runtime)
    return app
