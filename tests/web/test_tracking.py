"""Promises of the door for clicks and opens: answered from memory, led nowhere else, without cookie or session."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.config import Settings
from app.flows import take_hit
from app.runtime import Runtime
from tests.conftest import SECRET_KEY
from tests.peers import Peer
from tests.servers import Servers
from tests.test_track import House, build
from web.tracking import Tracking

PERSON = {"User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"}
TARGET = "https://shop.example.com/a?x=1&y=2"


@pytest.fixture
def house(runtime: Runtime, peer: Peer) -> House:
    return build(runtime, peer)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client(use_cookies=False)


def door(app: Flask) -> take_hit.Door:
    assert isinstance(app.wsgi_app, Tracking)
    return app.wsgi_app.door


def kept(app: Flask, house: House) -> list[tuple[object, ...]]:
    door(app).drain()
    return house.rows("SELECT position, machine FROM hit ORDER BY at")


def test_a_click_is_led_to_the_link_and_nobody_else_learns_of_it(app: Flask, client: FlaskClient, house: House) -> None:
    response = client.get(f"/t/{house.token(0)}/1", headers=PERSON)
    assert (response.status_code, response.headers["Location"]) == (302, TARGET)
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in response.headers["Cache-Control"]
    assert "noindex" in response.headers["X-Robots-Tag"]
    assert "Set-Cookie" not in response.headers
    assert kept(app, house) == [(1, None)]


def test_a_head_is_answered_like_a_get_and_is_no_person(app: Flask, client: FlaskClient, house: House) -> None:
    response = client.head(f"/t/{house.token(0)}/1", headers=PERSON)
    assert (response.status_code, response.headers["Location"], response.data) == (302, TARGET, b"")
    assert kept(app, house) == [(1, "head")]


def test_the_pixel_is_a_picture_that_nobody_keeps(app: Flask, client: FlaskClient, house: House) -> None:
    response = client.get(f"/o/{house.token(0)}.gif", headers=PERSON)
    assert (response.status_code, response.mimetype, response.data[:3]) == (200, "image/gif", b"GIF")
    assert "no-store" in response.headers["Cache-Control"]
    assert kept(app, house) == [(0, None)]


def test_nothing_that_is_asked_for_leads_elsewhere(app: Flask, client: FlaskClient, house: House) -> None:
    token = house.token(0)
    assert client.get(f"/t/{token}/1?to=https://evil.example", headers=PERSON).headers["Location"] == TARGET
    for path in (
        f"/t/{token}/9",
        f"/t/{token}/1/",
        f"/t/{token}/01x",
        f"/t/{token}/https://evil.example",
        f"/t/{token[:-1]}{'A' if token[-1] != 'A' else 'B'}/1",
        f"/t/{house.runtime.signer.unsubscribe_token(house.lead_ids[0], house.campaign_id)[:28]}/1",
        "/t/",
        "/o/x.gif",
        f"/o/{token}.png",
    ):
        response = client.get(path, headers=PERSON)
        assert response.status_code == 404, path
        assert "Location" not in response.headers
    assert client.post(f"/t/{token}/1").status_code == 405
    assert kept(app, house) == [(1, None)]


def test_a_link_that_nobody_can_see_leads_nowhere(app: Flask, client: FlaskClient, house: House) -> None:
    response = client.get(f"/t/{house.token(0)}/0", headers=PERSON)
    assert (response.status_code, response.data) == (204, b"")
    assert kept(app, house) == [(-1, None)]


@contextmanager
def database_away(servers: Servers, settings: Settings) -> Iterator[None]:
    """Nobody can reach the test's own database; the server goes on for the others."""
    name = settings.database_url.rpartition("/")[2].partition("?")[0]

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        return servers.postgres("apache").postgres.connect()

    with connect() as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    try:
        yield
    finally:
        with connect() as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def test_while_the_database_is_away_clicks_are_led_on_at_once_and_nothing_is_lost(
    app: Flask, client: FlaskClient, house: House, servers: Servers, settings: Settings
) -> None:
    path = f"/t/{house.token(0)}/1"
    assert client.get(path, headers=PERSON).status_code == 302
    door(app).drain()
    with database_away(servers, settings):
        began = time.monotonic()
        assert {client.get(path, headers=PERSON).status_code for _ in range(200)} == {302}
        assert time.monotonic() - began < 2
        time.sleep(0.5)
    door(app).drain(30)
    assert house.rows("SELECT count(*) FROM hit") == [(201,)]


def test_what_does_not_fit_is_dropped_and_counted_and_the_reader_led_on(
    app: Flask, client: FlaskClient, house: House, servers: Servers, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/t/{house.token(0)}/1"
    client.get(path, headers=PERSON)
    door(app).drain()
    monkeypatch.setattr(take_hit, "MOST_WAITING", 50)
    with database_away(servers, settings):
        assert {client.get(path, headers=PERSON).status_code for _ in range(300)} == {302}
    door(app).drain(30)
    kept_ones = int(str(house.rows("SELECT count(*) FROM hit")[0][0]))
    assert door(app).dropped > 0
    assert kept_ones + door(app).dropped == 301


def test_a_web_process_that_must_end_writes_every_click_that_it_answered(house: House, settings: Settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "SECRET_KEY": SECRET_KEY}
    command = ["gunicorn", "web:create_app()", "--worker-class", "gthread", "--threads", "8", "--bind"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, f"127.0.0.1:{port}", "--graceful-timeout", "5", "--log-level", "warning"],
        env=os.environ | variables,
    )
    answered = 0
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=PERSON) as client:
            wait_for(client)
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                answered += client.get(f"/t/{house.token(answered % 5)}/1").status_code == 302
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
    assert answered > 50
    assert house.rows("SELECT count(*) FROM hit") == [(answered,)]


def wait_for(client: httpx.Client) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            client.get("/healthz").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail("the web process did not start")


def test_a_lead_who_is_not_tracked_is_nobody_in_the_links_of_their_emails(
    app: Flask, client: FlaskClient, house: House
) -> None:
    nobody = house.runtime.tracking.signer(house.campaign_id)(0)
    assert client.get(f"/t/{nobody}/1", headers=PERSON).headers["Location"] == TARGET
    assert client.get(f"/o/{nobody}.gif", headers=PERSON).status_code == 200
    assert kept(app, house) == []
