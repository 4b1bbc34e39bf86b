"""What the benchmarks that send have in common: a process's runtime on their server, and a campaign to launch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
from psycopg.types.json import Jsonb

from app import config
from app.models import template
from app.models.field import load_fields
from app.runtime import Runtime
from bench import letter
from bench.harness import Server
from bench.prefill import Connection, Tenant, insert_one


def environment(house: Server, **more: str) -> dict[str, str]:
    """The variables that Millrace's processes read, for `house`; `more` are set on top."""
    redis_url = house.redis_url or "redis://127.0.0.1:1/0"  # a benchmark without bells never asks for it
    ours = {"DATABASE_URL": house.database_url, "REDIS_URL": redis_url, "SECRET_KEY": "bench" * 8}
    return ours | {"MILLRACE_HOME": str(house.folder), "MILLRACE_LOG_LEVEL": "WARNING"} | more


@contextmanager
def runtime(house: Server, **more: str) -> Iterator[Runtime]:
    """What a process of Millrace holds open, for a benchmark that calls its flows directly."""
    held = Runtime(config.read(environment(house, **more)), name="bench")
    try:
        yield held
    finally:
        held.close()


def create_campaign(runtime: Runtime, tenant: Tenant, provider_url: str, condition: Mapping[str, object]) -> int:
    """A draft campaign with the benchmarks' letter, to the leads that match `condition`, through `provider_url`."""
    compiled = compile_letter(runtime, tenant)
    with psycopg.connect(runtime.settings.database_url) as conn:
        pool_id = _pool(conn, tenant, provider_url, runtime.vault.encrypt(provider_url))
        names = {"organisation_id": tenant.organisation_id, "pool_id": pool_id}
        sender_id = insert_one(
            conn,
            "sender",
            names | {"name": "The Weekend Walker", "address": f"walker{pool_id}@news.example.com"},
        )
        segment = {
            "organisation_id": tenant.organisation_id,
            "name": f"Segment {pool_id}",
            "condition": Jsonb(condition),
        }
        campaign = {
            "organisation_id": tenant.organisation_id,
            "owner_id": tenant.user_id,
            "sender_id": sender_id,
            "segment_id": insert_one(conn, "segment", segment),
            "name": "Autumn routes",
        }
        campaign_id = insert_one(conn, "campaign", campaign)
        conn.execute(
            "INSERT INTO content (campaign_id, subject, html, text, compiled) VALUES (%s, %s, %s, %s, %s)",
            [campaign_id, letter.SUBJECT, letter.HTML, letter.TEXT, Jsonb(compiled.to_json())],
        )
    return campaign_id


def compile_letter(runtime: Runtime, tenant: Tenant) -> template.Compiled:
    """The letter as it is compiled when a campaign is saved."""
    with runtime.db.begin() as conn:
        fields = load_fields(conn, tenant.organisation_id)
    return template.compile_content(letter.SUBJECT, letter.HTML, letter.TEXT, fields)


def _pool(conn: Connection, tenant: Tenant, shown_url: str, url: bytes) -> int:
    count = conn.execute("SELECT count(*) FROM pool").fetchone()
    pool = {"name": f"Pool {count}", "provider": "sink", "url": url, "shown_url": shown_url}
    return insert_one(conn, "pool", pool | {"organisation_id": tenant.organisation_id})
