"""The embedded servers: what they promise to tests and to `make up`."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
import pytest
import redis


@pytest.mark.editions
def test_every_test_gets_a_migrated_database_with_timescaledb(database_url: str, edition: str) -> None:
    with psycopg.connect(database_url) as connection:
        licence = connection.execute("SHOW timescaledb.license").fetchone()
        tables = connection.execute("SELECT count(*) FROM campaign").fetchone()
    assert licence == ({"apache": "apache", "community": "timescale"}[edition],)
    assert tables == (0,)


def test_the_embedded_valkey_refuses_who_does_not_know_its_password(redis_url: str) -> None:
    port = urlsplit(redis_url).port
    with redis.Redis(port=port or 0, password="guessed") as client, pytest.raises(redis.AuthenticationError):
        client.ping()
