"""The rival of our API: a row for each message and a Dramatiq message for each row, as task queues are used."""

from __future__ import annotations

import os

import dramatiq
import psycopg
from dramatiq.brokers.redis import RedisBroker
from flask import Flask, Response, request
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

TABLE = """
CREATE TABLE IF NOT EXISTS rival_message (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL DEFAULT 'queued',
    address text NOT NULL, template text NOT NULL, data jsonb NOT NULL, metadata jsonb, sent_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS rival_message_status ON rival_message (status);
CREATE INDEX IF NOT EXISTS rival_message_address ON rival_message (address)
"""
INSERT = "INSERT INTO rival_message (address, template, data, metadata) VALUES (%s, %s, %s, %s) RETURNING id"


def create_rival() -> Flask:
    """An application with one route, that checks nothing but what is there."""
    lines: ConnectionPool[psycopg.Connection[tuple[object, ...]]] = ConnectionPool(
        os.environ["DATABASE_URL"], min_size=16, max_size=16, open=True
    )
    broker = RedisBroker(url=os.environ["REDIS_URL"], middleware=[])  # type: ignore[no-untyped-call]

    @dramatiq.actor(broker=broker, queue_name="rival")
    def send(message_id: int) -> None:
        """Never run: nobody consumes the queue."""

    application = Flask(__name__)

    @application.get("/healthz")
    def healthz() -> Response:
        return Response("ok")

    @application.post("/api/v1/messages")
    def take() -> Response:
        body = request.get_json()
        ids = []
        with lines.connection() as conn:
            for each in body if isinstance(body, list) else [body]:
                values = [each["to"], each["template"], Jsonb(each["data"]), Jsonb(each.get("metadata"))]
                row = conn.execute(INSERT, values, prepare=True).fetchone()
                assert row is not None
                ids.append(int(str(row[0])))
        for message_id in ids:
            send.send(message_id)
        return Response(f'{{"ids": {ids}}}', 202, content_type="application/json")

    return application
