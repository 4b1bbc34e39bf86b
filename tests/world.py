"""A small world to test sending in: an organisation, leads, a pool, a sender, a campaign; put in by plain SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from app.db import Database
from app.models import lead
from app.models.field import load_fields
from app.models.template import compile_content
from app.signing import Vault

HTML = (
    '<p>Hello {{ lead.first_name | default: "friend" }}, {% if lead.plan == "pro" %}pro{% else %}free{% endif %}.</p>'
    '<p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
)
SUBJECT = "News for {{ lead.first_name }}"
ATTRIBUTES = {"first_name": "text", "plan": "text", "age": "number"}


@dataclass(frozen=True, slots=True)
class World:
    """Ids of what was put in."""

    organisation_id: int
    user_id: int
    pool_id: int
    sender_id: int
    campaign_id: int


def merge(conn: Connection, organisation_id: int, lines: Iterable[str]) -> lead.Merged:
    """Leads merged as an import does, from COPY's lines."""
    lead.stage(conn, lines)
    return lead.merge(conn, organisation_id)


def insert(conn: Connection, table: str, **values: Any) -> int:
    """Insert one row; its id."""
    columns = ", ".join(f'"{name}"' for name in values)
    places = ", ".join(f":{name}" for name in values)
    wrapped = {name: Jsonb(value) if isinstance(value, dict | list) else value for name, value in values.items()}
    return int(
        conn.execute(text(f'INSERT INTO "{table}" ({columns}) VALUES ({places}) RETURNING id'), wrapped).scalar_one()
    )


def build(
    database: Database,
    *,
    secret_key: str,
    leads: int = 0,
    provider_url: str = "sink+http://127.0.0.1:9",
    batch: int = 50,
    name: str = "First",
    state: str = "draft",
) -> World:
    """An organisation with everything that a launch needs, and a draft campaign to all of its leads."""
    with database.begin() as conn:
        organisation_id = insert(conn, "organisation", name=name)
        user_id = insert(
            conn,
            "user",
            organisation_id=organisation_id,
            email=f"owner{organisation_id}@example.com",
            name="Owner",
            password_hash="!",
        )
        for attribute, kind in ATTRIBUTES.items():
            conn.execute(
                text("INSERT INTO attribute (organisation_id, name, type) VALUES (:o, :n, :t)"),
                {"o": organisation_id, "n": attribute, "t": kind},
            )
        pool_id = insert(
            conn,
            "pool",
            organisation_id=organisation_id,
            name="Pool",
            provider=provider_url.partition(":")[0].partition("+")[0],
            url=Vault(secret_key).encrypt(provider_url),
            shown_url=provider_url,
            batch=batch,
        )
        sender_id = insert(
            conn,
            "sender",
            organisation_id=organisation_id,
            pool_id=pool_id,
            name="Sender",
            address="news@example.com",
        )
        campaign_id = add_campaign(conn, organisation_id, user_id, sender_id, state=state)
        add_leads(conn, organisation_id, leads)
    return World(organisation_id, user_id, pool_id, sender_id, campaign_id)


def add_campaign(
    conn: Connection, organisation_id: int, user_id: int, sender_id: int, *, state: str = "draft", html: str = HTML
) -> int:
    """A campaign with compiled content."""
    campaign_id = insert(
        conn,
        "campaign",
        organisation_id=organisation_id,
        owner_id=user_id,
        sender_id=sender_id,
        name="Campaign",
        state=state,
    )
    compiled = compile_content(SUBJECT, html, "", load_fields(conn, organisation_id)).to_json()
    conn.execute(
        text("INSERT INTO content (campaign_id, subject, html, compiled) VALUES (:c, :s, :h, :compiled)"),
        {"c": campaign_id, "s": SUBJECT, "h": html, "compiled": Jsonb(compiled)},
    )
    return campaign_id


def add_leads(conn: Connection, organisation_id: int, leads: int, *, domains: int = 5) -> None:
    """Leads lead1@mail1.example.com …; every third has no first name, every second is "pro"."""
    conn.execute(
        text(
            "INSERT INTO domain (name)"
            " SELECT format('mail%s.example.com', n) FROM generate_series(0, :domains - 1) AS n"
            " ON CONFLICT DO NOTHING"
        ),
        {"domains": domains},
    )
    conn.execute(
        text(
            """
            INSERT INTO lead (organisation_id, domain_id, email, attributes)
            SELECT :organisation_id, domain.id, format('lead%s@%s', n, domain.name),
                   jsonb_build_object('plan', CASE WHEN n % 2 = 0 THEN 'pro' ELSE 'free' END, 'age', 18 + n % 60)
                   || CASE WHEN n % 3 = 0 THEN '{}' ELSE jsonb_build_object('first_name', format('Name%s', n)) END
              FROM generate_series(1, :leads) AS n
              JOIN domain ON domain.name = format('mail%s.example.com', n % :domains)
             ORDER BY n
            """
        ),
        {"organisation_id": organisation_id, "leads": leads, "domains": domains},
    )


def add_range(conn: Connection, campaign_id: int, lead_ids: list[int], **values: Any) -> int:
    """A waiting range, due now unless told otherwise."""
    values = {"run": 1, "due_in": 0} | values
    return int(
        conn.execute(
            text(
                "INSERT INTO outbox (campaign_id, run, due_at, size, first_lead, last_lead, lead_ids)"
                " VALUES (:campaign_id, :run, now() + make_interval(secs => :due_in), :size, :first, :last, :lead_ids)"
                " RETURNING id"
            ),
            {
                "campaign_id": campaign_id,
                "run": values["run"],
                "due_in": values["due_in"],
                "size": len(lead_ids),
                "first": min(lead_ids),
                "last": max(lead_ids),
                "lead_ids": lead_ids,
            },
        ).scalar_one()
    )


def row(conn: Connection, statement: str, **values: Any) -> Mapping[str, Any]:
    """The one row of a query."""
    return conn.execute(text(statement), values).mappings().one()
