"""Streams: what messages are sent as. Each is a campaign of its own kind, always sending, one a template and sender."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from app.db import Statements, array, fetch
from app.errors import NotFound

SQL = Statements("stream")
OWN: Final = 0  # the template of messages that bring their own subject and body


class Kind(NamedTuple):
    """What tells streams of an organisation apart."""

    template_id: int
    sender_id: int


@dataclass(frozen=True, slots=True)
class Template:
    """A template as whoever asks for a message names it; `sender_id` is of messages that name none."""

    id: int
    sender_id: int | None
    transactional: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What messages name: templates, senders' addresses in small letters, domains of who gets them; how many numbers
    they need.
    """

    numbers: int
    templates: Collection[str]
    addresses: Collection[str]
    domains: Collection[str]


@dataclass(frozen=True, slots=True)
class Known:
    """What there is of it, and the database's time. Names, addresses and domains are in small letters.

    `numbers` are no other message's; they may be lost again. Of senders that share an address it is the oldest.
    `only_sender`: of who has one alone. `marketing_alone`: senders without a pool that may carry what is transactional.
    `streams` are those of the templates, and of messages without one.
    """

    now: datetime
    numbers: list[int]
    templates: Mapping[str, Template]
    senders: Mapping[str, int]
    only_sender: int | None
    marketing_alone: Collection[int]
    streams: Mapping[Kind, int]
    domains: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StreamLine:
    """A stream as lists show it; `id` is its campaign's. `template_id`: OWN where messages bring their content."""

    id: int
    name: str
    purpose: str
    sender: str
    address: str
    launched_at: datetime
    template_id: int


def list_streams(conn: Connection, organisation_id: int, limit: int = 500) -> list[StreamLine]:
    """An organisation's streams, by name."""
    values = {"organisation_id": organisation_id, "campaign_id": None, "limit": limit}
    return [StreamLine(**row._mapping) for row in conn.execute(SQL.list_streams, values)]


def find_line(conn: Connection, organisation_id: int, campaign_id: int) -> StreamLine:
    """One stream. Raises NotFound."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id, "limit": 1}
    row = conn.execute(SQL.list_streams, values).one_or_none()
    if row is None:
        raise NotFound("There is no such stream of messages.")
    return StreamLine(**row._mapping)


def exists(conn: Connection, organisation_id: int, campaign_id: int) -> bool:
    """Whether a campaign of this organisation is a stream."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id}
    return bool(conn.execute(SQL.exists, values).scalar_one())


def count_quarantined(conn: Connection, campaign_id: int) -> int:
    """Messages that wait for a person, since workers died on their ranges."""
    return int(conn.execute(SQL.count_quarantined, {"campaign_id": campaign_id}).scalar_one())


def look_up(conn: Connection, organisation_id: int, wanted: Wanted) -> Known:
    """What is known for messages that are asked for, as it is now; and so many numbers for their ids."""
    values: dict[str, object] = {"organisation_id": organisation_id, "count": wanted.numbers}
    values |= {"names": sorted({name.lower() for name in wanted.templates})}
    values |= {"addresses": sorted(wanted.addresses), "domains": sorted(wanted.domains)}
    (row,) = fetch(conn, SQL.look_up, values)
    now, numbers, templates, senders, only_sender, marketing_alone, streams, domains = row
    return Known(
        now,
        numbers,
        {name: Template(*more) for name, *more in templates or ()},
        dict(senders or ()),
        only_sender,
        frozenset(marketing_alone or ()),
        {Kind(template_id, sender_id): campaign_id for template_id, sender_id, campaign_id in streams or ()},
        dict(domains or ()),
    )


def find_or_open(
    conn: Connection, organisation_id: int, owner_id: int, wanted: Collection[Kind], own: Mapping[str, Any]
) -> dict[Kind, int]:
    """The streams that are wanted, each with its campaign; those that there are none of yet are opened.

    `own` is the compiled content of streams without a template.
    """
    found = _find(conn, organisation_id, wanted)
    if len(found) < len(set(wanted)):
        conn.execute(SQL.lock, {"organisation_id": organisation_id})
        found = _find(conn, organisation_id, wanted)
        for kind in sorted(set(wanted) - found.keys()):
            values = {"organisation_id": organisation_id, "owner_id": owner_id, "own": Jsonb(own)} | kind._asdict()
            conn.execute(SQL.hold_template, {"template_id": kind.template_id})
            found[kind] = int(conn.execute(SQL.open, values).scalar_one())
    return found


def _find(conn: Connection, organisation_id: int, wanted: Collection[Kind]) -> dict[Kind, int]:
    kinds = sorted(set(wanted))
    values = {
        "organisation_id": organisation_id,
        "template_ids": array(kind.template_id for kind in kinds),
        "sender_ids": array(kind.sender_id for kind in kinds),
    }
    return {Kind(row.template_id, row.sender_id): row.campaign_id for row in conn.execute(SQL.find, values)}
